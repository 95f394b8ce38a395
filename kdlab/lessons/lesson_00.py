"""Exercises of lesson 00: fidelity and retention."""

from __future__ import annotations

import torch

from .exercise import Exercise, pair

EXERCISES = {
    "0.1": Exercise(
        goal="Fidelity counts the rows on which student and teacher answer the same.",
        right=lambda s, t: (s.argmax(-1) == t.argmax(-1)).double().mean(),
        inputs=pair,
        mistakes=(
            (lambda s, t: (s.argmax(0) == t.argmax(0)).double().mean(),
             "the largest logit is sought down the rows; each row is one text, so take argmax over the last "
             "axis, dim=-1"),
            (lambda s, t: (s == t).double().mean(),
             "logits are compared, and two models hardly ever have an equal one; compare their answers, "
             "argmax(dim=-1)"),
            (lambda s, t: (s.argmax(-1) == t.argmax(-1)).double().sum(),
             "this counts the agreeing rows; divide by the number of rows (mean, not sum)"),
            (lambda s, t: (s.argmax(-1) != t.argmax(-1)).double().mean(),
             "this is the part on which they differ; fidelity is the part on which they agree"),
            (lambda s, t: s.argmax(-1) == t.argmax(-1),
             "one answer per row is right so far; take the mean over the rows"),
            (lambda s, t: (s.argmax() == t.argmax()).double(),
             "argmax() without an axis looks for the one largest logit of all texts; give it dim=-1, the classes"),
        )),
    "0.2": Exercise(
        goal="Retention is student score / teacher score: the part of the teacher that the student kept.",
        right=lambda student, teacher: student / teacher,
        inputs=lambda g: (0.3 + 0.2 * torch.rand((), generator=g).item(),
                          0.55 + 0.3 * torch.rand((), generator=g).item()),
        mistakes=(
            (lambda student, teacher: teacher / student,
             "teacher and student are swapped: a student that keeps half of the score has a retention of 0.5"),
            (lambda student, teacher: teacher - student,
             "this is the score that was lost; retention is a ratio"),
            (lambda student, teacher: student - teacher,
             "this is a difference; retention is a ratio"),
            (lambda student, teacher: 100 * student / teacher,
             "this is in per cent; give the ratio itself, between 0 and 1"),
            (lambda student, teacher: round(student / teacher, 2),
             "the ratio is right but rounded; return it whole, and round only for the eye"),
        )),
}
