"""The losses, one function per equation. Pure: tensors in, one scalar tensor out.

Conventions, the same everywhere:

* logits have shape (..., C) with the classes last; every leading axis is a place where a
  distribution is predicted: one per example (B, C), or one per token (B, L, C);
* a loss is the mean over those places, never over classes;
* `mask`, shape (...), is true where a place counts: real tokens, not padding. The mean is then over
  the places that count;
* arithmetic is in float32 or better, whatever the models computed in;
* a class that a distribution rules out (a logit of -inf, or a probability too small for a float) weighs nothing there,
  and what stands where `mask` is false reaches neither the loss nor a gradient, NaN and infinity included;
* a temperature `T` divides logits, and a loss between tempered distributions carries T^2, so that
  its gradient keeps its size when T changes (Hinton, Vinyals, Dean 2015, section 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100      # a label of -100 says that its place does not count


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, T: float = 2.0,
                 mask: Tensor | None = None) -> Tensor:
    r"""Soft-target loss: T^2 KL(p || q), with p, q = softmax(teacher, student logits / T).

    The gradient with respect to a student logit is T (q - p) for one place: the T^2 here times the
    (q - p) / T of the paper's equation 2. The teacher's logits receive no gradient.
    Shapes (..., C), (..., C), mask (...). Source: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531),
    section 2. Their cross-entropy differs from this KL by the teacher's entropy, a constant.
    """
    return T**2 * kl_divergence(wide(teacher_logits).detach() / T, wide(student_logits) / T, mask)


def sparse_soft_targets(student_logits: Tensor, classes: Tensor, weights: Tensor, entropy: Tensor, T: float = 2.0,
                        mask: Tensor | None = None) -> Tensor:
    r"""Soft-target loss with a teacher's distribution of which a few classes are known: T^2 (-sum_i w_i log q_i - H).

    With weights that are the teacher's p in the mean, such as those of `kdlab.models.sparse`, this is `soft_targets` in
    the mean, gradient and all; with all classes and p itself it is the same. By chance it may fall below 0.
    Shapes: student (..., V), classes and weights (..., n), mask and entropy H (...), which is the teacher's at T.
    """
    log_q = F.log_softmax(_counting(student_logits, mask) / T, dim=-1).gather(-1, classes)
    return T**2 * mean_over(-_expected(_counting(weights, mask), log_q) - wide(entropy), mask)


def kl_divergence(p_logits: Tensor, q_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""KL(p || q) = sum_c p_c (log p_c - log q_c) in nats, p and q given by logits (..., C).

    Zero exactly where p = q. "Forward" KL has the teacher as p: it wants q wherever p is; swap the
    arguments for "reverse" KL, which wants q nowhere that p is not.
    """
    log_p, log_q = (F.log_softmax(_counting(x, mask), dim=-1) for x in (p_logits, q_logits))
    return mean_over(_expected(log_p.exp(), log_p - log_q), mask)


