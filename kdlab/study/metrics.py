"""What a model is worth and what it costs: accuracy, fidelity, calibration, size, FLOPs, latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .. import losses
from ..data.batches import Rows
from ..engine.prediction import predict
from ..errors import KdlabError
from ..models import max_tokens_of
from ..models.tracing import trace


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The part of the rows whose largest logit is the label's. Shapes (n, C), (n,)."""
    return (logits.argmax(dim=-1) == labels).double().mean().item()


def fidelity(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """The part of the rows on which student and teacher give the same answer, right or wrong."""
    return (student_logits.argmax(dim=-1) == teacher_logits.argmax(dim=-1)).double().mean().item()


def retention(student_score: float, teacher_score: float) -> float:
    """Student score / teacher score."""
    return student_score / teacher_score


def distance(p: Tensor, q_logits: Tensor) -> float:
    """Mean KL(p || q) in nats between probabilities p (n, C), such as the truth, and a model's logits."""
    return losses.kl_divergence(p.double().log(), q_logits.double()).item()


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence - accuracy| over equal-width bins of confidence,
    weighted by the rows in them (Guo et al. 2017, eq. 3)."""
    confidence, answer = logits.double().softmax(dim=-1).max(dim=-1)
    return expected_calibration_error(confidence, answer == labels, bins)


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """The same from the confidence in each answer, (n,), and whether it was right, (n,)."""
    confidence, right = confidence.double(), right.double()
    at = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, at, right - confidence)
    return (gap.abs().sum() / len(right)).item()


def linear_cka(x: Tensor, y: Tensor) -> float:
    r"""Linear centred kernel alignment of two representations of the same n places, (n, a) and (n, b), from 0 to 1.

        CKA = |Yc^T Xc|_F^2 / (|Xc^T Xc|_F |Yc^T Yc|_F),    Xc, Yc: columns minus their means

    1 where the one is a rotated and evenly stretched copy of the other, whatever the widths. 0 where a representation
    is the same at all places, which tells nothing. Source: Kornblith et al. 2019 (arXiv 1905.00414), section 3.
    """
    x, y = (z.double() - z.double().mean(dim=0) for z in (x, y))
    size = (x.T @ x).norm() * (y.T @ y).norm()
    return ((y.T @ x).square().sum() / size).item() if size > 0 else 0.0


@torch.no_grad()
def layer_similarity(student: nn.Module, teacher: nn.Module, data: Dataset) -> Tensor:
    """`linear_cka` of every layer of the student with every layer of the teacher over the real tokens of `data`.

    Shape (student layers + 1, teacher layers + 1); layer 0 is the embeddings' output. `data`, encoded rows, is read
    in one batch: a few dozen texts are enough. Computed in eval mode; the models are left in the mode they came in.
    """
    rows = Rows(data, student.config.pad_token_id or 0)
    batch = rows.batch(list(range(len(rows))))
    real, states = batch["attention_mask"].bool(), []
    for model in (student, teacher):
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        try:
            seen = trace(model, {k: v.to(device) for k, v in batch.items()}, ("hidden_states",)).hidden_states
        finally:
            model.train(was_training)
        states.append([state.cpu()[real] for state in seen])
    return torch.tensor([[linear_cka(x, y) for y in states[1]] for x in states[0]])


def headline(scores: Collection[str]) -> str:
    """Of the names of a task's scores the one that it is judged by."""
    return "accuracy" if "accuracy" in scores else "pearson"


def correlations(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Pearson's and Spearman's correlation of a regression's outputs (n,) with its targets (n,), as GLUE scores STS-B;
    0 where either is constant, which tells nothing."""
    from scipy.stats import pearsonr, spearmanr

    x, y = outputs.double().numpy(), targets.double().numpy()
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {"pearson": float(pearsonr(x, y).statistic), "spearman": float(spearmanr(x, y).statistic)}


def evaluate(model: nn.Module, data: Dataset, teacher_logits: Tensor | None = None) -> dict[str, float]:
    """Accuracy and calibration error on a labelled split; fidelity and KL to the teacher if its logits
    are given; KL to the truth where the split knows it. Of a regression (one output): `correlations`, mean squared
    error, and for fidelity Pearson's correlation with the teacher."""
    if "label" not in data.column_names:
        raise KdlabError("this split has no labels to score against; evaluate on a labelled one")
    logits, labels = predict(model, data), torch.tensor(data["label"][:])
    if logits.shape[1] == 1:
        outputs = logits[:, 0]
        scores = correlations(outputs, labels) | {"mse": (outputs.double() - labels).square().mean().item()}
        if teacher_logits is not None:
            scores["fidelity"] = correlations(outputs, teacher_logits[:, 0])["pearson"]
        return scores
    scores = {"accuracy": accuracy(logits, labels), "calibration_error": calibration_error(logits, labels)}
    if teacher_logits is not None:
        scores["fidelity"] = fidelity(logits, teacher_logits)
        scores["kl_teacher"] = losses.kl_divergence(teacher_logits.double(), logits.double()).item()
    if "truth" in data.column_names:
        scores["kl_truth"] = distance(torch.tensor(data["truth"][:]), logits)
    return scores


def parameters(model: nn.Module) -> int:
    """Number of weights, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


def _example(model: nn.Module, length: int) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    length = int(min(length, max_tokens_of(model.config)))
    return {"input_ids": torch.ones(1, length, dtype=torch.long, device=device)}


def _all_of(model: nn.Module) -> tuple[str, ...]:
    """What to ask for so that all of the model runs: its logits, or, of a backbone, its hidden states."""
    return ("hidden_states",) if getattr(model, "base_model", None) is model else ("logits",)


@torch.no_grad()
def flops(model: nn.Module, length: int = 128) -> int:
    """Floating-point operations of one forward pass over one text of `length` tokens.

    Matrix products only, two operations per multiply-add: the convention of the papers' tables. A
    text longer than the model's positions is cut to them. Works on device "meta", without weights.
    """
    was_training = model.training
    model.eval()
    try:
        # The counter does not know the CPU's fused attention; the plain one is the same arithmetic.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            trace(model, _example(model, length), _all_of(model))
        return counter.get_total_flops()
    finally:
        model.train(was_training)


@torch.no_grad()
def latency(model: nn.Module, length: int = 128, repeats: int = 20) -> float:
    """Median milliseconds of one forward pass over one text on this machine, after three to warm up."""
    was_training, batch = model.training, _example(model, length)
    model.eval()
    try:
        times = []
        for _ in range(3 + repeats):
            start = time.perf_counter()
            trace(model, batch, _all_of(model))
            if batch["input_ids"].is_cuda:
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[3:])
    finally:
        model.train(was_training)
