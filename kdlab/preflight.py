"""Everything that can be known to be wrong with a run before its first step, said in one sentence.

Also the run's identity, by which a checkpoint knows whose it is, and the check that a loss is finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from torch import nn

from .batches import Rows
from .errors import KdlabError
from .models import fingerprint
from .run import Stage


def check(student: nn.Module, teacher: nn.Module | None, rows: Rows, stages: Sequence[Stage]) -> None:
    """Raise `KdlabError` for a run that cannot be right."""
    if not stages:
        raise KdlabError("there is no stage to run; give at least one Stage(Objective([...]), steps)")
    for stage in stages:
        _check_stage(stage, student, teacher, rows)
    _check_rows("student", student, rows)
    if teacher is None or not any(stage.objective.teacher_needs for stage in stages):
        return
    if teacher is student:
        raise KdlabError("teacher and student are the same model, so there is nothing to learn; build a "
                         "student of its own")
    ours, theirs = student.config, teacher.config
    for stage in stages:
        for term in stage.objective.terms:
            term.check(ours, theirs)
    if ours.vocab_size != theirs.vocab_size:
        raise KdlabError(f"the teacher's vocabulary has {theirs.vocab_size} tokens and the student's "
                         f"{ours.vocab_size}; both must read the same token ids, so build the student "
                         "with the teacher's tokenizer")
    if any("logits" in stage.objective.teacher_needs for stage in stages):
        names, other = (list(getattr(c, "id2label", None).values()) for c in (ours, theirs))
        if len(names) != len(other):
            raise KdlabError(f"the teacher tells {len(other)} labels apart and the student {len(names)}; give "
                             "both the same labels")
        if names != other:
            raise KdlabError(f"the teacher's labels are {other} and the student's {names}; put them in one "
                             "order, or each class would learn from another")
    _check_rows("teacher", teacher, rows)


def _check_stage(stage: Stage, student: nn.Module, teacher: nn.Module | None, rows: Rows) -> None:
    for name, value in (("steps", stage.steps), ("batch_size", stage.batch_size),
                        ("learning_rate", stage.learning_rate)):
        if not value > 0:
            raise KdlabError(f"stage '{stage.name}': {name} is {value}; it must be above 0")
    for start, factor in stage.rates:
        if factor < 0 or not any(name.startswith(start) for name, _ in student.named_parameters()):
            raise KdlabError(f"stage '{stage.name}': the rate {factor:g} is for parameters named '{start}...'; a rate "
                             "is 0 or more, and the student has to have such parameters")
    for term in stage.objective.terms:
        if term.teacher_needs and teacher is None:
            raise KdlabError(f"the term '{term.name}' reads a teacher and none was given; pass teacher=")
        if "labels" in term.batch_needs and rows.labels is None:
            raise KdlabError(f"the term '{term.name}' needs labels and the data have none; use a labelled "
                             "split, or soft targets alone")
        if "mlm_labels" in term.batch_needs and stage.transform is None:
            raise KdlabError(f"the term '{term.name}' needs masked words and stage '{stage.name}' masks "
                             "none; give the stage transform=Masking(...)")


def _check_rows(who: str, model: nn.Module, rows: Rows) -> None:
    config = model.config
    longest, most = int(rows.lengths.max()), getattr(config, "max_position_embeddings", math.inf)
    if longest > most:
        raise KdlabError(f"row {int(rows.lengths.argmax())} has {longest} tokens and the {who} reads at "
                         f"most {most}; encode with truncation, or build a longer model")
    largest = int(rows.tokens.max())
    if largest >= config.vocab_size:
        raise KdlabError(f"the data hold the token id {largest} and the {who}'s vocabulary ends at "
                         f"{config.vocab_size - 1}; encode them with the {who}'s tokenizer")
    if rows.labels is None or model.get_output_embeddings() is not None:    # a language model has no labels
        return
    wrong = (rows.labels < 0) | (rows.labels >= config.num_labels)
    if wrong.any():
        row = int(wrong.argmax())
        raise KdlabError(f"row {row} has the label {rows.labels[row]} and the {who} knows the labels 0 to "
                         f"{config.num_labels - 1}; correct the label or the number of labels")


def stop_unless_finite(parts: dict[str, float], step: int) -> None:
    """Raise `KdlabError` naming the term that is NaN or infinite."""
    for name, value in parts.items():
        if not math.isfinite(value):
            raise KdlabError(f"the loss of the term '{name}' is {value} at step {step}, so the run stopped "
                             "before its weights were touched; lower the learning rate, or look at the "
                             "inputs of that term")


def identity(student: nn.Module, teacher: nn.Module | None, rows: Rows, stages: Sequence[Stage],
             seed: int, precision: str) -> str:
    """A hash of all that decides a run's numbers: models, data, stages, seed, precision."""
    digest = sha256(f"{seed} {precision}".encode())
    for model in (student, teacher):
        digest.update(fingerprint(model).encode() if model is not None else b"no teacher")
    for array in (rows.tokens, rows.lengths, rows.labels):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    for stage in stages:
        settings = {k: v for k, v in vars(stage).items() if k not in ("objective", "transform")}
        digest.update(repr((settings, stage.objective, type(stage.transform).__name__)).encode())
        digest.update(fingerprint(stage.objective).encode())
    return digest.hexdigest()

