"""DistilBERT: Sanh, Debut, Chaumond, Wolf 2019 (arXiv 1910.01108), a smaller BERT for any task.

Section 2, the objective: three losses at once, on the same masked texts for teacher and student.

    L_ce    soft targets over the vocabulary, at temperature T for both models
    L_mlm   masked language modelling, as in BERT
    L_cos   cosine between the last hidden states, to align their directions

Section 3, the student: half the layers; no token-type embeddings, no pooler; it starts from one teacher layer
out of two (`kdlab.models.layer_dropping`). It is distilled on plain text, before any task is known ("task-agnostic"),
and then fine-tuned on a task as a BERT would be, with or without a second distillation (section 4, SQuAD).

The paper prints neither weights nor temperature. `PAPER` has those of the released code's command for one GPU
(huggingface/transformers-research-projects, distillation/); its command for four GPUs weighs the three alike.

Departures at any size: AdamW exempts biases and norms from weight decay; the student keeps the teacher's dropout; a
random replacement of a masked word is never a special token; 15% of a batch's tokens is rounded down, to one token at
least. Those of the miniature stand in `MINIATURE`, each with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import BertForMaskedLM, DistilBertForMaskedLM, PreTrainedModel

from ..data.batches import Rows
from ..data.masking import Masking
from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import classifier_from
from ..models.layer_dropping import layer_drop
from ..models.layer_map import last
from ..terms import HardLabels, HiddenCosine, MaskedLM, Objective, SoftTargets
from .common import Settings, fields_of, joined, masked_beforehand, texts_of, with_language_head

PAPER: Settings = {
    "student": {"layers": None},                    # section 3: half the teacher's
    "T": 2.0,                                       # code: the parser's default
    "soft": 5.0, "masked": 2.0, "cosine": 1.0,      # code: README, one GPU
    "masking": {"rate": 0.15, "smoothing": 0.7},    # code: 15% of the tokens, drawn with odds count^-0.7
    "general": {"epochs": 3.0, "batch_size": 250, "learning_rate": 5e-4, "betas": (0.9, 0.98), "eps": 1e-6,
                "weight_decay": 0.0, "warmup": 0.05, "clip": 5.0},      # code: README and the parser's defaults
    "distilled_twice": False,                       # section 4: Table 1 is plain fine-tuning, SQuAD has both
    "task_soft": 0.5, "task_hard": 0.5,             # code: its SQuAD script, of the second distillation
    "task": {"epochs": 3.0, "batch_size": 32, "learning_rate": 3e-5},   # ours: the paper does not say
}
MINIATURE: Settings = PAPER | {
    "general": PAPER["general"] | {"steps": 400, "batch_size": 64,      # some minutes on a laptop,
                                   "learning_rate": 2e-3},              # and a rate that a model this narrow bears
    "distilled_twice": True,                        # so that the fine-tuned teacher has its say on every task
    "task": {"steps": 200, "batch_size": 32, "learning_rate": 3e-4},    # as above
}
T = PAPER["T"]


def triple_loss(student: PreTrainedModel, teacher: PreTrainedModel, soft: float = PAPER["soft"],
                masked: float = PAPER["masked"], cosine: float = PAPER["cosine"], T: float = T) -> Objective:
    """5 L_ce + 2 L_mlm + 1 L_cos (section 2). A weight of 0 leaves its loss out, as the ablation of Table 4 does."""
    last_layers = last(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    terms = [SoftTargets(soft, T), MaskedLM(masked), HiddenCosine(last_layers, cosine)]
    return Objective([term for term in terms if term.weight > 0])


def general_stage(student: PreTrainedModel, teacher: PreTrainedModel, texts: Rows, tokenizer, steps: int,
                  objective: Objective | None = None, masking: Settings = PAPER["masking"], **settings) -> Stage:
    """Task-agnostic distillation on plain text, masked anew every time it is seen."""
    return Stage(objective or triple_loss(student, teacher), transform=Masking(tokenizer, texts, **masking),
                 name="general distillation", **fields_of(PAPER["general"], steps=steps, **settings))


def task_stage(steps: int, distilled: bool, soft: float = PAPER["task_soft"], hard: float = PAPER["task_hard"],
               T: float = T, **settings) -> Stage:
    """Fine-tuning on labels, alone or `distilled` a second time from a teacher fine-tuned on the task."""
    if not distilled:
        return Stage(Objective([HardLabels()]), steps, name="fine-tuning", **settings)
    return Stage(Objective([SoftTargets(soft, T), HardLabels(hard)]), steps, name="task distillation", **settings)


def general(task: Task, teacher: BertForMaskedLM, steps: int, student: DistilBertForMaskedLM | None = None,
            objective: Objective | None = None, seed: int = 0, learning_rate: float = 2e-3, batch_size: int = 64,
            masked_copies: int = 0, **options) -> tuple[DistilBertForMaskedLM, Run]:
    """Sections 2 and 3 on the task's plain texts: a student of half the teacher's layers, task-agnostic.

    student: another one than layer-drop's, such as one with random weights. masked_copies: of each text so many,
    masked once (`kdlab.data.masking.mask_once`) instead of anew every time, for a `cache=`. `options` go to `distill`.
    """
    student = layer_drop(teacher) if student is None else student
    texts = texts_of(task)
    stage = general_stage(student, teacher, Rows(texts, task.tokenizer.pad_token_id), task.tokenizer, steps,
                          objective, learning_rate=learning_rate, batch_size=batch_size)
    texts, plan = masked_beforehand(texts, [stage], masked_copies, seed)
    return student, distill(student, teacher, texts, plan, seed=seed, **options)


def on_task(task: Task, student: PreTrainedModel, steps: int, teacher: PreTrainedModel | None = None, seed: int = 0,
            learning_rate: float = 3e-4, batch_size: int = 32, cache: str | Path | None = None,
            **options) -> tuple[PreTrainedModel, Run]:
    """Section 4: a classifier from the distilled student, on the task's labels, with a teacher or without."""
    classifier = classifier_from(student, task.label_names, seed)
    stage = task_stage(steps, teacher is not None, learning_rate=learning_rate, batch_size=batch_size)
    return classifier, distill(classifier, teacher, task["train"], stage, seed=seed, cache=cache, **options)


