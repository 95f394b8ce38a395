"""bfloat16 where it pays: what a run computes of each model, timed in both precisions on one of its batches, here.

Which is faster depends on the processor and on the size: small matrices lose more to conversions than they win. Losses
are in float32 either way (`kdlab.losses`), and so are weights and optimiser.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from ..data.batches import Rows
from ..errors import KdlabError
from ..models.tracing import Batch, Trace, trace
from . import distributed
from .fast_path import fast_path
from .run import Stage

PRECISIONS = ("no", "bf16", "auto")
REPEATS = 4         # of which the first also warms up
CLEAR = 1.25        # times the other's: no need to repeat it
WORTH = 0.95        # bfloat16 has to take less than this part of the time: a tie is no reason to round


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def check(precision: str) -> None:
    """Raise `KdlabError` for a precision that is not one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise KdlabError(f"there is no precision '{precision}'; take one of {', '.join(PRECISIONS)}")


def faster(model: nn.Module, batch: Batch, needs: Collection[str], learning: bool) -> str:
    """ "no" or "bf16": in which the outputs named in `needs` (of `kdlab.models.tracing.OUTPUTS`) are computed sooner
    here.

    learning: whether the backward pass counts. The model, its gradients and torch's random numbers stay as they were;
    the processes of a run, which may share the model, repeat it equally often.
    """
    was_training, plain, rounded = model.training, math.inf, math.inf
    model.train(learning)
    try:
        with torch.random.fork_rng():
            for number in range(REPEATS):
                plain = min(plain, _seconds(model, batch, needs, "no", learning))
                rounded = min(rounded, _seconds(model, batch, needs, "bf16", learning))
                if distributed.broadcast(number > 0 and max(plain, rounded) > CLEAR * min(plain, rounded)):
                    break
    finally:
        model.train(was_training)
    return "bf16" if rounded < WORTH * plain else "no"


def faster_of(models: Mapping[str, nn.Module], example: Batch, stages: Sequence[Stage],
              teacher_rows: Rows | None) -> dict[str, str]:
    """`faster` for "student" and "teacher", of what the stages read of them on a batch; teacher_rows: what a teacher
    with a tokenizer of its own reads instead."""
    student = models["student"]
    device = next(student.parameters()).device
    with torch.random.fork_rng():
        example = stages[0].prepared({name: values.to(device) for name, values in example.items()}, student)
    found = {}
    for name, model in models.items():
        learning, batch = name == "student", example
        if not learning and teacher_rows is not None:
            own = teacher_rows.batch(example["row"].cpu().numpy())
            batch = {key: values.to(device) for key, values in own.items()}
        readings = set().union(*(stage.objective.reads_student() if learning else stage.objective.reads_teacher()
                                 for stage in stages))
        found[name] = faster(fast_path(model, readings), batch, {output for output, _ in readings}, learning)
    return found


def _seconds(model: nn.Module, batch: Batch, needs: Collection[str], precision: str, learning: bool) -> float:
    device = batch["input_ids"].device
    began = time.perf_counter()
    with torch.set_grad_enabled(learning), autocast(device, precision):
        seen = trace(model, batch, needs)
    if learning:
        loss = sum(output.float().square().mean() for output in _outputs(seen))
        torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _outputs(seen: Trace) -> list[torch.Tensor]:
    attention = [states for each in seen.attention or () for states in (each.queries, each.keys)]
    return [*([] if seen.logits is None else [seen.logits]), *(seen.hidden_states or ()), *attention]
