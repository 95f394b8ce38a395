"""Soft targets: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), the method every other is compared with.

Section 2: the student's objective is a weighted sum of

1. the loss with the teacher's soft targets, both models at the same temperature T, and
2. the cross-entropy with the hard labels at T = 1, for which a considerably lower weight works best.

The first carries T^2, so that the balance of the two survives a change of T.

Departures: a text classifier of our own size takes the place of the paper's digit and speech networks, so its
optimiser, batches and rates are ours.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import new_classifier
from ..terms import HardLabels, Objective, SoftTargets
from .common import Settings, fields_of

SOFT_WEIGHT, HARD_WEIGHT = 0.9, 0.1

MINIATURE: Settings = {
    "student": {"layers": 2, "width": 64},              # ours: trains in a minute on a laptop
    "T": 2.0,                                           # as in the paper's speech experiment
    "soft": SOFT_WEIGHT, "hard": HARD_WEIGHT,           # ours: "considerably lower" (section 2), as a number
    "task": {"epochs": 2.0, "batch_size": 64, "learning_rate": 1e-3},     # ours: for a student this narrow
}
PAPER: Settings = MINIATURE | {
    "T": 2.0,                                           # speech experiment: the best of 1, 2, 5 and 10
    "soft": 0.5, "hard": 0.5,                           # speech experiment: a weight of 0.5 for the hard labels
}                                                       # student, batches, rates: not the paper's, see above


def with_teacher(steps: int, T: float = 2.0, labelled: bool = False, soft: float = SOFT_WEIGHT,
                 hard: float = HARD_WEIGHT, **settings) -> Stage:
    """The student's stage: soft targets, plus hard labels where the transfer set has them.

    soft, hard: their weights if it has; settings: further fields of `Stage`, such as learning_rate and batch_size.
    """
    if not labelled:
        return Stage(Objective([SoftTargets(1.0, T)]), steps, name="soft targets", **settings)
    return Stage(Objective([SoftTargets(soft, T), HardLabels(hard)]), steps, name="soft targets and hard labels",
                 **settings)


def no_teacher(steps: int, smoothing: float = 0.0, **settings) -> Stage:
    """The baseline at the same budget: the same student on hard labels alone."""
    return Stage(Objective([HardLabels(1.0, smoothing)]), steps, name="hard labels", **settings)


def stages(settings: Settings, rows: int) -> list[Stage]:
    """One stage, for so many labelled rows."""
    return [with_teacher(T=settings["T"], labelled=True, soft=settings["soft"], hard=settings["hard"],
                         **fields_of(settings["task"], rows))]


def student_for(task: Task, teacher: PreTrainedModel | None, pretrained: PreTrainedModel | None = None,
                settings: Settings = MINIATURE, seed: int = 0) -> PreTrainedModel:
    """A small BERT with fresh weights."""
    return new_classifier(task.tokenizer, task.label_names, **settings["student"], seed=seed)


def recipe(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
           settings: Settings = MINIATURE, seed: int = 0, student: PreTrainedModel | None = None,
           say: Callable[[str], object] = print, **options) -> tuple[PreTrainedModel, Run]:
    """Section 2 on the task's labelled train split (`kdlab.recipes` says what the arguments are)."""
    student = student_for(task, teacher, pretrained, settings, seed) if student is None else student
    return student, distill(student, teacher, task["train"], stages(settings, len(task["train"])), seed=seed, **options)
