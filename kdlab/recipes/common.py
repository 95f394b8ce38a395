"""What the recipes share: how settings become stages, which texts they read, and what they say when something is
missing.

Settings are plain dictionaries. A phase of a recipe is one of their entries, with fields of `Stage` and, in place of
`steps`, perhaps `epochs`: passes over the rows that the phase reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from ..data.batches import Rows
from ..data.masking import Masking, mask_once
from ..data.tasks import Task
from ..engine.run import Run, Stage
from ..errors import KdlabError
from ..loop import distill
from ..models.building import classifier_from
from ..terms import HardLabels, Objective

Settings = dict[str, Any]


def phases(settings: Settings) -> dict[str, Settings]:
    """The trainings that these settings describe, by name, in the recipe's order."""
    return {name: phase for name, phase in settings.items() if isinstance(phase, dict) and "batch_size" in phase}


def fields_of(phase: Settings, rows: int = 0, **changes) -> Settings:
    """A phase as fields of `Stage`, for a data set of so many rows, with `changes`."""
    fields = {name: value for name, value in phase.items() if name != "epochs"} | changes
    return {"steps": max(1, math.ceil(phase.get("epochs", 0) * rows / phase["batch_size"]))} | fields


def texts_of(task: Task) -> Dataset:
    """What a task-agnostic stage reads: the transfer split, or, where a task has none, the training texts."""
    return task.splits.get("transfer", task["train"])


def masking_of(task: Task, texts: Dataset, settings: Settings) -> Masking:
    return Masking(task.tokenizer, Rows(texts, task.tokenizer.pad_token_id), **settings)


def masked_beforehand(texts: Dataset, plan: list[Stage], copies: int, seed: int) -> tuple[Dataset, list[Stage]]:
    """`copies` of each text, masked once and for all as the first stage would, and the stages without their masking;
    0 copies: both as they are."""
    if not copies:
        return texts, plan
    return mask_once(texts, plan[0].transform, copies, seed), [replace(stage, transform=None) for stage in plan]


def has_language_head(model: PreTrainedModel | None) -> bool:
    return model is not None and model.get_output_embeddings() is not None


def with_language_head(pretrained: PreTrainedModel | None, recipe: str) -> PreTrainedModel:
    """The pretrained teacher, or one sentence that says why a recipe cannot do without it."""
    if pretrained is None or not has_language_head(pretrained):
        given = "none was given" if pretrained is None else f"a {type(pretrained).__name__} has none"
        raise KdlabError(f"{recipe} needs a pretrained teacher with its language head (a masked language model), and "
                         f"{given}; pass pretrained=, or --pretrained on the command line")
    return pretrained


def body_of(teacher: PreTrainedModel, pretrained: PreTrainedModel | None, recipe: str,
            say: Callable[[str], object]) -> PreTrainedModel:
    """The teacher of a task-agnostic stage that reads layers alone: the classifier, where none is pretrained."""
    if pretrained is None:
        say(f"{recipe}: no pretrained teacher was given, so the general stage reads the fine-tuned teacher's layers; "
            "pass pretrained=, or --pretrained on the command line, for the paper's way")
    return teacher if pretrained is None else pretrained


def fine_tuned(task: Task, student: PreTrainedModel, first: Run, phase: Settings, seed: int,
               **options) -> tuple[PreTrainedModel, Run]:
    """The end of a task-agnostic recipe, after its run `first`: a classifier with a fresh head learns the labels."""
    if first.interrupted:
        return student, first
    classifier = classifier_from(student, task.label_names, seed)
    stage = Stage(Objective([HardLabels()]), name="fine-tuning", **fields_of(phase, len(task["train"])))
    return classifier, joined(first, distill(classifier, None, task["train"], stage, seed=seed, **options))


def joined(first: Run, second: Run) -> Run:
    """Two trainings of one recipe as one run: the steps go on counting, and the report adds up."""
    run = Run(precision=second.precision, interrupted=second.interrupted)
    names = dict.fromkeys([*first.history, *second.history])
    run.history = {name: [*first.history.get(name, [None] * first.steps), *second.history.get(name,
                          [None] * second.steps)] for name in names}
    run.history["step"] = list(range(1, first.steps + second.steps + 1))
    run.probe_steps = [*first.probe_steps, *(first.steps + step for step in second.probe_steps)]
    run.probe_logits, run.weights = [*first.probe_logits, *second.probe_logits], [*first.weights, *second.weights]
    seconds = first.report.seconds + second.report.seconds
    counted = sum(one.report.seconds * one.report.steps_per_second for one in (first, second))      # of this call
    use = second.report.teacher if second.report.teacher.source != "none" else first.report.teacher
    run.report = replace(second.report, steps=run.steps, seconds=seconds, teacher=use,
                         steps_per_second=counted / seconds if seconds else 0.0)
    return run