def stages(task: Task, student: PreTrainedModel, pretrained: PreTrainedModel, settings: Settings) -> list[Stage]:
    """General distillation of the language model, then the task, for the classifier that is made of it."""
    texts, weights = texts_of(task), {name: settings[name] for name in ("soft", "masked", "cosine", "T")}
    return [general_stage(student, pretrained, Rows(texts, task.tokenizer.pad_token_id), task.tokenizer,
                          objective=triple_loss(student, pretrained, **weights), masking=settings["masking"],
                          **fields_of(settings["general"], len(texts))),
            task_stage(distilled=settings["distilled_twice"], soft=settings["task_soft"], hard=settings["task_hard"],
                       T=settings["T"], **fields_of(settings["task"], len(task["train"])))]


def student_for(task: Task, teacher: PreTrainedModel | None, pretrained: PreTrainedModel | None = None,
                settings: Settings = MINIATURE, seed: int = 0) -> PreTrainedModel:
    """Section 3: some of the pretrained teacher's layers."""
    return layer_drop(with_language_head(pretrained, "DistilBERT"), settings["student"]["layers"])


def recipe(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
           settings: Settings = MINIATURE, seed: int = 0, student: PreTrainedModel | None = None,
           say: Callable[[str], object] = print, **options) -> tuple[PreTrainedModel, Run]:
    """Sections 2 to 4 from end to end (`kdlab.recipes` says what the arguments are)."""
    pretrained = with_language_head(pretrained, "DistilBERT")
    student = student_for(task, teacher, pretrained, settings, seed) if student is None else student
    general_part, task_part = stages(task, student, pretrained, settings)
    first = distill(student, pretrained, texts_of(task), general_part, seed=seed, **options)
    if first.interrupted:
        return student, first
    classifier = classifier_from(student, task.label_names, seed)
    guide = teacher if settings["distilled_twice"] else None
    return classifier, joined(first, distill(classifier, guide, task["train"], task_part, seed=seed, **options))
