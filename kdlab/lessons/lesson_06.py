"""Exercises of lesson 06: a paired comparison, calibration, the Pareto front."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plots.contest import pareto
from ..study.metrics import expected_calibration_error
from .exercise import Exercise


def _two_methods(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Accuracies of a method and of its baseline on the same seeds: a seed that is good for one is good for both."""
    seeds = int(torch.randint(5, 9, (), generator=g))
    luck = 0.03 * torch.randn(seeds, generator=g)
    base = 0.45 + luck + 0.005 * torch.randn(seeds, generator=g)
    return 0.5 + luck + 0.005 * torch.randn(seeds, generator=g), base


def _answers(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Confidence in each answer, whether it is right (1 or 0), and a number of bins."""
    count = int(torch.randint(40, 80, (), generator=g))
    confidence = 0.2 + 0.8 * torch.rand(count, generator=g)
    right = (torch.rand(count, generator=g) < 0.6).float()      # too sure in some bins, not sure enough in others
    return confidence, right, int(torch.randint(5, 9, (), generator=g))


def _candidates(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Costs and scores of several models, all different, in no order; some dear ones are bad."""
    count = int(torch.randint(6, 10, (), generator=g))
    costs = (torch.randperm(50, generator=g)[:count] + 1).float()
    return costs, costs / 100 + torch.rand(count, generator=g)


def _gain(difference: Tensor, spread: Tensor) -> Tensor:
    return torch.stack([difference.mean(), spread])


def _bins(confidence: Tensor, bins: int) -> list[Tensor]:
    """For each bin with answers in it, which ones."""
    index = (confidence * bins).long().clamp(max=bins - 1)
    return [index == b for b in range(bins) if (index == b).any()]


def _gaps(confidence: Tensor, right: Tensor, bins: int) -> list[tuple[Tensor, float]]:
    """Of each bin with answers in it: confidence - accuracy, and the part of all answers that it holds."""
    return [(confidence[here].mean() - right[here].mean(), here.double().mean().item())
            for here in _bins(confidence, bins)]


def _on_front(costs: Tensor, scores: Tensor) -> Tensor:
    """(n,) with 1 for each model on the Pareto front, and 0 for the rest."""
    return torch.zeros(len(costs)).index_fill(0, torch.tensor(pareto(costs.tolist(), scores.tolist())), 1.0)


EXERCISES = {
    "6.1": Exercise(
        goal="The differences are taken seed by seed; their mean, and their standard deviation / sqrt(n).",
        right=lambda a, b: _gain(a - b, (a - b).std() / len(a) ** 0.5),
        inputs=_two_methods,
        mistakes=(
            (lambda a, b: _gain(a - b, (a - b).std()),
             "the second number is the spread of single seeds; the mean's standard error is smaller by sqrt(n)"),
            (lambda a, b: _gain(a - b, (a - b).std() / len(a)), "divided by n; it is sqrt(n)"),
            (lambda a, b: _gain(a - b, (a - b).std(correction=0) / len(a) ** 0.5),
             "the standard deviation was divided by n; from a sample it is n - 1 (torch's default)"),
            (lambda a, b: _gain(a - b, (a.var() / len(a) + b.var() / len(b)) ** 0.5),
             "this is the standard error for two independent groups. The seeds are the same: take the difference "
             "seed by seed first, and luck that both had drops out"),
            (lambda a, b: _gain(a - b, a.std() / len(a) ** 0.5),
             "the spread is that of the method alone; take the spread of the differences"),
            (lambda a, b: _gain(b - a, (a - b).std() / len(a) ** 0.5),
             "the sign is turned round: a gain is the method less its baseline"),
            (lambda a, b: _gain(a - b, (a - b).var() / len(a) ** 0.5), "the variance was taken, not its square root"),
        )),
    "6.2": Exercise(
        goal="In each bin: the distance between mean confidence and accuracy, weighed by the answers in it.",
        right=expected_calibration_error,
        inputs=_answers,
        mistakes=(
            (lambda c, r, n: torch.stack([gap.abs() for gap, _ in _gaps(c, r, n)]).mean(),
             "all bins count alike here; weigh each by the part of the answers that it holds"),
            (lambda c, r, n: torch.stack([gap * part for gap, part in _gaps(c, r, n)]).sum(),
             "without the absolute value, bins that are too sure and bins that are not sure enough cancel"),
            (lambda c, r, n: (c.mean() - r.mean()).abs(),
             "this is the gap over all answers at once; part them into bins first, or mistakes cancel"),
            (lambda c, r, n: (c - r).abs().mean(),
             "this compares each answer with its own confidence, so nobody could reach 0; compare the means of a bin"),
            (lambda c, r, n: torch.stack([gap.abs() for gap, _ in _gaps(c, r, n)]).max(),
             "this is the largest gap (called the maximum calibration error); take the weighed mean"),
            (lambda c, r, n: torch.stack([gap.abs() * part for gap, part in _gaps(c, r, n)]).sum() / n,
             "divided by the number of bins too; the parts already sum to 1"),
            (lambda c, r, n: torch.stack([gap ** 2 * part for gap, part in _gaps(c, r, n)]).sum(),
             "squared gaps; it is the absolute value"),
        )),
    "6.3": Exercise(
        goal="A model is on the front if no other is at most as dear and at least as good.",
        right=_on_front,
        inputs=_candidates,
        mistakes=(
            (lambda c, s: _on_front(-c, s), "the costs are turned round: less cost is better"),
            (lambda c, s: _on_front(c, -s), "the scores are turned round: more is better"),
            (lambda c, s: (s == s.max()).float(), "this is the best model alone; cheaper ones that nobody beats count"),
            (lambda c, s: 1 - _on_front(c, s), "turned round: these are the ones that are beaten"),
            (lambda c, s: ((c == c.min()) | (s == s.max())).float(),
             "these are the two ends of the front; between them stand others that nobody beats"),
            (lambda c, s: (s / c == (s / c).max()).float(),
             "score / cost puts one number in place of two; the front leaves the choice open"),
        )),
}
