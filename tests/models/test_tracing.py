"""The trace against what `transformers` itself reports, in every family that it knows."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
from conftest import opinionated
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
)

from kdlab.data.batches import Rows
from kdlab.errors import KdlabError
from kdlab.models import new_masked_lm, new_model
from kdlab.models.architectures import ib_bert_config, mobilebert_config
from kdlab.models.tracing import can_choose_places, trace, trace_teacher

SMALL = {"vocab_size": 50, "num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 2,
         "intermediate_size": 40, "max_position_embeddings": 40}
MOBILE = {**SMALL, "embedding_size": 12, "intra_bottleneck_size": 8}
CONFIGS = {
    "bert": BertConfig(**SMALL),
    "distilbert": DistilBertConfig(vocab_size=50, n_layers=3, dim=24, n_heads=2, hidden_dim=40,
                                   max_position_embeddings=40),
    "roberta": RobertaConfig(**SMALL),
    "mobilebert": mobilebert_config(**MOBILE),
    "mobilebert as published": mobilebert_config(**MOBILE, key_query_shared_bottleneck=False),
    "ib-bert": ib_bert_config(**{**MOBILE, "intra_bottleneck_size": 48}),
}


def build(name, auto=AutoModelForMaskedLM):
    return opinionated(new_model(deepcopy(CONFIGS[name]), auto, seed=3), 4)


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_and_values_are_those_of_the_eager_forward_pass(name, batch):
    model = build(name)
    seen = trace(model, batch, ("logits", "hidden_states", "attention"))
    model.config._attn_implementation = "eager"
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    expected = model(**inputs, output_attentions=True, output_hidden_states=True)

    assert len(seen.attention) == len(expected.attentions) == 3
    padding = ~batch["attention_mask"].bool()[:, None, None, :]
    for ours, theirs in zip(seen.attention, expected.attentions, strict=True):
        probabilities = ours.scores().masked_fill(padding, -torch.inf).softmax(dim=-1)
        torch.testing.assert_close(probabilities, theirs, rtol=1e-4, atol=1e-5)
        assert ours.values.shape == ours.queries.shape and ours.values.shape[:3] == (3, 2, 7)
    real = batch["attention_mask"].bool()
    outputs = (*seen.hidden_states, seen.logits), (*expected.hidden_states, expected.logits)
    for ours, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(ours[real], theirs[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_values_are_what_attention_averages(name, batch):
    """Hooked at the output projection: its input is the probabilities times the captured values."""
    model, inputs = build(name), []
    layers = model.base_model.transformer.layer if name == "distilbert" else model.base_model.encoder.layer
    projection = layers[1].attention.out_lin if name == "distilbert" else layers[1].attention.output.dense
    hook = projection.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    attention = trace(model, batch, {"attention"}).attention[1]
    hook.remove()
    padding = ~batch["attention_mask"].bool()[:, None, None, :]
    averaged = attention.scores().masked_fill(padding, -torch.inf).softmax(dim=-1) @ attention.values
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(inputs[0][real], averaged.transpose(1, 2).flatten(2)[real], rtol=1e-4, atol=1e-5)


def test_gradients_reach_queries_keys_and_values(batch):
    model = build("bert").train()
    attention = trace(model, batch, ("attention",)).attention
    (attention[2].scores().sum() + attention[0].values.sum()).backward()
    layers = model.bert.encoder.layer
    for projection in (layers[2].attention.self.query, layers[2].attention.self.key, layers[0].attention.self.value):
        assert projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("auto", [AutoModelForMaskedLM, AutoModelForSequenceClassification])
def test_without_logits_the_head_is_not_run(auto, batch):
    model = build("bert", auto)
    head = model.cls if auto is AutoModelForMaskedLM else model.classifier
    head.register_forward_hook(lambda *_: pytest.fail("the head was run"))
    seen = trace(model, batch, ("hidden_states",))
    assert seen.logits is None and len(seen.hidden_states) == 4


def test_where_nobody_asks_nothing_is_kept_and_the_fast_kernel_stays(batch, monkeypatch):
    from kdlab.models import tracing as room
    monkeypatch.setattr(room, "_kept", None)        # any capture would fail
    model = build("bert")
    assert trace(model, batch, ("logits",)).attention is None
    assert model.config._attn_implementation == "sdpa"


def test_the_attention_function_is_given_back_even_after_a_failure(batch):
    model = build("bert")
    with pytest.raises(IndexError):
        trace(model, {**batch, "input_ids": batch["input_ids"] + 1000}, ("attention",))
    assert model.config._attn_implementation == "sdpa"


def test_peer_defect_4_a_model_set_to_a_kernel_without_maps_still_gives_scores(batch):
    """peers.md 6.4: with sdpa, output_attentions=True gives an empty tuple and an attention loss of silent zero."""
    model = build("bert")
    assert model.config._attn_implementation == "sdpa"
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    assert not any(x is not None for x in model(**inputs, output_attentions=True).attentions or ())
    assert len(trace(model, batch, ("attention",)).attention) == 3


def test_an_unknown_architecture_is_refused_by_name(batch):
    model = ElectraModel(ElectraConfig(**SMALL, embedding_size=24))
    with pytest.raises(KdlabError, match=r"'electra' cannot be captured.*bert, distilbert, roberta, mobilebert"):
        trace(model, batch, ("attention",))


def test_teachers_are_traced_without_dropout_or_gradient(batch):
    model = new_model(CONFIGS["bert"], AutoModelForMaskedLM).train()
    one, two = (trace_teacher(model, batch, ("attention",)).attention[2].queries for _ in range(2))
    assert torch.equal(one, two) and not one.requires_grad


def test_two_threads_may_trace_models_that_share_a_configuration(task):
    """One captures attention over and over, the other only asks for logits."""
    model = new_masked_lm(task.tokenizer, 2, 32).eval()
    batch = Rows(task["train"], 0).batch(list(range(8)))
    expected = trace_teacher(model, batch).logits
    failures: list[Exception] = []

    def work(needs) -> None:
        try:
            for _ in range(40):
                seen = trace_teacher(model, batch, needs)
                assert len(seen.attention or "ab") == 2
                assert seen.logits is None or torch.equal(seen.logits, expected)
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(needs,)) for needs in ({"attention"}, {"attention"}, {"logits"})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_at_chosen_places_are_those_of_the_whole(name, batch):
    model = build(name)
    whole = trace(model, batch).logits
    places = batch["attention_mask"].bool() & (torch.arange(7) % 2 == 1)
    assert can_choose_places(model) and not can_choose_places(model.base_model)
    chosen = trace(model, {**batch, "places": places}).logits
    torch.testing.assert_close(chosen, whole[places])
    assert trace(model, batch).logits.shape == whole.shape, "and the head is as it was"
