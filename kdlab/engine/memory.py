"""How much memory a run will take at most, said before its first step.

    peak = what the process holds now
           + 8 bytes x parameters that learn        (AdamW's two moments, in float32)
           + step(B), drawn as a straight line through step(B / 4) and step(B / 2); on a CPU a fifth more

step(n) is the most that tensors take at once in the forward and the backward pass over n texts, all as long as the
longest of the largest batch, which has B. It is counted storage by storage, so that it holds for every architecture and
every term. The fifth is what the C library's heap loses between freed blocks: 0 to 27% of a step where we measured
(glibc; with MALLOC_MMAP_THRESHOLD_=65536 it is 0, and the count itself holds within 1%).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..data.batches import LengthBatches, Rows
from ..models.tracing import Batch

MOMENTS = 8     # bytes a parameter
HEAP = 1.2


def expected_peak(losses_of: Callable[[Batch], dict[str, Tensor]], learning: Sequence[nn.Parameter], rows: Rows,
                  batch_size: int, seed: int, slices: int = 1) -> int:
    """Bytes: what the process will hold at most, or on a GPU what its tensors will.

    losses_of: from a batch of `rows` to its losses, "loss" among them; learning: the parameters that are trained;
    slices: into how many a batch is cut, of which one is computed at a time.

    Torch's random numbers and the parameters' gradients stay as they were.
    """
    largest = max((rows.lengths[batch] for batch in LengthBatches(rows.lengths, batch_size, seed).epoch(0)),
                  key=lambda lengths: lengths.max() * len(lengths))
    row = int(np.flatnonzero(rows.lengths == largest.max())[0])
    largest = largest[:-(-len(largest) // slices)]
    few, more = max(1, len(largest) // 4), max(2, len(largest) // 2)
    device = learning[0].device
    before = _held(device)
    with torch.random.fork_rng():
        lower, higher = (_step(losses_of, learning, {k: v.to(device) for k, v in rows.batch([row] * n).items()})
                         for n in (few, more))
    step = higher + (len(largest) - more) * (higher - lower) / (more - few)
    step *= HEAP if device.type == "cpu" else 1
    return round(before + MOMENTS * sum(p.numel() for p in learning) + step)


def _step(losses_of: Callable[[Batch], dict[str, Tensor]], learning: Sequence[nn.Parameter], batch: Batch) -> int:
    with _Counter() as counter:
        gradients = torch.autograd.grad(losses_of(batch)["loss"], learning, allow_unused=True)
        del gradients
    return counter.peak


class _Counter(TorchDispatchMode):
    """Counts the bytes of the storages that operations make while it is entered, as long as each of them lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in given | self.known:
                self._add(storage)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self.known.discard(key)
            self.now -= size
        weakref.finalize(storage, gone)


def _held(device: torch.device) -> int:
    """Bytes that the run's device holds already; on a machine without /proc, 0."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
