"""Exercises of lesson 05: folding NoNorm, three tokens in one, attention transfer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .exercise import Exercise, logits
from .lesson_04 import attention_inputs


def _linear_and_norm(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, into = (int(torch.randint(3, 7, (), generator=g)) for _ in range(2))
    into += out * (into == out)        # never square, or a wrong axis would pass
    return logits(g, out, into), logits(g, out), logits(g, out), logits(g, out)


def _embeddings(g: torch.Generator) -> tuple[Tensor]:
    batch, length, width = (int(torch.randint(3, 7, (), generator=g)) for _ in range(3))
    return (logits(g, batch, length, width),)


def _next(x: Tensor) -> Tensor:
    return F.pad(x[:, 1:], (0, 0, 0, 1))


def _previous(x: Tensor) -> Tensor:
    return F.pad(x[:, :-1], (0, 0, 1, 0))


def _kl(s: Tensor, t: Tensor, mask: Tensor, ruled_out: bool = True) -> Tensor:
    """KL for each query, (B, heads, L); with `ruled_out` padding has no probability."""
    if ruled_out:
        s, t = (x.masked_fill(mask[:, None, None, :] == 0, -1e9) for x in (s, t))
    log_s, log_t = s.log_softmax(-1), t.log_softmax(-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def _ce(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    s, t = (x.masked_fill(mask[:, None, None, :] == 0, -1e9) for x in (s, t))
    return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1)


def _over_queries(kl: Tensor, mask: Tensor) -> Tensor:
    return kl[mask[:, None, :].bool().expand_as(kl)].mean()


EXERCISES = {
    "5.1": Exercise(
        goal="gamma stretches each output, that is, each row of W; the bias becomes gamma * b + beta.",
        right=lambda W, b, gamma, beta: gamma[:, None] * W,
        inputs=_linear_and_norm,
        mistakes=(
            (lambda W, b, gamma, beta: W, "this leaves gamma out: each output is multiplied by its gamma"),
            (lambda W, b, gamma, beta: W / gamma[:, None], "divided by gamma; NoNorm multiplies"),
            (lambda W, b, gamma, beta: gamma[:, None] * W + beta[:, None],
             "beta does not depend on x, so it belongs to the bias, not to the weight"),
            (lambda W, b, gamma, beta: gamma * b + beta,
             "this is the folded bias, and right; the exercise asks for the weight"),
            (lambda W, b, gamma, beta: gamma[:, None] * (W + b[:, None]),
             "b was added to the weight; it is added to W x, and belongs to the bias"),
            (lambda W, b, gamma, beta: (gamma[:, None] * W).T, "transposed: the weight keeps its shape (out, in)"),
        )),
    "5.2": Exercise(
        goal="Each token is followed by its right neighbour's vector, its own, and its left neighbour's.",
        right=lambda e: torch.cat([_next(e), e, _previous(e)], -1),
        inputs=_embeddings,
        mistakes=(
            (lambda e: torch.cat([_previous(e), e, _next(e)], -1),
             "the order is turned round: next, own, previous. (A trained layer would not mind; copied weights do)"),
            (lambda e: torch.cat([e.roll(-1, 1), e, e.roll(1, 1)], -1),
             "roll brings the first token round to the end; where there is no neighbour, put zeros"),
            (lambda e: torch.cat([e.roll(1, 1), e, e.roll(-1, 1)], -1),
             "two things: roll wraps around at the ends, where zeros belong, and the order is next, own, previous"),
            (lambda e: torch.cat([_next(e), e, _previous(e)], 1),
             "put side by side along the tokens, so that there are three times as many; it should be along the width"),
            (lambda e: _next(e) + e + _previous(e),
             "the three are added; put them side by side: torch.cat(..., dim=-1)"),
            (lambda e: torch.stack([_next(e), e, _previous(e)], -1),
             "stack makes a new axis; torch.cat puts them side by side in the last one"),
            (lambda e: torch.cat([F.pad(e[1:], (0, 0, 0, 0, 0, 1)), e, F.pad(e[:-1], (0, 0, 0, 0, 1, 0))], -1),
             "shifted along the texts of the batch; the tokens are axis 1"),
        )),
    "5.3": Exercise(
        goal="Each head's attention is compared for each real query, over the real keys.",
        right=lambda s, t, m: losses.attention_kl(s, t, m),
        inputs=attention_inputs,
        mistakes=(
            (lambda s, t, m: _over_queries(_kl(t, s, m), m),
             "teacher and student are swapped: the mean is taken over the teacher's probabilities"),
            (lambda s, t, m: _kl(s, t, m).mean(),
             "queries that are padding are counted; take the mean over the real ones"),
            (lambda s, t, m: _over_queries(_kl(s, t, m, ruled_out=False), m),
             "padding gets attention: rule its keys out before the softmax, with masked_fill(..., -1e9)"),
            (lambda s, t, m: _kl(s, t, m, ruled_out=False).mean(),
             "padding takes part, as key and as query: rule the keys out before the softmax, and leave the queries out "
             "of the mean"),
            (lambda s, t, m: (_kl(s, t, m) * m[:, None, :]).mean(),
             "padded queries are set to 0 but still counted in the mean; divide by the number of real ones, times the "
             "heads"),
            (lambda s, t, m: (_kl(s, t, m) * m[:, None, :]).sum() / m.sum(),
             "the sum over heads is divided by the queries of one head, so it is as many times too large as there are "
             "heads"),
            (lambda s, t, m: (_kl(s, t, m) * m[:, None, :]).sum(),
             "this is the sum; take the mean over heads and queries"),
            (lambda s, t, m: losses.attention_mse(s, t, m),
             "this is TinyBERT's loss, MSE of the scores; MobileBERT compares probabilities by KL"),
            (lambda s, t, m: _over_queries(_kl(s, t, m), m) / s.shape[-1],
             "the KL is averaged over the keys too; sum over the keys, and average over queries and heads"),
            (lambda s, t, m: _over_queries(_ce(s, t, m), m),
             "this is the cross-entropy (as in the released code): the same gradient, but not 0 for a perfect student; "
             "subtract the teacher's entropy"),
        )),
}
