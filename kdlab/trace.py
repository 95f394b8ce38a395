"""One forward pass, captured: what a model computed, under names that do not depend on its family.

`trace(model, batch, needs)` is the only place in kdlab that calls a model. It asks the model for what
`needs` names and no more, so that fast attention kernels stay in use while nobody reads a map.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import KdlabError

Batch = dict[str, Tensor]
MODEL_INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "hidden_states")


@dataclass(frozen=True)
class Trace:
    """What one forward pass computed; a field is None unless it was asked for.

    logits         (B, C) from a classifier, (B, L, V) from a masked language model
    hidden_states  a tuple of layers + 1 tensors (B, L, width); the embeddings' output comes first
    """

    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


def trace(model: nn.Module, batch: Batch, needs: Collection[str] = ("logits",)) -> Trace:
    """Run `model` once on a batch and capture the outputs named in `needs` (of `OUTPUTS`).

    batch: input_ids and attention_mask, both (B, L); other entries are ignored. Gradients flow
    unless the caller has turned them off. Raises `KdlabError` for an output it does not know.
    """
    unknown = set(needs) - set(OUTPUTS)
    if unknown:
        raise KdlabError(f"a loss term needs '{sorted(unknown)[0]}', which trace cannot capture; it "
                         f"knows {', '.join(OUTPUTS)}")
    out = model(**{name: batch[name] for name in MODEL_INPUTS},
                output_hidden_states="hidden_states" in needs)
    return Trace(logits=out.logits if "logits" in needs else None,
                 hidden_states=out.hidden_states if "hidden_states" in needs else None)


@torch.no_grad()
def trace_teacher(teacher: nn.Module, batch: Batch, needs: Collection[str] = ("logits",)) -> Trace:
    """`trace` for a teacher: in eval mode (no dropout) and without gradient, whatever it was in."""
    teacher.eval()
    return trace(teacher, batch, needs)
