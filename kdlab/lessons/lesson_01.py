"""Exercises of lesson 01: temperature, the soft-target loss, its gradient, label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .exercise import Exercise, logits, pair, temperature


def _soft(student: Tensor, teacher: Tensor, T: float, dim: int = -1) -> Tensor:
    """KL(p || q) a place, summed over classes, without T^2."""
    return F.kl_div(F.log_softmax(student / T, dim), F.softmax(teacher / T, dim), reduction="batchmean")


def _softmax_T(z: Tensor, T: float) -> Tensor:
    return F.softmax(z / T, dim=-1)


EXERCISES = {
    "1.1": Exercise(
        goal="Dividing the logits by T before the softmax flattens the distribution and keeps its order.",
        right=_softmax_T,
        inputs=lambda g: (logits(g, int(torch.randint(6, 12, (), generator=g)), 5), temperature(g)),
        mistakes=(
            (lambda z, T: F.softmax(z / T, dim=0),
             "softmax over the wrong axis: the columns sum to 1, and the rows should; each row is one text, so "
             "use dim=-1"),
            (lambda z, T: F.softmax(z * T, dim=-1),
             "the logits are multiplied by T, which sharpens; divide by T"),
            (lambda z, T: F.softmax(z, dim=-1) / T,
             "the probabilities are divided by T, so they no longer sum to 1; divide the logits, before softmax"),
            (lambda z, T: F.softmax(z, dim=-1),
             "T has no effect: it is not used, or it cancels, as in exp(z) / T over its own sum; divide the logits "
             "by it, before exp"),
            (lambda z, T: F.log_softmax(z / T, dim=-1),
             "these are log-probabilities; the exercise asks for probabilities (softmax)"),
            (lambda z, T: (z / T).exp(), "exp without the sum: divide by the sum over the classes"),
            (lambda z, T: (z / T).exp() / (z / T).exp().sum(),
             "the sum runs over all texts; each row has its own: .sum(dim=-1, keepdim=True)"),
        )),
    "1.2": Exercise(
        goal="The soft-target loss is T^2 times the mean over texts of KL(p || q), summed over classes.",
        right=lambda s, t, T: losses.soft_targets(s, t, T),
        inputs=lambda g: (*pair(g), temperature(g)),
        mistakes=(
            (lambda s, t, T: _soft(s, t, T),
             "T^2 is missing: the gradient shrinks as 1/T^2, so a change of T would also change the weight of "
             "this loss beside any other; multiply by T**2"),
            (lambda s, t, T: T * _soft(s, t, T),
             "multiplied by T once; the gradient shrinks as 1/T^2, so multiply by T**2"),
            (lambda s, t, T: T**2 * _soft(s, t, T) / s.shape[-1],
             "the KL is averaged over classes too (reduction='mean' does that), so it is C times too small; sum "
             "over classes and average over texts: reduction='batchmean'"),
            (lambda s, t, T: _soft(s, t, T) / s.shape[-1],
             "two things: T^2 is missing, and the KL is averaged over classes; use reduction='batchmean' and "
             "multiply by T**2"),
            (lambda s, t, T: T**2 * _soft(s, t, T) * s.shape[0],
             "summed over texts; average over them, or the loss grows with the batch: reduction='batchmean'"),
            (lambda s, t, T: T**2 * _soft(t, s, T),
             "teacher and student are swapped: this is KL(q || p); the teacher's p is the distribution the "
             "average is taken over. F.kl_div takes the student's log-probabilities first"),
            (lambda s, t, T: _soft(t, s, T),
             "teacher and student are swapped, and T^2 is missing: F.kl_div takes the student's "
             "log-probabilities first, and the whole is multiplied by T**2"),
            (lambda s, t, T: T**2 * F.kl_div(F.softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean"),
             "probabilities were passed where log-probabilities belong: the first argument of F.kl_div is "
             "log q, so use log_softmax for the student"),
            (lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s / T, -1), F.log_softmax(t / T, -1),
                                            reduction="batchmean"),
             "the result is NaN. Most likely log-probabilities were passed where probabilities belong (or raw "
             "logits were): the second argument of F.kl_div is p itself, softmax, unless log_target=True is given"),
            (lambda s, t, T: T**2 * _soft(s, t, T, dim=0),
             "softmax over the wrong axis: it runs over the texts of the batch; each row is one text, so use "
             "dim=-1"),
            (lambda s, t, T: T**2 * _soft(s * T, t * T, T),
             "T^2 is there, but nothing is softened: divide both models' logits by T before softmax"),
            (lambda s, t, T: _soft(s * T, t * T, T), "T is not used; divide both models' logits by it, and "
             "multiply the loss by T**2"),
            (lambda s, t, T: T**2 * (F.log_softmax(t / T, -1) - F.log_softmax(s / T, -1)).sum(-1).mean(),
             "the factor p is missing: KL weighs each difference of logarithms by the teacher's probability"),
            (lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1),
                                            reduction="none").sum(-1),
             "one number per text is right so far; average them over the texts"),
            (lambda s, t, T: T**2 * _soft(s * T, t, T),
             "only the teacher is softened; divide the student's logits by T too"),
            (lambda s, t, T: T**2 * _soft(s, t * T, T),
             "only the student is softened; divide the teacher's logits by T too"),
            (lambda s, t, T: T**2 * losses.cross_entropy(t / T, s / T),
             "this is the cross-entropy H(p, q). Its gradient is the same, but it does not reach 0 when the "
             "student is perfect: subtract the teacher's entropy, or use F.kl_div"),
            (lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="none"),
             "one number per text and class is right so far: sum over classes and average over texts "
             "(reduction='batchmean')"),
        )),
    "1.3": Exercise(
        goal="T (q - p) / B pushes each student logit by how far its softened probability is off.",
        right=lambda s, t, T: T * (_softmax_T(s, T) - _softmax_T(t, T)) / s.shape[0],
        inputs=lambda g: (*pair(g), temperature(g)),
        mistakes=(
            (lambda s, t, T: T * (_softmax_T(t, T) - _softmax_T(s, T)) / s.shape[0],
             "the sign is turned round: this points downhill, and a gradient points uphill; it is q - p, student "
             "minus teacher"),
            (lambda s, t, T: T * (_softmax_T(s, T) - _softmax_T(t, T)),
             "1/B is missing: the loss is a mean over the B texts of the batch, so each counts for 1/B"),
            (lambda s, t, T: (_softmax_T(s, T) - _softmax_T(t, T)) / T / s.shape[0],
             "T^2 is missing: this is the gradient of the mean KL; the loss is T**2 times that"),
            (lambda s, t, T: (_softmax_T(s, T) - _softmax_T(t, T)) / T,
             "this is the gradient of one text's KL; the loss is T**2 times it, averaged over B texts"),
            (lambda s, t, T: T**2 * (_softmax_T(s, T) - _softmax_T(t, T)) / s.shape[0],
             "1/T is missing: the chain rule brings it in, because the softmax reads z / T; with T**2 a T is left"),
            (lambda s, t, T: (_softmax_T(s, T) - _softmax_T(t, T)) / s.shape[0],
             "a factor T is missing: T**2 from the loss, 1/T from the chain rule"),
            (lambda s, t, T: T * (_softmax_T(s, 1) - _softmax_T(t, 1)) / s.shape[0],
             "p and q are taken at T = 1; soften both"),
            (lambda s, t, T: T * (_softmax_T(s, T) - _softmax_T(t, 1)) / s.shape[0],
             "only the student is softened; soften the teacher too"),
            (lambda s, t, T: T * (_softmax_T(s, 1) - _softmax_T(t, T)) / s.shape[0],
             "only the teacher is softened; soften the student too"),
            (lambda s, t, T: T * (F.softmax(s / T, 0) - F.softmax(t / T, 0)) / s.shape[0],
             "softmax over the wrong axis: each row is one text, so use dim=-1"),
            (lambda s, t, T: (s - t) / s.shape[-1] / s.shape[0],
             "logits are compared; that is only the limit for a high T; compare softmaxes"),
        )),
    "1.4": Exercise(
        goal="Smoothing moves e of the mass from the label to all classes alike, whatever the text says.",
        right=lambda labels, C, e: (1 - e) * F.one_hot(labels, C).double() + e / C,
        inputs=lambda g: (torch.randint(5, (7,), generator=g), 5, 0.05 + 0.3 * torch.rand((), generator=g).item()),
        mistakes=(
            (lambda labels, C, e: (1 - e - e / (C - 1)) * F.one_hot(labels, C).double() + e / (C - 1),
             "e is spread over the other classes only; here every class gets e / C, the label's own too"),
            (lambda labels, C, e: torch.where(F.one_hot(labels, C).bool(), 1 - e, e / C).double(),
             "the label's own share of e is missing, so the rows do not sum to 1: it gets 1 - e + e / C"),
            (lambda labels, C, e: (1 - e) * F.one_hot(labels, C).double() + e,
             "every class gets e, so the rows sum to more than 1; each gets e / C"),
            (lambda labels, C, e: (1 - e) * F.one_hot(labels, C).double(),
             "the mass taken from the label is gone; give e / C to every class"),
            (lambda labels, C, e: F.one_hot(labels, C).double() + e / C,
             "the rows sum to more than 1: take e from the label first, (1 - e) * one-hot"),
        )),
}
