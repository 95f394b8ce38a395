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

In the released code one projection with bias serves embeddings and all layers, padding counts in the means, the
prediction loss is also divided by the number of classes, and the teacher never leaves training mode, so dropout blurs
the targets. We follow the paper, over real tokens, with the teacher in eval mode.

Departures at any size: the student has no dropout; weight decay exempts biases and norms; in a regression the student
follows the teacher, where the released code reads gold labels; one W_h serves all layers; augmentation masks a word
without showing the original sentence beside it, and has no rule for stop words.
"""

from __future__ import annotations

from collections.abc import Callable

from datasets import Dataset, concatenate_datasets
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ..data.augmentation import Augmenter
from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import bert_config, labelled, new_model
from ..models.layer_map import LayerMap, uniform
from ..terms import AttentionScores, HiddenStates, Objective, SoftTargets, Term
from .common import Settings, body_of, fields_of, has_language_head, joined, texts_of

PARTS, PHASES = ("embedding", "hidden", "attention"), ("general", "intermediate", "prediction")
PAPER: Settings = {         # paper: section 4.2; code: the released code
    "student": {"layers": 4, "width": 312, "intermediate": 1200},           # paper, TinyBERT4
    "T": 1.0,                                                               # paper, equation 10
    "augmentation": {"p": 0.4, "copies": 20, "candidates": 15},             # paper, of algorithm 1
    "augmented_rows": None,                                                 # paper, algorithm 1: all rows
    "general": {"epochs": 3.0, "batch_size": 256, "learning_rate": 1e-4},   # paper; batches: README; rate: as BERT
    "intermediate": {"epochs": 20.0, "batch_size": 32, "learning_rate": 5e-5, "warmup": 0.0, "decay": False},   # both
    "prediction": {"epochs": 3.0, "batch_size": 32, "learning_rate": 3e-5, "warmup": 0.1},      # paper; warm-up: code
}
MINIATURE: Settings = PAPER | {     # few steps, small batches, high rates: for minutes on a laptop and a narrow model
    "student": {"layers": 2, "width": 64},                          # half as deep and wide as the shipped teacher
    "augmented_rows": 2_000,                                        # each word of them costs a pass of the teacher
    "general": PAPER["general"] | {"steps": 150, "batch_size": 64, "learning_rate": 3e-3},
    "intermediate": PAPER["intermediate"] | {"steps": 100, "batch_size": 64, "learning_rate": 3e-3},
    "prediction": PAPER["prediction"] | {"steps": 100, "batch_size": 64, "learning_rate": 3e-3},    # one rate for both
}


def new_student(task: Task, teacher: PreTrainedModel, layers: int = 2, width: int = 64, seed: int = 0,
                intermediate: int | None = None) -> PreTrainedModel:
    """A BERT of `layers` x `width` with the teacher's number of heads; intermediate: of its FFNs, if not 4 x width."""
    config = bert_config(task.tokenizer, layers, width, teacher.config.num_attention_heads, dropout=0.0)
    config.intermediate_size = intermediate or config.intermediate_size
    return new_model(labelled(config, task.label_names), AutoModelForSequenceClassification, seed)


