"""Layer-drop initialisation: a student that starts from some of its teacher's layers (Sanh et al. 2019, section 3).

`layer_drop` makes a DistilBERT of a BERT, as the paper does. The student takes the teacher's word and position
embeddings, the chosen layers and the language head. Token-type embeddings and pooler do not exist in it; as in the
released code, the vector of segment 0 is dropped and not added to the positions. `shallower` makes a student of the
teacher's own architecture, whatever it is, with everything but the dropped layers.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, PreTrainedModel

from ..errors import KdlabError
from .building import layers_of, stack_of
from .layer_map import LayerMap, spread

LAYER_NORM_EPS = 1e-12      # of every DistilBERT: its configuration cannot say another
OF_EACH_LAYER = ("layer_types", "mlp_layer_types", "attention_window")      # lists in a configuration
LAYER = {"attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
         "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin",
         "attention.output.LayerNorm": "sa_layer_norm", "intermediate.dense": "ffn.lin1",
         "output.dense": "ffn.lin2", "output.LayerNorm": "output_layer_norm"}
EMBEDDINGS = ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")
HEAD = {"transform.dense.weight": "vocab_transform.weight", "transform.dense.bias": "vocab_transform.bias",
        "transform.LayerNorm.weight": "vocab_layer_norm.weight", "transform.LayerNorm.bias": "vocab_layer_norm.bias",
        "decoder.weight": "vocab_projector.weight", "decoder.bias": "vocab_projector.bias"}


def distilbert_config(teacher: PreTrainedModel, layers: int | None = None) -> DistilBertConfig:
    """The teacher's width, heads and vocabulary in half its layers, or in `layers` of them. Raises `KdlabError` for a
    teacher whose layer norms no DistilBERT has."""
    bert = teacher.config
    if bert.layer_norm_eps != LAYER_NORM_EPS:
        raise KdlabError(f"this teacher's layer_norm_eps is {bert.layer_norm_eps:g} and a DistilBERT's is always "
                         f"{LAYER_NORM_EPS:g}, so that its layers would compute something else; keep the teacher's "
                         "architecture, with kdlab.models.layer_dropping.shallower")
    layers = layers or max(1, bert.num_hidden_layers // 2)
    return DistilBertConfig(
        vocab_size=bert.vocab_size, max_position_embeddings=bert.max_position_embeddings, n_layers=layers,
        n_heads=bert.num_attention_heads, dim=bert.hidden_size, hidden_dim=bert.intermediate_size,
        dropout=bert.hidden_dropout_prob, attention_dropout=bert.attention_probs_dropout_prob,
        activation=bert.hidden_act, initializer_range=bert.initializer_range, pad_token_id=bert.pad_token_id,
        tie_word_embeddings=bert.tie_word_embeddings)


def layer_drop(teacher: BertForMaskedLM, layers: int | LayerMap | None = None) -> DistilBertForMaskedLM:
    """A DistilBERT that starts as some layers of `teacher`, with its embeddings and language head.

    layers: how many, spread evenly from first to last (half of them unless given), or a layer map that
    names them. Raises `KdlabError` for a teacher that is no `BertForMaskedLM`, for layers it does not have, and for
    layer norms that no DistilBERT has.
    """
    if not isinstance(teacher, BertForMaskedLM):
        raise KdlabError(f"layer-drop starts a DistilBERT from a BertForMaskedLM, and this is a "
                         f"{type(teacher).__name__}; load the pretrained BERT with its language head")
    layers = _chosen(layers, teacher.config.num_hidden_layers)
    with torch.random.fork_rng(devices=[]):
        student = DistilBertForMaskedLM(distilbert_config(teacher, len(layers)))
    student.load_state_dict(_renamed(teacher.state_dict(), layers))
    return student


def shallower(teacher: PreTrainedModel, layers: int | LayerMap | None = None) -> PreTrainedModel:
    """A copy of a classifier or language model that keeps some of its layers (how many or which: as in `layer_drop`).

    Raises `KdlabError` for layers that the teacher does not have, for an architecture without a stack of layers
    (`layers_of`), and for layers that make no model of it: ModernBERT's first one is unlike the others.
    """
    depth, name = teacher.config.num_hidden_layers, stack_of(teacher)
    layers = _chosen(layers, depth)
    student = deepcopy(teacher)
    kept = nn.ModuleList(deepcopy(layers_of(student)[n - 1]) for _, n in layers)
    student.base_model.set_submodule(name, kept)
    for number, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):        # a decoder's, for what it keeps of earlier tokens
                module.layer_idx = number
    for key, value in list(vars(student.config).items()):
        if isinstance(value, list) and len(value) == depth and key.startswith(OF_EACH_LAYER):
            setattr(student.config, key, [value[n - 1] for _, n in layers])
    student.config.num_hidden_layers = len(layers)
    with torch.device("meta"):
        fresh = type(student)(student.config)
    if {k: w.shape for k, w in fresh.state_dict().items()} != {k: w.shape for k, w in student.state_dict().items()}:
        raise KdlabError(f"the layers {', '.join(str(n) for _, n in layers)} of a {type(teacher).__name__} make no "
                         "model that can be loaded again, since its layers are not all alike; keep layer 1 first")
    return student


def _chosen(layers: int | LayerMap | None, depth: int) -> LayerMap:
    if not isinstance(layers, tuple):
        layers = layers or max(1, depth // 2)
        if not 1 <= layers <= depth:
            raise KdlabError(f"{layers} layers cannot be kept of the teacher's {depth}; take 1 to {depth}")
        layers = spread(layers, depth)
    if [m for m, _ in layers] != list(range(1, len(layers) + 1)) or not all(1 <= n <= depth for _, n in layers):
        raise KdlabError(f"the layer map {layers} does not give each student layer 1, 2, ... one of the teacher's "
                         f"{depth} layers; correct it")
    return layers


def _renamed(bert: dict[str, Tensor], layers: LayerMap) -> dict[str, Tensor]:
    weights = {f"distilbert.embeddings.{name}": bert[f"bert.embeddings.{name}"] for name in EMBEDDINGS}
    for m, n in layers:
        for theirs, ours in LAYER.items():
            for kind in ("weight", "bias"):
                weights[f"distilbert.transformer.layer.{m - 1}.{ours}.{kind}"] = \
                    bert[f"bert.encoder.layer.{n - 1}.{theirs}.{kind}"]
    return weights | {ours: bert[f"cls.predictions.{theirs}"] for theirs, ours in HEAD.items()}