def jensen_shannon(p_logits: Tensor, q_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""JSD(p, q) = 1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats, p and q given by logits (..., C).

    The same both ways round, and at most log 2. Source: Lin 1991, section 4; in distillation of language models
    Agarwal et al. 2024 (arXiv 2306.13649), section 2.
    """
    log_p, log_q = (F.log_softmax(_counting(x, mask), dim=-1) for x in (p_logits, q_logits))
    neither = log_p.isneginf() & log_q.isneginf()       # where logaddexp has no gradient
    log_m = torch.logaddexp(*(x.masked_fill(neither, 0.0) for x in (log_p, log_q)))
    log_m = log_m.masked_fill(neither, -torch.inf)      # of the sum, twice m; as logits they are the same
    return (kl_divergence(log_p, log_m, mask) + kl_divergence(log_q, log_m, mask)) / 2


def hard_labels(student_logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy with hard labels: mean of -log q_y. Shapes (..., C) and (...), labels in 0..C-1.

    With `smoothing` e the target is (1 - e) on the label and e / C on every class (Szegedy et al.
    2016, section 7): soft, but the same for every example of a class, so it says nothing about
    which other classes an example resembles. Places labelled `IGNORED` are left out; 0 if all are.
    """
    counts = labels != IGNORED
    loss = F.cross_entropy(_counting(student_logits, counts).flatten(0, -2), labels.flatten(), ignore_index=IGNORED,
                           label_smoothing=smoothing)
    return torch.where(counts.any(), loss, 0.0)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""Mean of (z - y)^2 of a regression's outputs z (B, 1) and targets y (B,), gold labels or a teacher's outputs.

    What BERT, DistilBERT and TinyBERT fine-tune on STS-B with; TinyBERT's prediction step there reads gold labels and
    no teacher (released code). The targets receive no gradient.
    """
    return (wide(outputs).squeeze(-1) - wide(targets).detach()).square().mean()


def cross_entropy(p_logits: Tensor, q_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""H(p, q) = -sum_c p_c log q_c in nats = H(p) + KL(p || q), p and q given by logits (..., C)."""
    p = F.softmax(_counting(p_logits, mask), dim=-1)
    log_q = F.log_softmax(_counting(q_logits, mask), dim=-1)
    return mean_over(-_expected(p, log_q), mask)


def entropy(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""H(p) = -sum_c p_c log p_c in nats, p given by logits (..., C)."""
    return cross_entropy(logits, logits, mask)


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean squared difference of hidden states over real tokens and width. Shapes (..., width), mask (...).

    Source: TinyBERT (Jiao et al. 2020, arXiv 1909.10351), equations 8 and 9, the student's states already
    projected to the teacher's width; MobileBERT (Sun et al. 2020, arXiv 2004.02984), feature map transfer.
    """
    student, teacher = _real_tokens(student, teacher, mask)
    return mean_over((student - teacher).square().mean(dim=-1), mask)


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean of 1 - cos(h_student, h_teacher) over real tokens: directions agree, lengths are free.

    Shapes (..., width), mask (...). Source: DistilBERT (Sanh et al. 2019, arXiv 1910.01108), section 2, L_cos.
    """
    student, teacher = _real_tokens(student, teacher, mask)
    return mean_over(1 - F.cosine_similarity(student, teacher, dim=-1), mask)


def hint(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Half the squared Euclidean distance, 1/2 ||r(h_student) - h_teacher||^2, mean over real tokens.

    Shapes (..., width), mask (...). Source: FitNets (Romero et al. 2015, arXiv 1412.6550), hint loss; r is the
    regressor that `objectives` puts before it. `hidden_mse` is this, times 2 / width.
    """
    student, teacher = _real_tokens(student, teacher, mask)
    return mean_over((student - teacher).square().sum(dim=-1) / 2, mask)


def patient(student: Tensor, teacher: Tensor) -> Tensor:
    r"""||h_s / |h_s| - h_t / |h_t| ||^2 of two [CLS] states (B, width), mean over the batch.

    Equals 2 (1 - cos). Source: Patient-KD (Sun et al. 2019, arXiv 1908.09355), L_PT. The released code
    takes the mean over the width as well, that is, this / width: hence the paper's weights of 10 to 1000.
    """
    difference = F.normalize(wide(student), dim=-1) - F.normalize(wide(teacher).detach(), dim=-1)
    return difference.square().sum(dim=-1).mean()


def attention_mse(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    r"""Mean squared difference of attention scores, QK^T/sqrt(d) before the softmax, over heads and real pairs.

    Shapes (B, heads, L, L) twice and mask (B, L); a pair is real if both its tokens are. Source: TinyBERT,
    equation 7. Its released code takes the mean over all pairs: keys that are padding differ by zero there, and queries
    that are padding count in full.
    """
    real = _real_pairs(mask)
    squares = (wide(student_scores) - wide(teacher_scores).detach()).where(real, 0.0).square()
    return mean_over(squares, real.expand_as(squares))


def attention_kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    r"""KL(a_teacher || a_student) of attention probabilities, mean over heads and real queries.

    Shapes (B, heads, L, L) of scores and mask (B, L); padding gets no probability. Source: MobileBERT,
    attention transfer; MiniLM (Wang et al. 2020, arXiv 2002.10957), L_AT.
    """
    real = _real_pairs(mask)

    def log_probabilities(scores: Tensor) -> Tensor:
        scores = wide(scores)
        return F.log_softmax(scores.where(real, torch.finfo(scores.dtype).min), dim=-1)
    log_t, log_s = log_probabilities(teacher_scores.detach()), log_probabilities(student_scores)
    terms = torch.where(real, log_t.exp() * (log_t - log_s), 0.0).sum(dim=-1)        # (B, heads, L)
    return mean_over(terms, mask[:, None, :].expand_as(terms))


def relation_scores(states: Tensor) -> Tensor:
    r"""How the tokens relate by their states: X X^T / sqrt(d), (B, heads, L, d) -> (B, heads, L, L).

    With values for X, `attention_kl` of these is MiniLM's value-relation transfer, L_VR.
    """
    states = wide(states)
    return states @ states.transpose(-1, -2) / states.shape[-1] ** 0.5


def mean_over(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of `values` (...) over the places where `mask` (...) is true; over all without a mask.

    Selecting comes before summing, so that a NaN or infinity in padding cannot reach the sum.
    Zero if no place counts.
    """
    if mask is None:
        return values.mean()
    counts = mask.bool()
    return torch.where(counts, values, 0.0).sum() / counts.sum().clamp(min=1)


def _real_tokens(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both in float32 or better, and 0 in padding: an infinity there, times a gradient of 0, would be NaN."""
    return _counting(student, mask), _counting(teacher.detach(), mask)


def _counting(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` (..., C) in float32 or better, and 0 where it does not count: what stands there may be no number."""
    return wide(x) if mask is None else wide(x).where(mask.bool()[..., None], 0.0)


def _expected(p: Tensor, values: Tensor) -> Tensor:
    """sum_c p_c v_c, to which p_c = 0 adds nothing: left alone, 0 * inf would be NaN, here or in a gradient."""
    return (p * torch.where(p == 0, 0.0, values)).sum(dim=-1)


def _real_pairs(mask: Tensor) -> Tensor:
    real = mask.bool()
    return real[:, None, :, None] & real[:, None, None, :]      # (B, 1, L, L)


def wide(x: Tensor) -> Tensor:
    """In float32 or better, and unchanged where it is that already."""
    return x if x.dtype == torch.float64 else x.float()
