"""Exercises of lesson 04: attention scores, hidden states through a projection, augmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .exercise import Exercise, logits


def _mask(g: torch.Generator, batch: int, length: int) -> Tensor:
    """Texts of different lengths; the longest fills the batch."""
    lengths = torch.randint(2, length, (batch, 1), generator=g)
    lengths[0] = length
    return (torch.arange(length) < lengths).long()


def attention_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of student and teacher, and the mask of the texts."""
    batch, heads, length = (int(torch.randint(3, 6, (), generator=g)) for _ in range(3))
    shape = batch, heads, length + 2, length + 2
    return logits(g, *shape), logits(g, *shape), _mask(g, batch, length + 2)


def _hidden_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, length = (int(torch.randint(3, 6, (), generator=g)) for _ in range(2))
    length += 2
    return logits(g, batch, length, 3), logits(g, batch, length, 5), logits(g, 3, 5), _mask(g, batch, length)


def _augment_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    length, K = (int(torch.randint(5, 12, (), generator=g)) for _ in range(2))
    ids, candidates = torch.randint(10, 50, (length,), generator=g), torch.randint(50, 99, (length, K), generator=g)
    chance, pick = torch.rand(length, generator=g), torch.rand(length, generator=g)
    chance[0], chance[-1] = 0.1, 0.9        # some token changes and some does not
    return ids, candidates, chance, pick, 0.3 + 0.4 * torch.rand((), generator=g).item()


def _squares(s: Tensor, t: Tensor) -> Tensor:
    return (s - t) ** 2


def _keys(mask: Tensor) -> Tensor:
    return mask[:, None, None, :]


def _queries(mask: Tensor) -> Tensor:
    return mask[:, None, :, None]


def _over(values: Tensor, real: Tensor) -> Tensor:
    return values[real.bool().expand_as(values)].mean()


def _augment(ids: Tensor, candidates: Tensor, chance: Tensor, pick: Tensor, p: float,
             which: Tensor | None = None) -> Tensor:
    which = (pick * candidates.shape[1]).long() if which is None else which
    return torch.where(chance < p, candidates[torch.arange(len(ids)), which], ids)


