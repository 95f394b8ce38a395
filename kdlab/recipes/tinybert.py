"""TinyBERT: Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu 2020 (arXiv 1909.10351), a thinner and shallower BERT.

Section 3, Transformer distillation. Student layer m learns from teacher layer n = g(m), with 0 standing for
the embeddings and M + 1 for the prediction (equation 6: all summed, every weight 1):

    eq. 7   L_attn = 1/h sum_i MSE(A_i^S, A_i^T)    attention scores before the softmax, head by head
    eq. 8   L_hidn = MSE(H^S W_h, H^T)              hidden states, through a learned projection
    eq. 9   L_embd = MSE(E^S W_e, E^T)              the embeddings' output
    eq. 10  L_pred = CE(z^T / t, z^S / t)           soft targets, t = 1 (we take KL: the same gradient)
    eq. 11  L_layer = L_embd for m = 0, L_hidn + L_attn for 1..M, L_pred for M + 1

And two stages. General distillation: from the pretrained teacher on plain text, without L_pred. Task
distillation, on augmented data (`kdlab.data.augmentation`), from the fine-tuned teacher, in two steps: first the
intermediate layers, then the prediction. The student has its own width, and the teacher's number of heads.

The released code differs from the paper: one projection with bias serves embeddings and all layers; padding
counts in its means; its prediction loss is also divided by the number of classes; and its teacher never leaves
training mode, so dropout blurs the targets. We follow the paper, over real tokens, with the teacher in eval mode.

Also ours: the student has no dropout; in a regression it follows the teacher, where the released code reads gold
labels; one W_h serves all layers; both steps of task distillation have one learning rate; augmentation masks a word
without showing the original sentence beside it, and has no rule for stop words.

Departure at miniature size, for its reason: learning rates of 1e-3 and more, since 5e-5 is for a 312-wide student and
tens of thousands of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel

from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import new_classifier
from ..models.layer_map import LayerMap, uniform
from ..terms import AttentionScores, HiddenStates, Objective, SoftTargets, Term

PARTS = ("embedding", "hidden", "attention")


def new_student(task: Task, teacher: PreTrainedModel, layers: int = 2, width: int = 64,
                seed: int = 0) -> PreTrainedModel:
    """A BERT of `layers` x `width` with the teacher's number of heads, each narrower than there."""
    return new_classifier(task.tokenizer, task.label_names, layers, width, teacher.config.num_attention_heads,
                          dropout=0.0, seed=seed)


def intermediate(student: PreTrainedModel, teacher: PreTrainedModel, layers: LayerMap | None = None,
                 parts: tuple[str, ...] = PARTS, seed: int = 0) -> Objective:
    """Equations 7 to 9 over a layer map, uniform unless given; `parts` names which of them, for ablations."""
    ours, theirs = student.config, teacher.config
    layers = layers or uniform(ours.num_hidden_layers, theirs.num_hidden_layers)
    widths = ours.hidden_size, theirs.hidden_size
    terms: dict[str, Callable[[], Term]] = {
        "embedding": lambda: HiddenStates(((0, 0),), widths=widths, name="embeddings", seed=seed),
        "hidden": lambda: HiddenStates(layers, widths=widths, seed=seed + 1),
        "attention": lambda: AttentionScores(layers)}
    return Objective([terms[part]() for part in parts])


def general_stage(student: PreTrainedModel, teacher: PreTrainedModel, steps: int, objective: Objective | None = None,
                  **settings) -> Stage:
    """General distillation: the intermediate layers on plain, unmasked text; batches of 256."""
    paper = {"batch_size": 256, "learning_rate": 1e-4}
    return Stage(objective or intermediate(student, teacher), steps, name="general distillation", **paper | settings)


def task_stages(student: PreTrainedModel, teacher: PreTrainedModel, intermediate_steps: int, prediction_steps: int,
                objective: Objective | None = None, prediction: Term | None = None, **settings) -> list[Stage]:
    """Task distillation: the intermediate layers, then the prediction (equation 10)."""
    first = Stage(objective or intermediate(student, teacher), intermediate_steps, name="intermediate layers",
                  **{"batch_size": 32, "learning_rate": 5e-5, "warmup": 0.0, "decay": False} | settings)
    second = Stage(Objective([prediction or SoftTargets(T=1.0)]), prediction_steps, name="prediction",
                   **{"batch_size": 32, "learning_rate": 3e-5, "warmup": 0.1} | settings)
    return [stage for stage in (first, second) if stage.steps > 0]


def general(task: Task, teacher: PreTrainedModel, steps: int, student: PreTrainedModel | None = None,
            objective: Objective | None = None, seed: int = 0, learning_rate: float = 2e-3, batch_size: int = 64,
            **options) -> tuple[PreTrainedModel, Run]:
    """General distillation on the task's transfer split from the pretrained teacher. `options` go to `distill`."""
    student = new_student(task, teacher, seed=seed) if student is None else student
    stage = general_stage(student, teacher, steps, objective, learning_rate=learning_rate, batch_size=batch_size)
    return student, distill(student, teacher, task["transfer"], stage, seed=seed, **options)


def on_task(data: Dataset, student: PreTrainedModel, teacher: PreTrainedModel, intermediate_steps: int,
            prediction_steps: int, objective: Objective | None = None, prediction: Term | None = None, seed: int = 0,
            learning_rate: float = 1e-3, batch_size: int = 64, cache: str | Path | None = None, **options) -> Run:
    """Task distillation of `student`, in place, on (augmented) `data` from the fine-tuned teacher."""
    stages = task_stages(student, teacher, intermediate_steps, prediction_steps, objective, prediction,
                         learning_rate=learning_rate, batch_size=batch_size)
    return distill(student, teacher, data, stages, seed=seed, cache=cache, **options)
