"""MobileBERT's blocks as published, where `transformers` cannot build them.

In the paper's Table 1 (Sun et al. 2020, arXiv 2004.02984) queries and keys are computed from the block's input
at its full width, in the teacher (IB-BERT) and in MobileBERT. `transformers` 5.23 hands them that input when
neither `key_query_shared_bottleneck` nor `use_bottleneck_attention` is set, but builds them for the bottleneck's
width, so that the forward pass raises. The classes here widen the two; everything else is inherited. Other
configurations, the released checkpoint's among them, need no mending and come as the plain classes.
"""

from __future__ import annotations

from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    MobileBertForMaskedLM,
    MobileBertForSequenceClassification,
    MobileBertModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.mobilebert.modeling_mobilebert import MobileBertSelfAttention


class _FullWidthQueries:
    """Mixed in before a MobileBERT class: queries and keys read hidden_size, not the bottleneck."""

    def __init__(self, config: PreTrainedConfig, *args, **options) -> None:
        super().__init__(config, *args, **options)
        for module in self.modules():
            if isinstance(module, MobileBertSelfAttention):
                module.query, module.key = (nn.Linear(config.hidden_size, module.all_head_size) for _ in range(2))
                for linear in (module.query, module.key):
                    self._init_weights(linear)


class PublishedMobileBertModel(_FullWidthQueries, MobileBertModel):
    """`MobileBertModel` with full-width queries and keys."""


class PublishedMobileBertForMaskedLM(_FullWidthQueries, MobileBertForMaskedLM):
    """`MobileBertForMaskedLM` with full-width queries and keys."""


class PublishedMobileBertForSequenceClassification(_FullWidthQueries, MobileBertForSequenceClassification):
    """`MobileBertForSequenceClassification` with full-width queries and keys."""


def reads_full_width(config: PreTrainedConfig) -> bool:
    """Whether this is a MobileBERT configuration that `transformers` builds wrongly."""
    return (config.model_type == "mobilebert" and config.use_bottleneck
            and not config.key_query_shared_bottleneck and not config.use_bottleneck_attention)


def model_class(config: PreTrainedConfig, auto: type) -> type[PreTrainedModel] | type:
    """The class to build or load a configuration with: `auto` of `transformers`, or the mended class for it."""
    if not reads_full_width(config):
        return auto
    return {AutoModelForMaskedLM: PublishedMobileBertForMaskedLM,
            AutoModelForSequenceClassification: PublishedMobileBertForSequenceClassification}.get(
                auto, PublishedMobileBertModel)
