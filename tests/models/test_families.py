"""What holds for every family of models: padding says nothing, layers are found and dropped, or one sentence says why
not."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from conftest import opinionated
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    LongformerConfig,
    ModernBertConfig,
    MPNetConfig,
    Qwen2Config,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from kdlab.engine.fast_path import fast_path
from kdlab.errors import KdlabError
from kdlab.models import layers_of, new_model
from kdlab.models.architectures import ib_bert_config, mobilebert_config
from kdlab.models.layer_dropping import shallower
from kdlab.models.tracing import trace, trace_teacher

SMALL = {"vocab_size": 50, "num_hidden_layers": 4, "hidden_size": 24, "num_attention_heads": 2,
         "intermediate_size": 40, "max_position_embeddings": 40, "pad_token_id": 0, "num_labels": 3}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2}
MOBILE = {**SMALL, "embedding_size": 12, "intra_bottleneck_size": 8}
STACKS = {      # the family's configuration, and where its layers lie
    "bert": (BertConfig(**SMALL), "encoder.layer"),
    "distilbert": (DistilBertConfig(vocab_size=50, n_layers=4, dim=24, n_heads=2, hidden_dim=40, num_labels=3,
                                    max_position_embeddings=40), "transformer.layer"),
    "roberta": (RobertaConfig(**{**SMALL, "pad_token_id": 1}), "encoder.layer"),
    "xlm-roberta": (XLMRobertaConfig(**{**SMALL, "pad_token_id": 1}), "encoder.layer"),
    "camembert": (CamembertConfig(**{**SMALL, "pad_token_id": 1}), "encoder.layer"),
    "mpnet": (MPNetConfig(**{**SMALL, "pad_token_id": 1}), "encoder.layer"),
    "electra": (ElectraConfig(**SMALL, embedding_size=12), "encoder.layer"),
    "deberta-v2": (DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"]), "encoder.layer"),
    "modernbert": (ModernBertConfig(**SMALL, **SPECIAL, cls_token_id=1, sep_token_id=2, local_attention=4,
                                    global_attn_every_n_layers=2), "layers"),
    "longformer": (LongformerConfig(**{**SMALL, "pad_token_id": 1}, attention_window=4), "encoder.layer"),
    "mobilebert": (mobilebert_config(**MOBILE), "encoder.layer"),
    "ib-bert": (ib_bert_config(**{**MOBILE, "intra_bottleneck_size": 48}), "encoder.layer"),
    "gpt2": (GPT2Config(vocab_size=50, n_layer=4, n_embd=24, n_head=2, n_positions=40, pad_token_id=0, num_labels=3,
                        **SPECIAL), "h"),
    "llama": (LlamaConfig(**SMALL), "layers"),
    "qwen2": (Qwen2Config(**SMALL, num_key_value_heads=2), "layers"),
}
T5 = T5Config(vocab_size=50, d_model=24, d_kv=12, d_ff=40, num_layers=4, num_heads=2, pad_token_id=0)
BART = BartConfig(vocab_size=50, d_model=24, encoder_layers=4, decoder_layers=4, encoder_attention_heads=2,
                  decoder_attention_heads=2, encoder_ffn_dim=40, decoder_ffn_dim=40, pad_token_id=1, **SPECIAL)
ALBERT = AlbertConfig(**SMALL, embedding_size=12)
ONE = {}        # a classifier of each family


def classifier(name):
    if name not in ONE:
        model = opinionated(new_model(deepcopy(STACKS[name][0]), AutoModelForSequenceClassification, 3), 4)
        with torch.no_grad():           # a pretrained model's [PAD] is a vector as any other
            model.get_input_embeddings().weight[model.config.pad_token_id] += 1
        ONE[name] = model
    return ONE[name]


def answers(model, texts):
    """The logits of texts of ids, all in one batch."""
    pad, longest = model.config.pad_token_id, max(map(len, texts))
    ids = torch.tensor([[*text, *[pad] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return trace_teacher(model, {"input_ids": ids, "attention_mask": mask}).logits


@pytest.mark.parametrize("name", STACKS)
@given(texts=st.lists(st.lists(st.integers(5, 49), min_size=1, max_size=12), min_size=1, max_size=4))
@settings(deadline=None, max_examples=15)
def test_a_text_alone_is_answered_as_beside_longer_ones(name, texts):
    model = classifier(name)
    together = answers(model, [*texts, list(range(5, 25))])
    alone = torch.cat([answers(model, [text]) for text in texts])
    torch.testing.assert_close(together[:-1], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("auto", [AutoModelForMaskedLM, AutoModelForSequenceClassification])
@pytest.mark.parametrize("name", ["mobilebert", "ib-bert"])
def test_what_pad_means_to_a_mobilebert_is_of_no_account(name, auto, batch):
    """In logits, states and attention of the model, of its first layers alone, and at chosen places; and the model is
    as it was when others run it."""
    model = opinionated(new_model(deepcopy(STACKS[name][0]), auto, seed=3), 4)
    real, found = batch["attention_mask"].bool(), []
    readings = {("hidden_states", 2), ("attention", 1)}
    for shift in (0, 5):
        with torch.no_grad():
            model.get_input_embeddings().weight[0] += shift
        seen = trace_teacher(model, batch, ("logits", "hidden_states", "attention"))
        part = trace_teacher(fast_path(model, readings), batch, ("hidden_states", "attention"))
        found.append([seen.hidden_states[-1][real], seen.attention[3].queries.transpose(1, 2)[real],
                      part.hidden_states[2][real]])
        if auto is AutoModelForMaskedLM:
            chosen = trace_teacher(model, {**batch, "places": real}).logits
            found[-1] += [seen.logits[real][:, 1:], chosen[:, 1:]]      # without [PAD]'s own, which its vector decides
        else:
            found[-1] += [seen.logits]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert not model.get_input_embeddings()._forward_hooks
    there = (1, 3) if auto is AutoModelForMaskedLM else (1,)       # the last word before padding
    plain = model(**batch).logits
    assert not torch.allclose(plain[there], seen.logits[there], atol=1e-3), "else nothing was tested"


@pytest.mark.parametrize("name", STACKS)
def test_layers_are_found_and_dropped_and_the_rest_is_loaded_again(name, tmp_path):
    """The oracle is the teacher: where all layers but those kept pass on what they get, it is the student."""
    model, (_, where) = classifier(name), STACKS[name]
    stack = layers_of(model)
    assert stack is model.base_model.get_submodule(where) and len(stack) == 4
    state = torch.get_rng_state()
    student = shallower(model, ((1, 1), (2, 3)))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(layers_of(model)) == 4, "the teacher is as it was"
    assert student.config.num_hidden_layers == len(layers_of(student)) == 2
    texts = [[7, 8, 9, 10, 11, 12, 13], [20, 21, 22]]

    def states(one):
        ids = torch.tensor([texts[0]])
        return trace_teacher(one, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ["hidden_states"])
    torch.testing.assert_close(states(student).hidden_states[1], states(model).hidden_states[1])
    student.save_pretrained(tmp_path)
    again, info = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    torch.testing.assert_close(answers(again, texts), answers(student, texts))
    third = [w for n, w in model.base_model.state_dict().items() if n.startswith(f"{where}.2.")]
    second = [w for n, w in student.base_model.state_dict().items() if n.startswith(f"{where}.1.")]
    assert second and all(map(torch.equal, second, third))
    student.train()
    trace(student, {"input_ids": torch.tensor([texts[1]])}).logits.sum().backward()
    assert all(w.grad is None for w in model.parameters()), "no weight is shared"


def test_a_layer_that_alone_is_another_kind_keeps_its_place():
    """ModernBERT's first layer has no norm before its attention."""
    with pytest.raises(KdlabError, match="the layers 2, 4 of a ModernBertForSequenceClassification make no model"):
        shallower(classifier("modernbert"), ((1, 2), (2, 4)))


@pytest.mark.parametrize(("config", "stacks"), [(ALBERT, "no"), (T5, "2"), (BART, "2")])
def test_where_layers_are_no_single_stack_one_sentence_says_so(config, stacks):
    model = new_model(deepcopy(config), AutoModelForSequenceClassification)
    for refused in (layers_of, shallower):
        with pytest.raises(KdlabError, match=f"has {stacks} stacks of 4 layers where one is needed"):
            refused(model)