EXERCISES = {
    "4.1": Exercise(
        goal="The scores are compared head by head, over the pairs of two real tokens.",
        right=lambda s, t, m: losses.attention_mse(s, t, m),
        inputs=attention_inputs,
        mistakes=(
            (lambda s, t, m: _squares(s, t).mean(),
             "padding is counted: the mean runs over all pairs; keep those whose query and key are both real"),
            (lambda s, t, m: _over(_squares(s, t), _keys(m)),
             "only the keys are masked; a query that is padding has no say either: both tokens of a pair must be real"),
            (lambda s, t, m: _over(_squares(s, t), _queries(m)),
             "only the queries are masked; a key that is padding must go too: both tokens of a pair must be real"),
            (lambda s, t, m: (_squares(s, t) * _keys(m) * _queries(m)).mean(),
             "padding is set to 0 but still counted in the mean, so the loss shrinks when padding is added (TinyBERT's "
             "released code does the like); divide by the number of real pairs"),
            (lambda s, t, m: (_squares(s, t) * _keys(m)).mean(),
             "keys that are padding are set to 0 but still counted in the mean, and queries are not masked; divide by "
             "the number of real pairs"),
            (lambda s, t, m: (_squares(s, t) * _keys(m) * _queries(m)).sum(),
             "this is the sum; divide by the number of pairs, over all texts and heads"),
            (lambda s, t, m: (_squares(s, t) * _keys(m) * _queries(m)).sum() / (_keys(m) * _queries(m)).sum(),
             "the sum over heads is divided by the pairs of one head only, so it is as many times too large as there "
             "are heads"),
            (lambda s, t, m: (_squares(s, t) * _keys(m) * _queries(m)).sum() / m.sum(),
             "this divides by the number of tokens; it should be the number of pairs of tokens, times the heads"),
            (lambda s, t, m: _over(_squares(s.softmax(-1), t.softmax(-1)), _keys(m) * _queries(m)),
             "these are probabilities; TinyBERT compares the scores before the softmax"),
            (lambda s, t, m: losses.attention_kl(s, t, m),
             "this is the KL of probabilities (MobileBERT's and MiniLM's loss); TinyBERT takes the MSE of the scores"),
            (lambda s, t, m: _over(s - t, _keys(m) * _queries(m)),
             "the differences are not squared, so positive and negative ones cancel"),
            (lambda s, t, m: _over((s - t).abs(), _keys(m) * _queries(m)),
             "these are absolute differences; MSE squares them"),
            (lambda s, t, m: _over(_squares(s, t), _keys(m) * _queries(m)).sqrt(),
             "the root is one step too many: MSE, not RMSE"),
            (lambda s, t, m: torch.stack([_squares(s, t)[i, :, :n, :n].mean() for i, n in enumerate(m.sum(1))]).mean(),
             "this is a mean of each text's mean, in which a short text's pairs weigh more; take one mean over all "
             "pairs"),
        )),
    "4.2": Exercise(
        goal="The student's states go through W first; the mean is over real tokens and the teacher's width.",
        right=lambda s, t, W, m: losses.hidden_mse(s @ W, t, m),
        inputs=_hidden_inputs,
        mistakes=(
            (lambda s, t, W, m: F.mse_loss(s @ W, t),
             "padding is counted; keep the real tokens only: [mask.bool()]"),
            (lambda s, t, W, m: (_squares(s @ W, t) * m[..., None]).mean(),
             "padding is set to 0 but still counted in the mean; divide by the number of real tokens times the width"),
            (lambda s, t, W, m: (_squares(s @ W, t) * m[..., None]).sum() / m.sum(),
             "summed over the width: MSE is the mean over the teacher's d numbers as well"),
            (lambda s, t, W, m: (_squares(s @ W, t) * m[..., None]).sum(),
             "this is the sum; take the mean over real tokens and over the width"),
            (lambda s, t, W, m: losses.hidden_mse(t @ W.T, s, m),
             "the teacher was projected down to the student; equation 8 projects the student up to the teacher"),
            (lambda s, t, W, m: losses.hidden_mse(F.layer_norm(s @ W, W.shape[1:]), F.layer_norm(t, W.shape[1:]), m),
             "the states were normalised first; equation 8 compares them as they are"),
            (lambda s, t, W, m: losses.hidden_cosine(s @ W, t, m),
             "this is DistilBERT's cosine loss; TinyBERT takes the MSE"),
            (lambda s, t, W, m: losses.hidden_mse(s @ W, t, m).sqrt(), "the root is one step too many: MSE, not RMSE"),
        )),
    "4.3": Exercise(
        goal="Each token keeps its place; with probability p one of its own candidates stands there instead.",
        right=_augment,
        inputs=_augment_inputs,
        mistakes=(
            (lambda ids, c, chance, pick, p: _augment(ids, c, 1 - chance, pick, 1 - p),
             "the test is turned round: this replaces with probability 1 - p; replace where chance < p"),
            (lambda ids, c, chance, pick, p: _augment(ids, c, chance, pick, 1.0),
             "every token is replaced; keep those whose chance is not below p"),
            (lambda ids, c, chance, pick, p: _augment(ids, c, chance, pick, p, torch.zeros_like(ids)),
             "always the first candidate: take number floor(pick * K)"),
            (lambda ids, c, chance, pick, p: _augment(ids, c, chance, pick, p, (chance * c.shape[1]).long()),
             "`chance` chooses the candidate too, so that replaced tokens only get early candidates; use `pick`"),
            (lambda ids, c, chance, pick, p: _augment(ids, c, chance, pick, p, (pick * (c.shape[1] - 1)).long()),
             "the last candidate is never taken: pick is below 1, so floor(pick * K) is K - 1 at most"),
            (lambda ids, c, chance, pick, p: _augment(ids, c, chance, pick, p,
                                                      (pick * (c.shape[1] - 1)).round().long()),
             "rounding gives the first and last candidate half the odds of the others; take floor(pick * K)"),
            (lambda ids, c, chance, pick, p: torch.where(chance < p, c[0][(pick * c.shape[1]).long()], ids),
             "all tokens draw from the first token's candidates; each has a row of its own: "
             "candidates[torch.arange(L), which]"),
        )),
}
