"""Exercises of lesson 07: three mends and a detector."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .exercise import Exercise, logits, pair, temperature

Loss = Callable[[Tensor, Tensor, float], Tensor]


def _objective_inputs(g: torch.Generator) -> tuple:
    s, t = pair(g)
    labels, weight = torch.randint(5, (len(s),), generator=g), 0.6 + 0.3 * torch.rand((), generator=g).item()
    return s, t, labels, temperature(g), weight


def _objective(factor: Callable[[float], float] = lambda T: T**2, by_class: bool = False,
               hard_T: bool = False) -> Callable:
    """weight * factor(T) * KL + (1 - weight) * cross-entropy, right unless told otherwise."""
    def objective(s: Tensor, t: Tensor, labels: Tensor, T: float, weight: float) -> Tensor:
        soft = factor(T) * losses.soft_targets(s, t, T) / T**2 / (s.shape[-1] if by_class else 1)
        return weight * soft + (1 - weight) * F.cross_entropy(s / T if hard_T else s, labels)
    return objective


def _one(T: float) -> float:
    return 1.0


def _soft(s: Tensor, t: Tensor, T: float) -> Tensor:
    return losses.soft_targets(s, t, T)


def _cache(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """stored (N, C), order (N,), rows (B,): neither order is the identity or its own inverse."""
    texts = int(torch.randint(9, 14, (), generator=g))
    order = torch.randperm(texts, generator=g)
    while torch.equal(order[order], torch.arange(texts)):
        order = torch.randperm(texts, generator=g)
    return logits(g, texts, 5), order, torch.randperm(texts, generator=g)[:6]


def _scores(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, H, L, L) as a model gives them: what looks at padding is ruled out by the lowest number there is,
    of float32 in the student and of float16 in the teacher; the rows of padding hold whatever they hold."""
    batch, heads, length = (int(torch.randint(low, low + 3, (), generator=g)) for low in (3, 2, 5))
    lengths = torch.randint(2, length, (batch,), generator=g)
    lengths[0] = length
    mask = (torch.arange(length) < lengths[:, None]).long()
    ruled_out = mask[:, None, None, :] == 0
    student = logits(g, batch, heads, length, length).masked_fill(ruled_out, torch.finfo(torch.float32).min)
    teacher = logits(g, batch, heads, length, length).masked_fill(ruled_out, torch.finfo(torch.float16).min)
    return student, teacher, mask


def _pairs(mask: Tensor) -> Tensor:
    real = mask.bool()
    return real[:, None, :, None] & real[:, None, None, :]


def _squares(s: Tensor, t: Tensor, real: Tensor) -> Tensor:
    return (s - t).where(real, 0.0).square()


def _text_by_text(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    real = _pairs(mask)
    return (_squares(s, t, real).sum((1, 2, 3)) / real.sum((1, 2, 3)) / s.shape[1]).mean()


def _keys_only(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    keys = mask.bool()[:, None, None, :].expand_as(s)
    return _squares(s, t, keys).sum() / keys.sum()


# The losses that the detector of 7.4 is tried on, and whether they are sound.
LOSSES: dict[str, tuple[Loss, bool]] = {
    "sound": (_soft, True),
    "the teacher with itself": (lambda s, t, T: _soft(t, t, T), False),
    "no T^2": (lambda s, t, T: _soft(s, t, T) / T**2, False),
    "mean over classes": (lambda s, t, T: _soft(s, t, T) / s.shape[-1], False),
    "teacher not softened": (lambda s, t, T: _soft(s, t * T, T), False)}


def draw_loss(g: torch.Generator) -> tuple[Loss, Tensor, Tensor]:
    kinds = list(LOSSES.values())
    loss, _ = kinds[int(torch.randint(1_000, (), generator=g)) % len(kinds)]
    return loss, *pair(g)


def _gradient_size(loss: Loss, s: Tensor, t: Tensor, T: float) -> float:
    z = s.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, t, T) + 0 * z.sum(), z)
    return gradient.norm().item()


def _wider(x: Tensor) -> Tensor:
    return F.pad(x, (0, 1), value=-1e4)


RULES: dict[str, Callable[[Loss, Tensor, Tensor], bool]] = {
    "zero": lambda loss, s, t: abs(float(loss(t, t, 8.0))) < 1e-4,
    "alarm": lambda loss, s, t: float(loss(s, t, 8.0)) > 1e-4,
    "absent": lambda loss, s, t: abs(float(loss(_wider(s), _wider(t), 8.0)) - float(loss(s, t, 8.0))) < 1e-4,
    "flat": lambda loss, s, t: _gradient_size(loss, s, t, 16.0) >= _gradient_size(loss, s, t, 8.0) / 2}


def detector(*left_out: str) -> Callable[[Loss, Tensor, Tensor], bool]:
    """Whether a loss passes the rules, all of them unless some are left out."""
    return lambda loss, s, t: all(rule(loss, s, t) for name, rule in RULES.items() if name not in left_out)


