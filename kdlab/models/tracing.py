"""One forward pass, captured: what a model computed, under names that do not depend on its family.

`trace(model, batch, needs)` is the only place in kdlab that calls a model. It asks the model for what
`needs` names and no more: without "logits" the head is not run, and without "attention" nothing is kept of it.

Attention is captured where the families of `FAMILIES` meet: each hands its queries, keys and values to a
function that `transformers` looks up by name. Ours keeps the three and passes them on to the fast kernel,
which is why reading scores does not cost a second, slower forward pass. Scores are computed from them by
`Attention.scores`, for the layers that a term reads.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import KdlabError
from ..losses import IGNORED, wide
from .sparse import SparseTargets

Batch = dict[str, Tensor]
Reading = tuple[str, int | None]    # an output (of `OUTPUTS`) and the layer it is read of; None: all there is of it
MODEL_INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "hidden_states", "attention")
WHERE = ("masked words", "tokens", "everywhere")    # where a language model's logits are read, each part of the next
FAMILIES = ("bert", "distilbert", "roberta", "mobilebert")   # where capturing attention is tested


@dataclass(frozen=True)
class Attention:
    """One layer's attention before it attends: queries, keys, values, each (B, heads, L, head width)."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float

    def scores(self) -> Tensor:
        """Q K^T / sqrt(head width), (B, heads, L, L), in float32, before the softmax and with padding in it."""
        return wide(self.queries) @ wide(self.keys).transpose(-1, -2) * self.scaling


@dataclass(frozen=True)
class Trace:
    """What one forward pass computed; a field is None unless it was asked for.

    logits         (B, C) from a classifier; (B, L, V) from a masked language model, or (N, V) at N chosen places; a
                   cache has `SparseTargets` instead of these
    hidden_states  a tuple of layers + 1 tensors (B, L, width); the embeddings' output comes first
    attention      a tuple of one `Attention` a layer
    """

    logits: Tensor | SparseTargets | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attention: tuple[Attention, ...] | None = None


def trace(model: nn.Module, batch: Batch, needs: Collection[str] = ("logits",)) -> Trace:
    """Run `model` once on a batch and capture the outputs named in `needs` (of `OUTPUTS`).

    batch: input_ids and attention_mask, both (B, L), the mask only where something is padding; token_type_ids,
    (B, L), of pairs of texts, for models that tell segments apart; with `places`, (B, L), a language model's logits are
    computed where that is true and nowhere else. Other entries are ignored.
    Gradients flow unless the caller has turned them off. Raises `KdlabError` for an output it does not know, and for
    attention of an architecture that is not in `FAMILIES`.
    """
    unknown = set(needs) - set(OUTPUTS)
    if unknown:
        raise KdlabError(f"a loss term needs '{sorted(unknown)[0]}', which trace cannot capture; it "
                         f"knows {', '.join(OUTPUTS)}")
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    if "token_type_ids" in batch and getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = batch["token_type_ids"]      # others know one segment, or none
    inputs["output_hidden_states"] = "hidden_states" in needs
    body = model.base_model if "logits" not in needs and isinstance(model, PreTrainedModel) else model
    with ExitStack() as stack:
        if "attention_mask" in batch and getattr(model.config, "trigram_input", False):
            stack.enter_context(_nothing_at_padding(model, batch["attention_mask"]))
        if "places" in batch and "logits" in needs:
            stack.enter_context(_head_at(model, batch["places"]))
        attention = stack.enter_context(_capturing(model.config)) if "attention" in needs else None
        out = body(**inputs)
    logits = out.logits if "logits" in needs else None
    if logits is not None and "places" in batch:
        logits = logits[0]
    return Trace(logits=logits,
                 hidden_states=out.hidden_states if "hidden_states" in needs else None,
                 attention=tuple(attention) if attention is not None else None)


def places_of(where: str, batch: Batch) -> Tensor | None:
    """The places, (B, L), of a batch that `where` (of `WHERE`) speaks of, true there; None: everywhere."""
    if where == "everywhere":
        return None
    return batch["attention_mask"].bool() if where == "tokens" else batch["mlm_labels"] != IGNORED


@torch.no_grad()
def trace_teacher(teacher: nn.Module, batch: Batch, needs: Collection[str] = ("logits",)) -> Trace:
    """`trace` for a teacher: in eval mode (no dropout) and without gradient, whatever it was in."""
    teacher.eval()
    return trace(teacher, batch, needs)


def check_attention_known(config: PreTrainedConfig) -> None:
    """Raise `KdlabError` where the attention of this architecture cannot be captured."""
    if config.model_type not in FAMILIES:
        raise KdlabError(f"the attention of the architecture '{config.model_type}' cannot be captured; it can "
                         f"for {', '.join(FAMILIES)}, so take one of these or a term that reads no attention")


HEADS = {"bert": "cls", "mobilebert": "cls", "roberta": "lm_head", "distilbert": "vocab_transform"}
_places: ContextVar[Tensor] = ContextVar("places")


def can_choose_places(model: nn.Module) -> bool:
    """Whether a model is a language model whose head can be run at chosen places."""
    return hasattr(model, HEADS.get(model.config.model_type, "-")) and model.get_output_embeddings() is not None


@contextmanager
def _head_at(model: nn.Module, places: Tensor) -> Iterator[None]:
    """While the block runs, a language model's head reads the states (B, L, width) at `places` alone: (1, N, width)."""
    def choose(module: nn.Module, states: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        chosen = _places.get(None)      # None where another thread runs the model
        return None if chosen is None else (states[0][chosen][None],)

    token = _places.set(places)
    try:
        with getattr(model, HEADS[model.config.model_type]).register_forward_pre_hook(choose):
            yield
    finally:
        _places.reset(token)


_real: ContextVar[Tensor] = ContextVar("real")


@contextmanager
def _nothing_at_padding(model: nn.Module, mask: Tensor) -> Iterator[None]:
    """While the block runs, words are 0 at padding. MobileBERT's trigram reads the words beside each one: where a text
    ends it reads 0, and beside it in a batch the embedding of [PAD] would stand."""
    def silence(module: nn.Module, given: tuple[Tensor, ...], words: Tensor) -> Tensor | None:
        real = _real.get(None)          # None where another thread runs the model
        return None if real is None else words.where(real[..., None], 0.0)

    token = _real.set(mask.bool())
    try:
        with model.get_input_embeddings().register_forward_hook(silence):
            yield
    finally:
        _real.reset(token)


_CAPTURE = "kdlab_capture"
_kept: ContextVar[list[Attention]] = ContextVar("kept")
_one_at_a_time = threading.RLock()


def _keep_and_attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
                     scaling: float, **options) -> tuple[Tensor, None]:
    kept = _kept.get(None)
    if kept is not None:        # else another thread is capturing from this model, and this pass is not its own
        kept.append(Attention(query, key, value, scaling))
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)


ALL_ATTENTION_FUNCTIONS.register(_CAPTURE, _keep_and_attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(_CAPTURE, sdpa_mask)


@contextmanager
def _capturing(config: PreTrainedConfig) -> Iterator[list[Attention]]:
    """The list that fills up with each layer's attention while the block runs, in the order of the layers."""
    check_attention_known(config)
    with _one_at_a_time:        # the models of two threads may share a configuration
        before, kept = config._attn_implementation, []
        token = _kept.set(kept)
        config._attn_implementation = _CAPTURE
        try:
            yield kept
        finally:
            config._attn_implementation = before
            _kept.reset(token)
