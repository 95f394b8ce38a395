"""Exercises of lesson 03: which layers a student starts as, soft targets and cosine over real tokens, masking odds."""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..models import layer_map
from .exercise import Exercise, logits, temperature

DEPTHS = ((6, 12), (4, 12), (3, 7), (4, 9), (6, 8), (2, 4), (4, 24))     # student, teacher; no layer falls half-way


def _integer(g: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=g))


def _mask(g: torch.Generator, batch: int, length: int) -> Tensor:
    """Real tokens (B, L): the first text fills its row, the others do not."""
    real = torch.randint(2, length - 1, (batch,), generator=g)
    real[0] = length
    return (torch.arange(length) < real[:, None]).long()


# 3.1: which teacher layers a student starts as, counted from 0

def _start(M: int, N: int) -> list[int]:
    return [n - 1 for _, n in layer_map.spread(M, N)]


def _step(M: int, N: int) -> float:
    return (N - 1) / (M - 1)


# 3.2: soft targets over the real tokens of a masked language model

def _word_logits(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    batch, length = _integer(g, 3, 6), _integer(g, 6, 9)
    return logits(g, batch, length, 11), logits(g, batch, length, 11), _mask(g, batch, length), temperature(g)


def _kl(s: Tensor, t: Tensor, T: float = 1.0, dim: int = -1) -> Tensor:
    """KL(p || q) a token, (B, L)."""
    log_p, log_q = (F.log_softmax(x / T, dim) for x in (t, s))
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _over_real(values: Tensor, mask: Tensor) -> Tensor:
    return values[mask.bool()].mean()


def _by_text(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of a text, then over texts."""
    return ((values * mask).sum(1) / mask.sum(1)).mean()


# 3.3: the cosine loss over real tokens

def _states(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    batch, length = _integer(g, 3, 6), _integer(g, 6, 9)
    student = logits(g, batch, length, 7)
    return student, student + logits(g, batch, length, 7), _mask(g, batch, length)


def _apart(s: Tensor, t: Tensor, dim: int = -1) -> Tensor:
    return 1 - F.cosine_similarity(s, t, dim=dim)


# 3.4: the odds of being masked

def _counts(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Counts of 20 tokens, far apart, two of them 0; and the ids of three special tokens, which are frequent."""
    counts = (10 ** (4 * torch.rand(20, generator=g))).round()
    order = torch.randperm(20, generator=g)
    counts[order[:2]] = 0
    counts[order[2:5]] = 5_000
    return counts, order[2:5]


def _odds(counts: Tensor, special: Tensor, power: float = -0.7, least: float = 1.0) -> Tensor:
    odds = counts.clip(min=least) ** power
    odds[special] = 0
    return odds


def _shared(odds: Tensor) -> Tensor:
    return odds / odds.sum()


def _emptied(values: Tensor, special: Tensor) -> Tensor:
    values = values.clone()
    values[special] = 0
    return values


EXERCISES = {
    "3.1": Exercise(
        goal="Student layer m starts as teacher layer m (N - 1) / (M - 1), to the nearest, both counted from 0: the "
             "first from the first, the last from the last.",
        right=_start,
        inputs=lambda g: DEPTHS[_integer(g, 0, len(DEPTHS))],
        mistakes=(
            (lambda M, N: [n + 1 for n in _start(M, N)],
             "these are the right layers counted from 1; here they are counted from 0, as in the released code"),
            (layer_map.spread, "these are pairs, counted from 1; return the teacher's layers only, counted from 0"),
            (lambda M, N: [(m, n) for m, n in enumerate(_start(M, N))],
             "these are pairs; return a list of the teacher's layers only"),
            (lambda M, N: [int(m * N / M) for m in range(M)],
             "a stride of N / M from the first layer never reaches the teacher's last one; spread over the N - 1 "
             "steps from layer 0 to layer N - 1"),
            (lambda M, N: [m * (N // M) for m in range(M)],
             "a stride of N // M from the first layer never reaches the teacher's last one; spread over the N - 1 "
             "steps from layer 0 to layer N - 1, and round afterwards"),
            (lambda M, N: [n - 1 for _, n in layer_map.uniform(M, N)],
             "this is the map of TinyBERT: the last layer is there and the first is not; DistilBERT starts with both"),
            (lambda M, N: [int(m * _step(M, N)) for m in range(M)],
             "the step is right, but the numbers are rounded down; take the nearest: round(...)"),
            (lambda M, N: [ceil(m * _step(M, N) - 1e-9) for m in range(M)],
             "the step is right, but the numbers are rounded up; take the nearest: round(...)"),
            (lambda M, N: [m * _step(M, N) for m in range(M)],
             "the step is right; layers have whole numbers, so round to the nearest"),
            (lambda M, N: [m * ((N - 1) // (M - 1)) for m in range(M)],
             "the step is rounded before it is multiplied, so the error grows with m; multiply first, then round"),
            (lambda M, N: [m * round(_step(M, N)) for m in range(M)],
             "the step is rounded before it is multiplied, so the error grows with m; multiply first, then round"),
            (lambda M, N: [round(m * N / (M - 1)) for m in range(M)],
             "the last number is N, and counted from 0 the last layer is N - 1: there are N - 1 steps from first to "
             "last"),
            (lambda M, N: [round(m * (N - 1) / M) for m in range(M)],
             "the last layer is not reached: M layers have M - 1 steps between them, so divide by M - 1"),
            (lambda M, N: list(range(M)), "these are the teacher's first M layers; spread them from first to last"),
            (lambda M, N: list(range(N - M, N)),
             "these are the teacher's last M layers; spread them from first to last"),
            (lambda M, N: _start(M, N)[::-1], "the order is turned round: student layer 0 starts as teacher layer 0"),
        )),
    "3.2": Exercise(
        goal="T^2 times KL(p || q), summed over the vocabulary, averaged over the real tokens.",
        right=lambda s, t, mask, T: losses.soft_targets(s, t, T, mask),
        inputs=_word_logits,
        mistakes=(
            (lambda s, t, mask, T: _over_real(_kl(s, t, T), mask),
             "T^2 is missing; multiply by T**2, so that the weights 5, 2 and 1 keep their meaning when T changes"),
            (lambda s, t, mask, T: T * _over_real(_kl(s, t, T), mask), "multiplied by T once; it is T**2"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T).mean(),
             "padding counts as if it were words; take the mean over the tokens where the mask is 1"),
            (lambda s, t, mask, T: _kl(s, t, T).mean(),
             "two things: padding counts as if it were words, and T^2 is missing"),
            (lambda s, t, mask, T: T**2 * (_kl(s, t, T) * mask).mean(),
             "padding is set to 0 and then counted in the mean, so the loss shrinks with the padding; divide by the "
             "number of real tokens, mask.sum()"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s, t, T), mask) / s.shape[-1],
             "averaged over the vocabulary too (reduction='mean' does that), so it is V times too small; sum over the "
             "last axis"),
            (lambda s, t, mask, T: _over_real(_kl(s, t, T), mask) / s.shape[-1],
             "two things: T^2 is missing, and the KL is averaged over the vocabulary; sum over the last axis"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T).mean() / s.shape[-1],
             "two things: padding counts, and the KL is averaged over the vocabulary; sum over the last axis, and take "
             "the mean over the real tokens"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T).sum() / len(s),
             "reduction='batchmean' divides by the first axis only, here the texts: this sums over the tokens, padding "
             "too; select the real tokens first, logits[mask.bool()], which leaves (tokens, V)"),
            (lambda s, t, mask, T: T**2 * (_kl(s, t, T) * mask).sum() / len(s),
             "divided by the number of texts; here each real token counts alike, so divide by mask.sum()"),
            (lambda s, t, mask, T: T**2 * (_kl(s, t, T) * mask).sum(),
             "summed over the tokens; average over the real ones: divide by mask.sum()"),
            (lambda s, t, mask, T: T**2 * _by_text(_kl(s, t, T), mask),
             "averaged within each text and then over texts, so a word in a short text counts for more; here each real "
             "token counts alike"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(t, s, T), mask),
             "teacher and student are swapped: the teacher's p is the distribution the average is taken over. "
             "F.kl_div takes the student's log-probabilities first"),
            (lambda s, t, mask, T: _over_real(_kl(t, s, T), mask),
             "two things: teacher and student are swapped, and T^2 is missing"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s, t, T, dim=1), mask),
             "softmax over the wrong axis: each token has its own distribution over the vocabulary, so use dim=-1"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s, t), mask),
             "T^2 is there, but nothing is softened: divide both models' logits by T before softmax"),
            (lambda s, t, mask, T: _over_real(_kl(s, t), mask),
             "T is not used; divide both models' logits by it, and multiply the loss by T**2"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s * T, t, T), mask),
             "only the teacher is softened; divide the student's logits by T too"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s, t * T, T), mask),
             "only the student is softened; divide the teacher's logits by T too"),
            (lambda s, t, mask, T: T**2 * losses.cross_entropy(t / T, s / T, mask),
             "this is the cross-entropy, which does not reach 0 when the student is perfect: subtract the teacher's "
             "entropy, or use KL"),
            (lambda s, t, mask, T: T**2 * _over_real(_kl(s, t, T), 1 - mask),
             "the mask is turned round: it is 1 where a token is real, and this is the loss of the padding"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T)[mask].mean(),
             "a mask of numbers picks rows 0 and 1 again and again; make it true and false: mask.bool()"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T)[mask.bool()],
             "one number per real token is right so far; take their mean"),
            (lambda s, t, mask, T: T**2 * _kl(s, t, T), "one number per token is right so far; take the mean over the "
             "real ones"),
        )),
    "3.3": Exercise(
        goal="1 - cos is 0 where the two states point the same way, whatever their lengths; the mean is over real "
             "tokens.",
        right=losses.hidden_cosine,
        inputs=_states,
        mistakes=(
            (lambda s, t, mask: 1 - _over_real(_apart(s, t), mask),
             "this is the cosine similarity, which grows as the student gets better; a loss falls, so take 1 - cos"),
            (lambda s, t, mask: _over_real(_apart(s, t), mask) - 1,
             "this is -cos: its gradient is right, but its floor is -1; take 1 - cos, which is 0 for a perfect copy"),
            (lambda s, t, mask: _apart(s, t).mean(),
             "padding counts as if it were words; take the mean over the tokens where the mask is 1"),
            (lambda s, t, mask: 1 - _apart(s, t).mean(),
             "two things: padding counts, and this is the similarity; take 1 - cos, over the real tokens"),
            (lambda s, t, mask: (_apart(s, t) * mask).mean(),
             "padding is set to 0 and then counted in the mean, so the loss shrinks with the padding; divide by the "
             "number of real tokens, mask.sum()"),
            (lambda s, t, mask: 1 - ((1 - _apart(s, t)) * mask).mean(),
             "padding gets the cosine 0 and is counted in the mean, as if it were far off; take the mean over the real "
             "tokens only"),
            (lambda s, t, mask: (_apart(s, t) * mask).sum(),
             "summed over the tokens; average over the real ones: divide by mask.sum()"),
            (lambda s, t, mask: (_apart(s, t) * mask).sum() / len(s),
             "divided by the number of texts; here each real token counts alike, so divide by mask.sum()"),
            (lambda s, t, mask: _by_text(_apart(s, t), mask),
             "averaged within each text and then over texts, so a word in a short text counts for more; here each real "
             "token counts alike"),
            (lambda s, t, mask: _apart(s, t, dim=1).mean(),
             "the cosine runs over the tokens: F.cosine_similarity has dim=1 unless told otherwise; the state of one "
             "token is the last axis, dim=-1. (And padding counts.)"),
            (lambda s, t, mask: _apart(s * mask[..., None], t * mask[..., None], dim=1).mean(),
             "the cosine runs over the tokens: F.cosine_similarity has dim=1 unless told otherwise; the state of one "
             "token is the last axis, dim=-1"),
            (lambda s, t, mask: _over_real(1 - (s * t).sum(-1), mask),
             "this is a dot product, which also grows with the lengths of the two states; divide by both lengths"),
            (lambda s, t, mask: 2 * _over_real(_apart(s, t), mask),
             "twice too large: the squared distance of two normalised states is 2 (1 - cos)"),
            (lambda s, t, mask: losses.hidden_mse(s, t, mask),
             "this is the mean squared difference, which minds the lengths too; the loss compares directions"),
            (lambda s, t, mask: _over_real(_apart(s, t), 1 - mask),
             "the mask is turned round: it is 1 where a token is real, and this is the loss of the padding"),
            (lambda s, t, mask: _apart(s, t)[mask].mean(),
             "a mask of numbers picks rows 0 and 1 again and again; make it true and false: mask.bool()"),
            (lambda s, t, mask: _apart(s, t)[mask.bool()],
             "one number per real token is right so far; take their mean"),
            (lambda s, t, mask: _apart(s, t),
             "one number per token is right so far; take the mean over the real ones"),
        )),
    "3.4": Exercise(
        goal="A word a hundred times as frequent is hidden 25 times less readily each time it occurs.",
        right=lambda counts, special: _shared(_odds(counts, special)),
        inputs=_counts,
        mistakes=(
            (_odds, "these odds are right but do not sum to 1; divide by their sum"),
            (lambda counts, special: _shared(counts.clip(min=1) ** -0.7),
             "the special tokens can be hidden; set their odds to 0 before dividing by the sum"),
            (lambda counts, special: _emptied(_shared(counts.clip(min=1) ** -0.7), special),
             "the special tokens were set to 0 after dividing, so the rest no longer sum to 1; set them to 0 first"),
            (lambda counts, special: _shared(_odds(counts, special, 0.7)),
             "the sign of the power is missing: this hides frequent words more readily; rare ones are wanted, -0.7"),
            (lambda counts, special: _shared(_odds(counts, special, -1.0)),
             "this is 1 / count; the power is -0.7, which favours rare words less"),
            (lambda counts, special: _shared(_odds(counts, special, -0.7, least=0.0)),
             "the result has NaN: 0 to a negative power is infinite; count a token that never occurs as 1: "
             "counts.clip(min=1)"),
            (lambda counts, special: _shared(_odds(counts + 1, special)),
             "1 was added to every count; only tokens that never occur count as 1: counts.clip(min=1)"),
            (lambda counts, special: _shared(_odds(counts, special) * (counts > 0)),
             "a token that does not occur here may occur elsewhere; count it as 1, rather than never hiding it"),
            (lambda counts, special: _shared(counts * _odds(counts, special)),
             "these are the shares of the words among the hidden tokens; the odds are per occurrence, count ** -0.7"),
            (lambda counts, special: _odds(counts, special).softmax(-1),
             "softmax takes exponentials first; odds are positive already, so divide by their sum"),
            (lambda counts, special: _shared(_odds(counts, special).bool().double()),
             "every token has the same odds, as in BERT; use count ** -0.7"),
        )),
}