def intermediate(student: PreTrainedModel, teacher: PreTrainedModel, layers: LayerMap | None = None,
                 parts: tuple[str, ...] = PARTS, seed: int = 0) -> Objective:
    """Equations 7 to 9 over a layer map, uniform unless given; `parts` names which of them, for ablations."""
    layers = layers or uniform(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    widths = student.config.hidden_size, teacher.config.hidden_size
    terms: dict[str, Callable[[], Term]] = {
        "embedding": lambda: HiddenStates(((0, 0),), widths=widths, name="embeddings", seed=seed),
        "hidden": lambda: HiddenStates(layers, widths=widths, seed=seed + 1),
        "attention": lambda: AttentionScores(layers)}
    return Objective([terms[part]() for part in parts])


def general_stage(student: PreTrainedModel, teacher: PreTrainedModel, steps: int, objective: Objective | None = None,
                  **settings) -> Stage:
    """General distillation: the intermediate layers on plain, unmasked text."""
    return Stage(objective or intermediate(student, teacher), name="general distillation",
                 **fields_of(PAPER["general"], steps=steps, **settings))


def task_stages(student: PreTrainedModel, teacher: PreTrainedModel, intermediate_steps: int, prediction_steps: int,
                objective: Objective | None = None, prediction: Term | None = None, **settings) -> list[Stage]:
    """Task distillation: the intermediate layers, then the prediction (equation 10)."""
    first = Stage(objective or intermediate(student, teacher), name="intermediate layers",
                  **fields_of(PAPER["intermediate"], steps=intermediate_steps, **settings))
    second = Stage(Objective([prediction or SoftTargets(T=PAPER["T"])]), name="prediction",
                   **fields_of(PAPER["prediction"], steps=prediction_steps, **settings))
    return [stage for stage in (first, second) if stage.steps > 0]


def general(task: Task, teacher: PreTrainedModel, steps: int, student: PreTrainedModel | None = None,
            objective: Objective | None = None, seed: int = 0, learning_rate: float = 3e-3, batch_size: int = 64,
            **options) -> tuple[PreTrainedModel, Run]:
    """The first stage, on the task's plain texts, from the pretrained teacher. `options` go to `distill`."""
    student = new_student(task, teacher, seed=seed) if student is None else student
    stage = general_stage(student, teacher, steps, objective, learning_rate=learning_rate, batch_size=batch_size)
    return student, distill(student, teacher, texts_of(task), stage, seed=seed, **options)


def on_task(data: Dataset, student: PreTrainedModel, teacher: PreTrainedModel, intermediate_steps: int,
            prediction_steps: int, objective: Objective | None = None, prediction: Term | None = None, seed: int = 0,
            learning_rate: float = 3e-3, batch_size: int = 64, **options) -> Run:
    """Task distillation of `student`, in place, on (augmented) `data` from the fine-tuned teacher."""
    return distill(student, teacher, data, task_stages(
        student, teacher, intermediate_steps, prediction_steps, objective, prediction, learning_rate=learning_rate,
        batch_size=batch_size), seed=seed, **options)


def augmented(task: Task, pretrained: PreTrainedModel | None, settings: Settings, seed: int,
              say: Callable[[str], object]) -> Dataset:
    """The labelled rows with variants of some or all of them, or as they are where there is no language model."""
    rows = task["train"].shuffle(seed)
    if not has_language_head(pretrained):
        say("TinyBERT: augmentation is left out, as there is no masked language model; pass pretrained= (--pretrained)")
        return rows
    varied = range(min(settings["augmented_rows"] or len(rows), len(rows)))
    more = Augmenter(pretrained, task.tokenizer, **settings["augmentation"])(rows.select(varied), seed)
    rest = [i for i in range(len(rows)) if i not in varied]
    return concatenate_datasets([more, rows.select(rest).select_columns(more.column_names)]) if rest else more


def stages(student: PreTrainedModel, body: PreTrainedModel, settings: Settings, texts: int, rows: int) -> list[Stage]:
    """The general stage on so many texts, then the two steps of task distillation on so many augmented rows."""
    plain, first, second = (fields_of(settings[name], rows if name != "general" else texts) for name in PHASES)
    return [Stage(intermediate(student, body), name="general distillation", **plain),
            Stage(intermediate(student, body), name="intermediate layers", **first),
            Stage(Objective([SoftTargets(T=settings["T"])]), name="prediction", **second)]


def student_for(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
                settings: Settings = MINIATURE, seed: int = 0) -> PreTrainedModel:
    return new_student(task, teacher, **settings["student"], seed=seed)


def recipe(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
           settings: Settings = MINIATURE, seed: int = 0, student: PreTrainedModel | None = None,
           say: Callable[[str], object] = print, **options) -> tuple[PreTrainedModel, Run]:
    """Section 3 from end to end (`kdlab.recipes` says what the arguments are)."""
    student = student_for(task, teacher, pretrained, settings, seed) if student is None else student
    body, texts = body_of(teacher, pretrained, "TinyBERT", say), texts_of(task)
    data = augmented(task, pretrained, settings, seed, say)
    general_part, *task_part = stages(student, body, settings, len(texts), len(data))
    run = distill(student, body, texts, general_part, seed=seed, **options)
    return student, run if run.interrupted else joined(
        run, distill(student, teacher, data, task_part, seed=seed, **options))
