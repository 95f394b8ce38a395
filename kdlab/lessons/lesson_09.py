"""Exercises of lesson 09: what a run costs."""

from __future__ import annotations

import torch

from .exercise import Exercise


def run_flops(student: float, teacher: float, texts: float) -> float:
    """Forward and backward of the student, three times its forward pass, and the teacher's forward pass."""
    return (3 * student + teacher) * texts


def hours(total: float, devices: float, peak: float, utilisation: float) -> float:
    return total / (devices * peak * utilisation) / 3600


def _run(g: torch.Generator) -> tuple[float, float, float]:
    student, teacher, texts = (1 + 9 * torch.rand(3, generator=g)).tolist()
    return student, 4 * teacher, texts


def _machine(g: torch.Generator) -> tuple[float, float, float, float]:
    total, devices, peak, part = torch.rand(4, generator=g).tolist()
    return 1e5 * (1 + total), 2 + int(7 * devices), 1 + 9 * peak, 0.1 + 0.5 * part


EXERCISES = {
    "9.1": Exercise(
        goal="Three passes of the student (one forward, and backward counts twice), one of the teacher, for each text.",
        right=run_flops,
        inputs=_run,
        mistakes=(
            (lambda s, t, n: (s + t) * n, "the student's backward pass is missing: it costs twice its forward pass"),
            (lambda s, t, n: (2 * s + t) * n, "the backward pass counts once here; it costs twice the forward pass"),
            (lambda s, t, n: 3 * (s + t) * n, "the teacher goes backward here; it only goes forward"),
            (lambda s, t, n: 3 * s * n, "the teacher is missing; it answers every text once"),
            (lambda s, t, n: 3 * s * n + t, "the teacher reads one text here; it reads all of them"),
            (lambda s, t, n: (s + 3 * t) * n, "student and teacher are swapped: who learns goes backward"),
        )),
    "9.2": Exercise(
        goal="What all devices do in a second is devices x peak x utilisation; an hour has 3,600 of them.",
        right=hours,
        inputs=_machine,
        mistakes=(
            (lambda f, n, p, u: f / (n * p * u), "these are seconds; divide by 3,600"),
            (lambda f, n, p, u: f / (n * p * u) / 60, "these are minutes; divide by 60 once more"),
            (lambda f, n, p, u: f / (p * u) / 3600, "the number of devices has no effect; they share the work"),
            (lambda f, n, p, u: f / (n * p) / 3600, "nobody reaches the peak: multiply it by the utilisation"),
            (lambda f, n, p, u: f * u / (n * p) / 3600, "the utilisation is upside down: reaching less takes longer"),
            (lambda f, n, p, u: n * f / (p * u) / 3600, "more devices take longer here; divide by their number"),
        )),
}
