"""Exercises of lesson 08: a published loss from its equation, and how many seeds a claim takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .exercise import Exercise, logits, pair, temperature


def apart(x: Tensor, y: Tensor) -> Tensor:
    """1 - Pearson's correlation of each row of x with the same row of y (n, m), mean over rows."""
    x, y = (z - z.mean(dim=-1, keepdim=True) for z in (x, y))
    return (1 - (x * y).sum(dim=-1) / (x.norm(dim=-1) * y.norm(dim=-1))).mean()


def dist(s: Tensor, t: Tensor, T: float) -> Tensor:
    """T^2 (rows apart + columns apart) of the two softmaxes at T (Huang et al. 2022, arXiv 2205.10536)."""
    q, p = (s / T).softmax(dim=-1), (t / T).softmax(dim=-1)
    return T**2 * (apart(q, p) + apart(q.T, p.T))


def seeds_needed(gains: Tensor) -> int:
    """The smallest n for which two standard errors, spread / sqrt(n), are no more than the mean gain."""
    return math.ceil((2 * gains.std().item() / abs(gains.mean().item())) ** 2 - 1e-9)


def _rows(g: torch.Generator) -> tuple[Tensor, Tensor]:
    n = int(torch.randint(5, 9, (), generator=g))
    return logits(g, n, 4) + 1, logits(g, n, 4) - 2


def _batch(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    return *pair(g), temperature(g)


def _gains(g: torch.Generator) -> tuple[Tensor]:
    return (0.01 * torch.randn(8, generator=g) + 0.006,)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return ((x * y).sum(dim=-1) / (x.norm(dim=-1) * y.norm(dim=-1))).mean()


def _softened(s: Tensor, t: Tensor, T: float) -> tuple[Tensor, Tensor]:
    return (s / T).softmax(dim=-1), (t / T).softmax(dim=-1)


def _standard(gains: Tensor, factor: float = 2.0, power: float = 2.0) -> float:
    return (factor * gains.std().item() / abs(gains.mean().item())) ** power


EXERCISES = {
    "8.1": Exercise(
        goal="Each row less its mean, then the cosine; the loss is 1 less that, averaged over the rows.",
        right=apart,
        inputs=_rows,
        mistakes=(
            (lambda x, y: 1 - _cosine(x, y), "this is the cosine of the rows as they are; take away each row's mean "
             "first, that makes it Pearson's"),
            (lambda x, y: apart(x.T, y.T), "the columns were compared; a row is the last axis, dim=-1"),
            (lambda x, y: 1 - apart(x, y),
             "this is the correlation itself; a loss is small where that is large: 1 less it"),
            (lambda x, y: apart(x.reshape(1, -1), y.reshape(1, -1)),
             "one mean and one norm were taken for all rows together; give dim=-1 (and keepdim=True to the mean)"),
            (lambda x, y: apart(x, y) * len(x), "summed over the rows; take the mean"),
            (lambda x, y: 1 - ((x - x.mean(-1, keepdim=True)) * (y - y.mean(-1, keepdim=True))).mean(-1).mean(),
             "this is the covariance; divide by both norms"),
            (lambda x, y: apart(x, y) - 1, "the sign is turned round: the loss is 1 less the correlation"),
        )),
    "8.2": Exercise(
        goal="T^2 times the sum of both distances, of the rows and of the columns of the softmaxes at T.",
        right=dist,
        inputs=_batch,
        mistakes=(
            (lambda s, t, T: dist(s, t, T) / T**2, "T^2 is missing"),
            (lambda s, t, T: dist(s, t, 1.0) * T**2, "T does not soften anything here: divide both logits by it"),
            (lambda s, t, T: dist(s, t, 1.0), "T has no effect: divide both logits by it, and multiply by T^2"),
            (lambda s, t, T: T**2 * apart(*_softened(s, t, T)), "only the rows are compared; add the columns, q.T "
             "and p.T: how the texts relate within a class"),
            (lambda s, t, T: T**2 * apart(*(z.T for z in _softened(s, t, T))), "only the columns are compared; add the "
             "rows: how the classes relate for a text"),
            (lambda s, t, T: T**2 * (apart(s / T, t / T) + apart((s / T).T, (t / T).T)),
             "these are the logits; take their softmax first"),
            (lambda s, t, T: T**2 * (apart((s / T).softmax(0), (t / T).softmax(0))
                                     + apart((s / T).softmax(0).T, (t / T).softmax(0).T)),
             "the softmax runs over the texts; the classes are the last axis, dim=-1"),
            (lambda s, t, T: dist(s, t, T) / 2, "the mean of the two distances; the paper adds them"),
        )),
    "8.3": Exercise(
        goal="Two standard errors, 2 spread / sqrt(n), are no more than the mean from n = (2 spread / mean)^2 on.",
        right=seeds_needed,
        inputs=_gains,
        mistakes=(
            (lambda g: _standard(g), "a number of seeds is whole: round it up with math.ceil"),
            (lambda g: math.floor(_standard(g)), "rounded down, it is one seed too few; math.ceil"),
            (lambda g: math.ceil(_standard(g, 1.0)), "this is for one standard error; two were asked for"),
            (lambda g: math.ceil(_standard(g, 2.0, 1.0)), "the square is missing: the error shrinks with sqrt(n)"),
            (lambda g: math.ceil(_standard(g, 2.0) / len(g)),
             "this divides by the eight seeds at hand; their spread is that of single seeds, whatever their number"),
            (lambda g: math.ceil(_standard(g) ** -1), "turned upside down: a larger spread takes more seeds"),
        )),
}
