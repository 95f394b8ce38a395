"""A model without what nobody reads: the same numbers, sooner.

A term that reads the third layer needs no fourth one. A classifier reads its last layer at the first token alone, so
that most of that layer need not be computed: of two layers nearly half. Both are views: they share the model's weights,
for training too, and leave the model as it is, which another thread may be using.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaForSequenceClassification,
)

from ..models.building import encoder_of, layers_of
from ..models.tracing import FAMILIES, Reading

MASKED_BY_PAIRS = ("sdpa", "eager")     # attention that is given a mask (B, 1, L, L), of which one row can be taken


def fast_path(model: nn.Module, readings: Collection[Reading]) -> nn.Module:
    """What has to be run of `model` for these readings; the model itself where nothing can be left out."""
    if not isinstance(model, PreTrainedModel) or model.config.model_type not in FAMILIES:
        return model
    if set(readings) == {("logits", None)}:
        return _classifying_first_token(model)
    depth = depth_of(readings)
    return model if depth is None or depth >= model.config.num_hidden_layers else _first_layers(model, depth)


def depth_of(readings: Collection[Reading]) -> int | None:
    """The last layer that these readings need to be run; None: all of them."""
    layers = [layer for _, layer in readings]
    return None if None in layers else max(layers, default=0)


def _first_layers(model: PreTrainedModel, depth: int) -> nn.Module:
    """The model's body with its first `depth` layers alone."""
    body = model.base_model
    # Once in whole: transformers marks a model when it first records layers, and the copy must carry the mark.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        body(input_ids=torch.zeros(1, 1, dtype=torch.long, device=body.device), output_hidden_states=True)
    return _with_layers(body, layers_of(model)[:max(depth, 1)])       # the first one records what comes in, too


def _classifying_first_token(model: PreTrainedModel) -> nn.Module:
    if type(model) not in FIRST_TOKEN or model.config._attn_implementation not in MASKED_BY_PAIRS:
        return model
    view, body = _own_parts(model), model.base_model
    *lower, last = layers_of(model)
    layers = nn.ModuleList([*lower, FIRST_TOKEN[type(model)](last)])
    setattr(view, model.base_model_prefix, _with_layers(body, layers))
    return view


class _BertFirstToken(nn.Module):
    """A BERT's last layer at the first token alone, (B, 1, width), which attends to all."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_, **__) -> Tensor:
        attention, own, first = self.layer.attention, self.layer.attention.self, hidden[:, :1]
        attended = _attend(own.query(first), own.key(hidden), own.value(hidden), mask, own.num_attention_heads,
                           own.dropout)
        return self.layer.feed_forward_chunk(attention.output(attended, first))


class _DistilBertFirstToken(nn.Module):
    """The same of a DistilBERT."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_, **__) -> Tensor:
        own, first = self.layer.attention, hidden[:, :1]
        attended = _attend(own.q_lin(first), own.k_lin(hidden), own.v_lin(hidden), mask, own.n_heads, own.dropout)
        state = self.layer.sa_layer_norm(own.out_lin(attended) + first)
        return self.layer.output_layer_norm(self.layer.ffn(state) + state)


FIRST_TOKEN = {BertForSequenceClassification: _BertFirstToken, RobertaForSequenceClassification: _BertFirstToken,
               DistilBertForSequenceClassification: _DistilBertFirstToken}


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int, dropout: nn.Dropout) -> Tensor:
    """Attention of the first token, (B, 1, width), to all, (B, L, width)."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    mask = None if mask is None else mask[..., :1, :]       # (B, 1, L, L): each token's view of the others
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout.p if dropout.training else 0.0)
    return out.transpose(1, 2).flatten(2)


def _with_layers(body: PreTrainedModel, layers: nn.ModuleList) -> PreTrainedModel:
    """A view of a model's body with other layers."""
    view = _own_parts(body)
    encoder = _own_parts(getattr(body, encoder_of(body)))
    encoder.layer = layers
    setattr(view, encoder_of(body), encoder)
    return view


def _own_parts(module: nn.Module) -> nn.Module:
    """A copy of the module alone: the parts are the same, but can be replaced."""
    twin = copy(module)
    twin._modules = dict(module._modules)
    return twin
