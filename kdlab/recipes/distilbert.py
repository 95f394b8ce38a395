"""DistilBERT: Sanh, Debut, Chaumond, Wolf 2019 (arXiv 1910.01108), a smaller BERT for any task.

Section 2, the objective: three losses at once, on the same masked texts for teacher and student.

    L_ce    soft targets over the vocabulary, at temperature T for both models
    L_mlm   masked language modelling, as in BERT
    L_cos   cosine between the last hidden states, to align their directions

Section 3, the student: half the layers; no token-type embeddings, no pooler; it starts from one teacher layer
out of two (`kdlab.models.layer_dropping`). It is distilled on plain text, before any task is known ("task-agnostic"),
and then fine-tuned on a task as a BERT would be, with or without a second distillation (section 4, SQuAD).

The paper prints no weights and no temperature. Those below are of the released code's command for one GPU
(huggingface/transformers-research-projects, distillation/): 5, 2, 1 and T = 2; its command for four GPUs weighs
the three alike. From the code come also: soft targets over all real tokens, not the masked ones alone; masked
words drawn with odds count^-0.7; Adam with betas (0.9, 0.98), eps 1e-6, no weight decay, 5% warm-up, clipping at
5, a learning rate of 5e-4 for batches of 250.

Also ours: the student keeps the teacher's dropout; a random replacement is never a special token; 15% is rounded down;
`on_task` has a rate of its own, 3e-4 for batches of 32.

Departure at miniature size, for its reason: a learning rate of 2e-3, since a model this narrow bears it and the
whole run is a few hundred steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import BertForMaskedLM, DistilBertForMaskedLM, PreTrainedModel

from ..data.batches import Rows
from ..data.masking import Masking, mask_once
from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import classifier_from
from ..models.layer_dropping import layer_drop
from ..models.layer_map import last
from ..terms import HardLabels, HiddenCosine, MaskedLM, Objective, SoftTargets

T = 2.0
SOFT_WEIGHT, MASKED_WEIGHT, COSINE_WEIGHT = 5.0, 2.0, 1.0
TASK_SOFT_WEIGHT, TASK_HARD_WEIGHT = 0.5, 0.5       # of the second distillation, in the code's SQuAD script


def triple_loss(student: PreTrainedModel, teacher: PreTrainedModel, soft: float = SOFT_WEIGHT,
                masked: float = MASKED_WEIGHT, cosine: float = COSINE_WEIGHT) -> Objective:
    """5 L_ce + 2 L_mlm + 1 L_cos (section 2). A weight of 0 leaves its loss out, as the ablation of Table 4 does."""
    last_layers = last(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    terms = [SoftTargets(soft, T), MaskedLM(masked), HiddenCosine(last_layers, cosine)]
    return Objective([term for term in terms if term.weight > 0])


def general_stage(student: PreTrainedModel, teacher: PreTrainedModel, texts: Rows, tokenizer, steps: int,
                  objective: Objective | None = None, **settings) -> Stage:
    """Task-agnostic distillation on plain text, masked anew every time it is seen: 15% of the tokens."""
    code = {"batch_size": 250, "learning_rate": 5e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0,
            "warmup": 0.05, "clip": 5.0}
    return Stage(objective or triple_loss(student, teacher), steps,
                 transform=Masking(tokenizer, texts, rate=0.15, smoothing=0.7), name="general distillation",
                 **code | settings)


def task_stage(steps: int, distilled: bool, **settings) -> Stage:
    """Fine-tuning on labels, alone or `distilled` a second time from a teacher fine-tuned on the task."""
    if not distilled:
        return Stage(Objective([HardLabels()]), steps, name="fine-tuning", **settings)
    terms = [SoftTargets(TASK_SOFT_WEIGHT, T), HardLabels(TASK_HARD_WEIGHT)]
    return Stage(Objective(terms), steps, name="task distillation", **settings)


def general(task: Task, teacher: BertForMaskedLM, steps: int, student: DistilBertForMaskedLM | None = None,
            objective: Objective | None = None, seed: int = 0, learning_rate: float = 2e-3, batch_size: int = 64,
            masked_copies: int = 0, **options) -> tuple[DistilBertForMaskedLM, Run]:
    """Sections 2 and 3 on the task's transfer split: a student of half the teacher's layers, task-agnostic.

    student: another one than layer-drop's, such as one with random weights. masked_copies: of each text so many,
    masked once (`kdlab.data.masking.mask_once`) instead of anew every time, which is what a `cache=` needs to be of
    use.
    `options` go to `distill`.
    """
    student = layer_drop(teacher) if student is None else student
    texts = task["transfer"]
    stage = general_stage(student, teacher, Rows(texts, task.tokenizer.pad_token_id), task.tokenizer, steps,
                          objective, learning_rate=learning_rate, batch_size=batch_size)
    if masked_copies:
        texts, stage = mask_once(texts, stage.transform, masked_copies, seed), replace(stage, transform=None)
    return student, distill(student, teacher, texts, stage, seed=seed, **options)


def on_task(task: Task, student: PreTrainedModel, steps: int, teacher: PreTrainedModel | None = None, seed: int = 0,
            learning_rate: float = 3e-4, batch_size: int = 32, cache: str | Path | None = None,
            **options) -> tuple[PreTrainedModel, Run]:
    """Section 4: a classifier from the distilled student, on the task's labels, with a teacher or without."""
    classifier = classifier_from(student, task.label_names, seed)
    stage = task_stage(steps, teacher is not None, learning_rate=learning_rate, batch_size=batch_size)
    return classifier, distill(classifier, teacher, task["train"], stage, seed=seed, cache=cache, **options)
