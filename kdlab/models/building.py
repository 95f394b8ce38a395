"""Teachers and students with fresh weights, built from a size or a configuration. Each is an ordinary `transformers`
model."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import KdlabError
from .bottleneck import model_class

HEAD_WIDTH = 32     # attention heads are about this wide unless a number of heads is given


def new_classifier(tokenizer: PreTrainedTokenizerBase, label_names: tuple[str, ...], layers: int = 2,
                   width: int = 64, heads: int | None = None, dropout: float = 0.1, seed: int = 0) -> PreTrainedModel:
    """A BERT-shaped classifier with fresh weights: the same seed and size, the same weights."""
    config = bert_config(tokenizer, layers, width, heads, dropout)
    return new_model(labelled(config, label_names), AutoModelForSequenceClassification, seed)


def new_masked_lm(tokenizer: PreTrainedTokenizerBase, layers: int, width: int, heads: int | None = None,
                  dropout: float = 0.1, seed: int = 0) -> PreTrainedModel:
    """A BERT-shaped masked language model with fresh weights."""
    return new_model(bert_config(tokenizer, layers, width, heads, dropout), AutoModelForMaskedLM, seed)


def new_model(config: PreTrainedConfig, auto: type = AutoModelForMaskedLM, seed: int = 0) -> PreTrainedModel:
    """A model of any configuration with fresh weights; `auto` is the class of `transformers` that says which head."""
    kind = model_class(config, auto)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(config) if kind is auto else kind(config)


def classifier_from(source: PreTrainedModel, label_names: tuple[str, ...], seed: int = 0) -> PreTrainedModel:
    """A classifier of the same architecture that starts with the body of `source` and a fresh head."""
    classifier = new_model(labelled(deepcopy(source.config), label_names), AutoModelForSequenceClassification, seed)
    give_body(source, classifier)
    return classifier


def bert_config(tokenizer: PreTrainedTokenizerBase, layers: int, width: int, heads: int | None = None,
                dropout: float = 0.1) -> BertConfig:
    """A BERT configuration for a tokenizer: FFN four times the width, one segment.

    Raises `KdlabError` where the heads do not divide the width.
    """
    heads = heads or next((h for h in range(width // HEAD_WIDTH, 1, -1) if width % h == 0), 1)
    if layers < 1 or width < 1 or width % heads:
        raise KdlabError(f"{layers} layers of width {width} with {heads} heads cannot be built; take at "
                         "least one layer, and a width that the number of heads divides")
    return BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=tokenizer.model_max_length,
        type_vocab_size=2 if "token_type_ids" in tokenizer.model_input_names else 1,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id)


def labelled(config: PreTrainedConfig, label_names: tuple[str, ...]) -> PreTrainedConfig:
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: i for i, name in enumerate(label_names)}
    if len(label_names) == 1:       # so that transformers, too, takes the output as it is
        config.problem_type = "regression"
    return config


def give_body(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Copy embeddings and layers of one model into another of the same size; heads stay as they are."""
    body = {name: weight for name, weight in source.base_model.state_dict().items()
            if not name.startswith("pooler")}
    missing, unexpected = target.base_model.load_state_dict(body, strict=False)
    strangers = [name for name in [*missing, *unexpected] if not name.startswith("pooler")]
    if strangers:
        raise KdlabError(f"the models differ in '{strangers[0]}'; give both the same layers and width")


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The model's stack of layers, one module each. Raises `KdlabError` where there is no such stack, or more than one:
    ALBERT has one layer that is run again and again, T5 and BART have an encoder's and a decoder's."""
    return model.base_model.get_submodule(stack_of(model))


def encoder_of(model: PreTrainedModel) -> str:
    """The name of the part of a model's body that holds them, "" where the body itself does. Raises as `layers_of`."""
    return stack_of(model).rpartition(".")[0]


def stack_of(model: PreTrainedModel) -> str:
    """The name of the stack in the model's body. Raises as `layers_of`."""
    depth, found = model.config.num_hidden_layers, []
    for name, module in model.base_model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)       # MobileBERT's layers hold lists, too
        if isinstance(module, nn.ModuleList) and len(module) == depth and not inside:
            found.append(name)
    if len(found) != 1:
        raise KdlabError(f"a {type(model).__name__} has {len(found) or 'no'} stacks of {depth} layers where one is "
                         "needed, so that its layers can be neither dropped nor sharded; take a model of one stack, "
                         "such as BERT, or a student of a smaller size")
    return found[0]