EXERCISES = {
    "7.1": Exercise(
        goal="The soft part carries T^2 and averages over texts only; the hard labels are at T = 1.",
        right=_objective(),
        inputs=_objective_inputs,
        mistakes=(
            (_objective(_one, by_class=True, hard_T=True),
             "all three faults are still in; begin with F.kl_div, whose default reduction averages over classes too"),
            (_objective(_one, by_class=True),
             "the hard labels are right now; two faults are left, both in the soft part: what does F.kl_div average "
             "over by default, and what happens to its gradient when T grows?"),
            (_objective(_one, hard_T=True),
             "the average is right now; two faults are left: the soft part has no T**2, and the hard labels are "
             "compared with softened logits"),
            (_objective(by_class=True, hard_T=True),
             "T**2 is in; two faults are left: F.kl_div averages over classes too unless told reduction='batchmean', "
             "and the hard labels are compared with softened logits"),
            (_objective(_one),
             "one fault is left: T^2 is missing, so the soft part fades as T grows; multiply it by T**2"),
            (_objective(by_class=True),
             "one fault is left: the KL is averaged over classes too, so it is C times too small; give F.kl_div "
             "reduction='batchmean'"),
            (_objective(hard_T=True),
             "one fault is left: the hard labels are compared with softened logits; T is for the soft part, so give "
             "F.cross_entropy the student's logits as they are"),
            (_objective(lambda T: T),
             "multiplied by T once; the gradient of the soft part shrinks as 1/T^2, so multiply by T**2"),
            (lambda s, t, labels, T, w: T**2 * _objective(_one)(s, t, labels, T, w),
             "T**2 multiplies the hard labels too, so the balance still depends on T; it belongs to the soft part "
             "alone"),
            (lambda s, t, labels, T, w: _objective()(s, t, labels, T, 1 - w),
             "the weights are swapped: `weight` belongs to the soft part"),
            (lambda s, t, labels, T, w: _objective()(s, s, labels, T, w),
             "the soft part is 0: both of its distributions come from the same model"),
            (lambda s, t, labels, T, w: w * _soft(t, s, T) + (1 - w) * F.cross_entropy(s, labels),
             "teacher and student are swapped in the KL: F.kl_div takes the student's log-probabilities first, then "
             "the teacher's probabilities"),
        )),
    "7.2": Exercise(
        goal="A row's logits are where `order` holds its number: look the row up, never count lines.",
        right=lambda stored, order, rows: stored[torch.argsort(order)[rows]],
        inputs=_cache,
        mistakes=(
            (lambda stored, order, rows: stored[:len(rows)],
             "these are the first lines of the cache, whatever texts the batch holds; look up each of `rows`"),
            (lambda stored, order, rows: stored[rows],
             "this takes line r for row r, but line i belongs to row order[i]; find the line on which `order` holds r"),
            (lambda stored, order, rows: stored[order[rows]],
             "order[r] is the row on line r; what is wanted is the line of row r, the other way round: invert the "
             "permutation, for example with torch.argsort(order)"),
            (lambda stored, order, rows: stored[torch.isin(order, rows)],
             "the right lines, but in the cache's order; a batch's answers must come in the order of `rows`"),
            (lambda stored, order, rows: stored[torch.argsort(order)][:len(rows)],
             "the cache is sorted by row now, which is half of it; then take `rows` of it, not the first lines"),
            (lambda stored, order, rows: stored[torch.argsort(order)],
             "the cache is sorted by row now, which is half of it; then take the rows of the batch"),
        )),
    "7.3": Exercise(
        goal="Squares count where both tokens are real, and the mean is over those pairs and the heads.",
        right=losses.attention_mse,
        inputs=_scores,
        mistakes=(
            (lambda s, t, mask: F.mse_loss(s, t),
             "infinite: where a real token looks at padding, the scores are the lowest numbers that float32 and "
             "float16 hold, and the square of their difference has no place in float32. Leave out the pairs whose "
             "second token (the last axis) is padding"),
            (_keys_only,
             "padding as the second token is out, but pairs whose first token is padding still count; a pair needs "
             "both: mask[:, None, :, None] and mask[:, None, None, :]"),
            (lambda s, t, mask: ((s - t).square() * _pairs(mask)).sum() / _pairs(mask).sum() / s.shape[1],
             "the result is NaN: infinity times 0. Put 0 in place of padding before squaring, or select the real "
             "pairs"),
            (lambda s, t, mask: _squares(s, t, _pairs(mask)).mean(),
             "padding adds nothing to the sum but still counts in the mean, so more padding means a smaller loss (as "
             "in TinyBERT's released code); divide by the number of real pairs"),
            (lambda s, t, mask: _squares(s, t, _pairs(mask)).sum() / _pairs(mask).sum(),
             "too large by the number of heads: each real pair has one score a head; divide by that number too"),
            (_text_by_text,
             "each text has its own mean here, so a pair in a short text weighs more; take one mean over all real "
             "pairs of the batch"),
            (lambda s, t, mask: _squares(s, t, _pairs(mask)).sum(),
             "the sum is right; divide it by the number of real pairs times heads"),
        )),
    "7.4": Exercise(
        goal="Sound: 0 for equal models and above 0 for others, blind to what is not there, even in T.",
        right=detector(),
        inputs=draw_loss,
        mistakes=(
            (detector("alarm"),
             "it lets a loss pass that compares the teacher with itself: ask also that loss(s, t, 8) is above 0, for "
             "s and t differ"),
            (detector("flat"),
             "it lets a loss without T^2 pass: compare the size of the gradient with respect to s at T = 16 and at "
             "T = 8"),
            (detector("absent"),
             "it lets a loss pass that averages over classes: append a class with the logit -1e4 to both models, and "
             "ask for the same value"),
            (detector("zero"),
             "it lets a loss pass that softens only the student: ask also that loss(t, t, 8) is 0"),
            (lambda loss, s, t: not detector()(loss, s, t),
             "the verdict is turned round: return True for a sound loss"),
            (lambda loss, s, t: True, "it calls every loss sound; at least one of the four tests must be able to fail"),
            (lambda loss, s, t: False,
             "it calls every loss wrong, the right one too; a test is too strict: allow for rounding, say 1e-4"),
            (detector("absent", "flat"),
             "the values of loss(t, t, 8) and loss(s, t, 8) are looked at, and that is half of it: losses without T^2 "
             "and with a mean over classes pass"),
        )),
}
