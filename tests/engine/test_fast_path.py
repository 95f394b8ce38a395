"""Views of a model that leave out what nobody reads: the numbers of the whole model, and its weights."""

from __future__ import annotations

import pytest
import torch
from test_tracing import CONFIGS, build
from transformers import AutoModelForSequenceClassification

from kdlab.engine.fast_path import depth_of, fast_path
from kdlab.models.tracing import trace


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_first_layers_alone_say_what_they_say_in_the_whole_model(name, depth, batch):
    model, ran = build(name), []
    body = fast_path(model, {("hidden_states", depth), ("attention", 1)} if depth else {("hidden_states", 0)})
    encoder = model.base_model.transformer if name == "distilbert" else model.base_model.encoder
    for layer in encoder.layer:
        layer.register_forward_hook(lambda *_: ran.append(1))
    part = trace(body, batch, ("hidden_states", "attention"))
    assert len(ran) == len(part.attention) == max(depth, 1)
    whole = trace(model, batch, ("logits", "hidden_states", "attention"))
    assert len(whole.hidden_states) == 4 and len(whole.attention) == 3, "the model itself is as it was"
    assert len(part.hidden_states) == max(depth, 1) + 1
    for ours, theirs in zip(part.hidden_states, whole.hidden_states, strict=False):
        assert torch.equal(ours, theirs)
    part.hidden_states[-1].sum().backward()
    assert next(model.base_model.parameters()).grad is not None, "the weights are shared"


def test_the_first_layers_are_no_more_than_there_are_and_draw_no_random_numbers():
    model = build("bert").train()
    state = torch.get_rng_state()
    assert fast_path(model, {("hidden_states", None)}) is model and fast_path(model, {("attention", 3)}) is model
    assert fast_path(model, {("hidden_states", 2)}) is not model
    assert torch.equal(torch.get_rng_state(), state)
    assert depth_of({("hidden_states", 2), ("attention", 1)}) == 2
    assert depth_of({("hidden_states", 2), ("logits", None)}) is None and depth_of({("attention", None)}) is None


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_classifier_reads_its_last_layer_at_the_first_token_alone(name, masked, batch):
    """In logits and in gradients; what is read of MobileBERT's last layer stays as it is."""
    model = build(name, AutoModelForSequenceClassification)
    inputs = batch if masked else {"input_ids": batch["input_ids"].clamp(min=5)}
    view, widths = fast_path(model, {("logits", None)}), []
    assert (view is model) == ("bert" not in name or name.startswith(("mobile", "ib")))
    encoder = model.base_model.transformer if name == "distilbert" else model.base_model.encoder
    last = encoder.layer[-1]
    after = last.output_layer_norm if name == "distilbert" else last.output
    after.register_forward_hook(lambda module, given, out: widths.append(out.shape[1]))
    found = {}
    for kind, one in (("short", view), ("whole", model)):
        logits = trace(one, inputs).logits
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        found[kind] = logits, gradients
    torch.testing.assert_close(found["short"][0], found["whole"][0], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(found["short"][1], found["whole"][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max() + 1))
    if view is not model:
        assert widths == [1, 7], "one token of the last layer in the view, all in the model"


def test_dropout_of_the_shortcut_follows_the_model_into_training_and_back(batch):
    model = build("bert", AutoModelForSequenceClassification)
    view = fast_path(model, {("logits", None)})
    for training in (True, False):
        model.train(training)
        one, two = (trace(view, batch).logits for _ in range(2))
        assert torch.equal(one, two) != training
