"""bfloat16 where it pays: each model timed in both precisions on a batch of the run, on this machine.

Which is faster depends on the processor and on the size: small matrices lose more to conversions than they win. Losses
are in float32 either way (`kdlab.losses`), and so are weights and optimiser.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from .errors import KdlabError
from .trace import Batch, trace

PRECISIONS = ("no", "bf16", "auto")
REPEATS = 5
WORTH = 0.95        # bfloat16 has to take less than this part of the time: a tie is no reason to round


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def check(precision: str) -> None:
    """Raise `KdlabError` for a precision that is not one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise KdlabError(f"there is no precision '{precision}'; take one of {', '.join(PRECISIONS)}")


def chosen(precision: str, model: nn.Module, batch: Batch, learning: bool) -> str:
    """ "no" or "bf16": what was asked for or, of "auto", what is faster for this model on a batch of this size.

    learning: whether the backward pass counts. The model, its gradients and torch's random numbers stay as they were.
    """
    if precision != "auto":
        return precision
    device, was_training = next(model.parameters()).device, model.training
    inputs = {name: values.to(device) for name, values in batch.items()}
    model.train(learning)
    try:
        with torch.random.fork_rng():
            times = {kind: min(_seconds(model, inputs, kind, learning) for _ in range(REPEATS))
                     for kind in ("no", "bf16")}
    finally:
        model.train(was_training)
    return "bf16" if times["bf16"] < WORTH * times["no"] else "no"


def _seconds(model: nn.Module, batch: Batch, precision: str, learning: bool) -> float:
    device = batch["input_ids"].device
    began = time.perf_counter()
    with torch.set_grad_enabled(learning), autocast(device, precision):
        logits = trace(model, batch).logits
    if learning:
        torch.autograd.grad(logits.float().square().mean(), [p for p in model.parameters() if p.requires_grad],
                            allow_unused=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
