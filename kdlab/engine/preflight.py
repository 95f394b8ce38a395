"""Everything that can be known to be wrong with a run before its first step, said in one sentence.

Also the run's identity, by which a checkpoint knows whose it is, and the check that a loss is finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from torch import nn

from ..data.batches import Rows
from ..data.masking import Masking
from ..errors import KdlabError
from ..losses import IGNORED
from ..models import fingerprint, max_tokens_of
from .run import Stage


def check(student: nn.Module, teacher: nn.Module | None, rows: Rows, stages: Sequence[Stage],
          teacher_rows: Rows | None = None) -> None:
    """Raise `KdlabError` for a run that cannot be right.

    teacher_rows: the rows as the teacher reads them, where it has a tokenizer of its own.
    """
    if not stages:
        raise KdlabError("there is no stage to run; give at least one Stage(Objective([...]), steps)")
    for stage in stages:
        _check_stage(stage, student, teacher, rows)
    _check_rows("student", student, rows)
    if rows.mlm_labels is not None and any("mlm_labels" in stage.objective.batch_needs for stage in stages):
        _check_masked_words(student, rows)
    if teacher is None or not any(stage.objective.teacher_needs for stage in stages):
        return
    if teacher is student:
        raise KdlabError("teacher and student are the same model, so there is nothing to learn; build a "
                         "student of its own")
    ours, theirs = student.config, teacher.config
    for stage in stages:
        for term in stage.objective.terms:
            term.check(ours, theirs)
    if teacher_rows is not None:
        _check_texts_only(stages, teacher, rows, teacher_rows)
    elif ours.vocab_size != theirs.vocab_size:
        raise KdlabError(f"the teacher's vocabulary has {theirs.vocab_size} tokens and the student's "
                         f"{ours.vocab_size}; both must read the same token ids, so build the student "
                         "with the teacher's tokenizer, or give teacher_data=, the texts as the teacher reads them")
    if any("logits" in stage.objective.teacher_needs for stage in stages):
        names, other = (list(getattr(c, "id2label", None).values()) for c in (ours, theirs))
        if len(names) != len(other) and student.get_output_embeddings() is None:
            raise KdlabError(f"the teacher tells {len(other)} labels apart and the student {len(names)}; give "
                             "both the same labels")
        is_of_words = student.get_output_embeddings() is not None      # a language model answers in tokens
        if names != other and len(names) > 1 and not is_of_words:
            raise KdlabError(f"the teacher's labels are {other} and the student's {names}; put them in one "
                             "order, or each class would learn from another")
    _check_rows("teacher", teacher, rows if teacher_rows is None else teacher_rows)


def _check_texts_only(stages: Sequence[Stage], teacher: nn.Module, rows: Rows, teacher_rows: Rows) -> None:
    """With two tokenizers a token of one is none of the other: only what is said of whole texts can be compared."""
    if len(rows) != len(teacher_rows):
        raise KdlabError(f"the data have {len(rows)} rows and teacher_data {len(teacher_rows)}; encode the same texts "
                         "for both")
    for stage in stages:
        for term in stage.objective.terms:
            of_tokens = teacher.get_output_embeddings() is not None
            if set(term.reads.teacher) - {"logits"} or (term.reads.teacher and of_tokens):
                raise KdlabError(f"the term '{term.name}' compares student and teacher token by token, and they cut "
                                 "texts into different tokens; take a student with the teacher's tokenizer, or terms "
                                 "that read a classifier's logits alone")
        if stage.transform is not None:
            raise KdlabError(f"stage '{stage.name}' changes the texts' tokens, and the teacher has others; leave out "
                             "transform=, or take a student with the teacher's tokenizer")


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
        if term.reads.teacher and teacher is None:
            raise KdlabError(f"the term '{term.name}' reads a teacher and none was given; pass teacher=")
        if "labels" in term.reads.batch and rows.labels is None:
            raise KdlabError(f"the term '{term.name}' needs labels and the data have none; use a labelled "
                             "split, or soft targets alone")
        if "mlm_labels" in term.reads.batch and stage.transform is None and rows.mlm_labels is None:
            raise KdlabError(f"the term '{term.name}' needs masked words and stage '{stage.name}' masks "
                             "none; give the stage transform=Masking(...), or data of kdlab.data.masking.mask_once")
        if isinstance(stage.transform, Masking) and rows.mlm_labels is not None:
            raise KdlabError(f"stage '{stage.name}' masks words, and the data have masked ones already (mlm_labels); "
                             "leave out transform=, or take the texts unmasked")


def _check_rows(who: str, model: nn.Module, rows: Rows) -> None:
    config = model.config
    longest, most = int(rows.lengths.max()), max_tokens_of(config)
    if longest > most:
        raise KdlabError(f"row {int(rows.lengths.argmax())} has {longest} tokens and the {who} reads at "
                         f"most {most}; encode with truncation, or build a longer model")
    largest = max(int(part.max()) for part in rows.tokens.parts if len(part))
    if largest >= config.vocab_size:
        raise KdlabError(f"the data hold the token id {largest} and the {who}'s vocabulary ends at "
                         f"{config.vocab_size - 1}; encode them with the {who}'s tokenizer")
    if rows.labels is None or model.get_output_embeddings() is not None:    # a language model has no labels
        return
    if config.num_labels == 1:                                              # a regression's may be any number
        wrong = ~np.isfinite(rows.labels)
        if wrong.any():
            row = int(wrong.argmax())
            raise KdlabError(f"row {row} has the label {rows.labels[row]}, and a regression needs a number; correct it")
        return
    if rows.labels.dtype.kind == "f":
        raise KdlabError(f"the labels are numbers with a fraction and the {who} tells {config.num_labels} classes "
                         "apart; take a model with one output, for regression, or label classes 0, 1, 2, ...")
    wrong = (rows.labels < 0) | (rows.labels >= config.num_labels)
    if wrong.any():
        row = int(wrong.argmax())
        raise KdlabError(f"row {row} has the label {rows.labels[row]} and the {who} knows the labels 0 to "
                         f"{config.num_labels - 1}; correct the label or the number of labels")


def _check_masked_words(student: nn.Module, rows: Rows) -> None:
    if rows.masked_starts[-1] == 0:
        raise KdlabError("no word is masked: all mlm_labels are -100; give masked words their token ids "
                         "(kdlab.data.masking.mask_once does)")
    vocabulary = student.config.vocab_size
    for part in rows.mlm_labels.parts:
        wrong = part[(part != IGNORED) & ((part < 0) | (part >= vocabulary))]
        if len(wrong):
            raise KdlabError(f"a masked word has the id {wrong[0]} and the student's vocabulary goes from 0 to "
                             f"{vocabulary - 1}; mask texts that are encoded with the student's tokenizer, and label "
                             f"{IGNORED} what is not masked")


def stop_unless_finite(parts: dict[str, float], step: int) -> None:
    """Raise `KdlabError` naming the term that is NaN or infinite."""
    for name, value in parts.items():
        if not math.isfinite(value):
            raise KdlabError(f"the loss of the term '{name}' is {value} at step {step}, so the run stopped "
                             "before its weights were touched; lower the learning rate, or look at the "
                             "inputs of that term")


def identity(student: nn.Module, teacher: nn.Module | None, rows: Rows, stages: Sequence[Stage],
             seed: int, precision: str, teacher_rows: Rows | None = None, kept: str = "") -> str:
    """A hash of all that decides a run's numbers: models, data, stages, seed, precision, and of a teacher's answers
    what was `kept`, in words, where that is not all of them."""
    digest = sha256(f"{seed} {precision}{kept}".encode())
    for model in (student, teacher):
        digest.update(fingerprint(model).encode() if model is not None else b"no teacher")
    for read in (rows, teacher_rows):
        digest.update(b"none" if read is None else read.fingerprint().encode())
    digest.update(b"none" if rows.labels is None else np.ascontiguousarray(rows.labels).tobytes())
    for stage in stages:
        settings = {k: v for k, v in vars(stage).items() if k not in ("objective", "transform")}
        digest.update(repr((settings, stage.objective, type(stage.transform).__name__)).encode())
        digest.update(fingerprint(stage.objective).encode())
    return digest.hexdigest()

