"""A distribution over a vocabulary by a few of its tokens: what a cache can keep of a teacher's answer to each token.

Logits over 30,000 tokens take 120 KB a place. The k likeliest tokens alone would tell a student that no other may
follow, and the more so the flatter the teacher is. So m tokens are drawn from the others by their probability, and
share what these weigh together:

    w_v = p_v                  for each of the k likeliest
    w_v = p_others / m         for each of the m drawn

In the mean over draws w is p, and the gradient of the soft-target loss what all logits would give. Source: Anshumann et
al. 2025 (arXiv 2503.16870), who draw all tokens from all; keeping the likeliest as they are leaves less to chance.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

LIKELIEST = DRAWN = 32
GOLDEN = (5**0.5 - 1) / 2       # its multiples, less their whole parts, are spread evenly over 0 to 1
AT_ONCE = 2**24                 # logits: several times their memory is needed
BELOW_ONE = 1 - 2**-23          # a rounded tooth of 1 would hit the last token, whatever it weighs


@dataclass(frozen=True)
class DistributionReading:
    """How a language model's logits are read where no more is asked than its distribution at temperature `T`.

    where: of `kdlab.models.tracing.WHERE`, but not everywhere.
    """

    where: str
    T: float


@dataclass(frozen=True)
class SparseTargets:
    """Distributions (..., V) at a temperature.

    classes  (..., n), the likeliest from the first on, then those drawn, of which one may come twice
    weights  (..., n), their sum is 1
    entropy  (...), in nats, of the whole distribution
    """

    classes: Tensor
    weights: Tensor
    entropy: Tensor


def sparse_targets(logits: Tensor, T: float, numbers: Tensor, likeliest: int = LIKELIEST,
                   drawn: int = DRAWN) -> SparseTargets:
    """Of logits (N, V); nothing is drawn where `likeliest` of them are all there are. In float32.

    numbers, (N,): of the places, which decide what is drawn there, so that the same is drawn every time.
    """
    places = max(1, AT_ONCE // logits.shape[-1])
    if len(logits) > places:
        parts = [sparse_targets(some, T, of, likeliest, drawn)
                 for some, of in zip(logits.split(places), numbers.split(places), strict=True)]
        return SparseTargets(*(torch.cat([getattr(part, field.name) for part in parts])
                               for field in fields(SparseTargets)))
    log_p = torch.log_softmax(logits.float() / T, dim=-1)
    p = log_p.exp()
    entropy = -torch.where(log_p.isneginf(), 0.0, p * log_p).sum(dim=-1)
    weights, classes = p.topk(min(likeliest, p.shape[-1]), dim=-1)
    if likeliest < p.shape[-1]:
        others = p.scatter(-1, classes, 0.0).cumsum(dim=-1)
        total = others[:, -1:]
        # systematic sampling: a comb of even teeth, laid by chance over the sums, hits a token as often as it weighs
        chance = (numbers.double() * GOLDEN % 1).float()[:, None]
        teeth = ((torch.arange(drawn, device=p.device) + chance) / drawn).clamp(max=BELOW_ONE)
        hit = torch.searchsorted(others, teeth * total, right=True).clamp(max=p.shape[-1] - 1)
        weights = torch.cat([weights, (total / drawn).expand(-1, drawn)], dim=-1)
        classes = torch.cat([classes, hit], dim=-1)
    return SparseTargets(classes, weights, entropy)
