"""The losses, one function per equation. Pure: tensors in, one scalar tensor out.

Conventions, the same everywhere:

* logits have shape (..., C) with the classes last; every leading axis is a place where a
  distribution is predicted: one per example (B, C), or one per token (B, L, C);
* a loss is the mean over those places, never over classes;
* `mask`, shape (...), is true where a place counts: real tokens, not padding. The mean is then over
  the places that count;
* arithmetic is in float32 or better, whatever the models computed in;
* a temperature `T` divides logits, and a loss between tempered distributions carries T^2, so that
  its gradient keeps its size when T changes (Hinton, Vinyals, Dean 2015, section 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, T: float = 2.0,
                 mask: Tensor | None = None) -> Tensor:
    r"""Soft-target loss: T^2 KL(p || q), with p, q = softmax(teacher, student logits / T).

    The gradient with respect to a student logit is T (q - p) for one place: the T^2 here times the
    (q - p) / T of the paper's equation 2. The teacher's logits receive no gradient.
    Shapes (..., C), (..., C), mask (...). Source: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531),
    section 2. Their cross-entropy differs from this KL by the teacher's entropy, a constant.
    """
    return T**2 * kl_divergence(teacher_logits.detach() / T, student_logits / T, mask)


def kl_divergence(p_logits: Tensor, q_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""KL(p || q) = sum_c p_c (log p_c - log q_c) in nats, p and q given by logits (..., C).

    Zero exactly where p = q. "Forward" KL has the teacher as p: it wants q wherever p is; swap the
    arguments for "reverse" KL, which wants q nowhere that p is not.
    """
    log_p, log_q = (F.log_softmax(_wide(x), dim=-1) for x in (p_logits, q_logits))
    # A class the teacher rules out (p = 0) adds nothing; left alone, 0 * inf would be NaN.
    terms = torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q))
    return mean_over(terms.sum(dim=-1), mask)


def hard_labels(student_logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy with hard labels: mean of -log q_y. Shapes (..., C) and (...), labels in 0..C-1.

    With `smoothing` e the target is (1 - e) on the label and e / C on every class (Szegedy et al.
    2016, section 7): soft, but the same for every example of a class, so it says nothing about
    which other classes an example resembles. Places labelled -100 are left out.
    """
    return F.cross_entropy(_wide(student_logits).flatten(0, -2), labels.flatten(),
                           label_smoothing=smoothing)


def cross_entropy(p_logits: Tensor, q_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""H(p, q) = -sum_c p_c log q_c in nats = H(p) + KL(p || q), p and q given by logits (..., C)."""
    p, log_q = F.softmax(_wide(p_logits), dim=-1), F.log_softmax(_wide(q_logits), dim=-1)
    return mean_over(-(p * log_q).sum(dim=-1), mask)


def entropy(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""H(p) = -sum_c p_c log p_c in nats, p given by logits (..., C)."""
    return cross_entropy(logits, logits, mask)


def mean_over(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of `values` (...) over the places where `mask` (...) is true; over all without a mask.

    Selecting comes before summing, so that a NaN or infinity in padding cannot reach the sum.
    Zero if no place counts.
    """
    if mask is None:
        return values.mean()
    kept = values[mask.bool()]
    return kept.sum() / max(kept.numel(), 1)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
