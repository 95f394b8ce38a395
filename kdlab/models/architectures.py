"""The papers' models as `transformers` configurations, with the figures that the papers print for them.

Published figures count millions of parameters and 10^9 floating-point operations for 128 tokens. They are:
BERT-base and TinyBERT from Jiao et al. 2020 (arXiv 1909.10351), Table 1; DistilBERT from Sanh et al. 2019 (arXiv
1910.01108), Table 3; MobileBERT, MobileBERT-tiny and IB-BERT from Sun et al. 2020 (arXiv 2004.02984), Tables 1
and 4. `kdlab.study.metrics` says what the configurations really hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, MobileBertConfig, PreTrainedConfig, PreTrainedModel

from .bottleneck import model_class


@dataclass(frozen=True)
class Architecture:
    """A model of a paper: its configuration, and what the paper says that it weighs and costs."""

    name: str
    config: PreTrainedConfig
    published_parameters: float | None = None       # millions
    published_flops: float | None = None            # 10^9, 128 tokens


def mobilebert_config(**changes) -> MobileBertConfig:
    """The released MobileBERT, every key set: `transformers` fills missing ones with other values than Google's."""
    released = {"hidden_size": 512, "embedding_size": 128, "intra_bottleneck_size": 128, "intermediate_size": 512,
                "num_hidden_layers": 24, "num_attention_heads": 4, "num_feedforward_networks": 4, "hidden_act": "relu",
                "normalization_type": "no_norm", "trigram_input": True, "use_bottleneck": True,
                "key_query_shared_bottleneck": True, "use_bottleneck_attention": False,
                "classifier_activation": False, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.1}
    return MobileBertConfig(**released | changes)


def ib_bert_config(**changes) -> MobileBertConfig:
    """IB-BERT, MobileBERT's teacher: an inverted bottleneck, 512 wide between blocks and 1024 within."""
    published = {"intra_bottleneck_size": 1024, "intermediate_size": 4096, "num_feedforward_networks": 1,
                 "hidden_act": "gelu", "normalization_type": "layer_norm", "key_query_shared_bottleneck": False,
                 "hidden_dropout_prob": 0.1}
    return mobilebert_config(**published | changes)


def tinybert_config(layers: int, width: int, intermediate: int) -> BertConfig:
    """A BERT of another size with BERT-base's 12 heads, so that attention can be compared head by head."""
    return BertConfig(num_hidden_layers=layers, hidden_size=width, num_attention_heads=12,
                      intermediate_size=intermediate)


ARCHITECTURES = {each.name: each for each in (
    Architecture("BERT-base", BertConfig(), 109, 22.5),
    Architecture("DistilBERT", DistilBertConfig(), 66, None),
    Architecture("TinyBERT-6", tinybert_config(6, 768, 3072), 67.0, 11.3),
    Architecture("TinyBERT-4", tinybert_config(4, 312, 1200), 14.5, 1.2),
    Architecture("IB-BERT", ib_bert_config(), 293, None),
    Architecture("MobileBERT, as published", mobilebert_config(key_query_shared_bottleneck=False), 25.3, 5.7),
    Architecture("MobileBERT, released", mobilebert_config(), 25.3, 5.7),
    Architecture("MobileBERT-tiny", mobilebert_config(key_query_shared_bottleneck=False, use_bottleneck_attention=True,
                                                      num_feedforward_networks=2), 15.1, 3.1),
)}


def build(config: PreTrainedConfig, pooler: bool = True, device: str = "cpu") -> PreTrainedModel:
    """A backbone with random weights. On device "meta" it has shapes and no memory: enough to count parameters.

    pooler: whether BERT's dense layer over [CLS] is part of it. DistilBERT has none, and that of MobileBERT and IB-BERT
    takes the state of [CLS] as it is (`classifier_activation` is False) and weighs nothing.
    """
    options = {} if pooler or config.model_type == "distilbert" else {"add_pooling_layer": False}
    with torch.device(device), torch.random.fork_rng(devices=[]):
        if model_class(config, AutoModel) is AutoModel:
            return AutoModel.from_config(config, **options)
        return model_class(config, AutoModel)(config, **options)
