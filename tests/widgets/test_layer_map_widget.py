"""The layer map under the hand, and linear CKA against Gram matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import opinionated
from hypothesis import given, settings
from hypothesis import strategies as st
from widget_checks import check_frame_is_static, check_moved_at_once

from kdlab import plots
from kdlab.errors import KdlabError
from kdlab.models import layer_map, new_classifier
from kdlab.plots.layers import PANELS
from kdlab.study import metrics
from kdlab.terms import HiddenStates
from kdlab.widgets import LayerMapBuilder


def gram_cka(x: np.ndarray, y: np.ndarray) -> float:
    """By its other definition, HSIC of the centred Gram matrices (Kornblith et al. 2019, equations 3 and 4)."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ z @ z.T @ centre for z in (x, y))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


@given(st.integers(3, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_linear_cka_is_the_gram_matrices(n, a, b, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, a)) + 3, rng.normal(size=(n, b))
    ours = metrics.linear_cka(torch.from_numpy(x), torch.from_numpy(y))
    assert ours == pytest.approx(gram_cka(x, y), abs=1e-9) and 0 <= ours <= 1 + 1e-9
    turn = np.linalg.qr(rng.normal(size=(a, a)))[0]
    assert metrics.linear_cka(torch.from_numpy(x), torch.from_numpy(7 * x @ turn - 2)) == pytest.approx(1)


def test_a_representation_that_never_changes_is_like_nothing():
    assert metrics.linear_cka(torch.ones(5, 3), torch.randn(5, 2)) == 0


@pytest.fixture
def models(task):
    student = opinionated(new_classifier(task.tokenizer, task.label_names, layers=2, width=16, seed=1))
    return student, opinionated(new_classifier(task.tokenizer, task.label_names, layers=4, width=32, seed=2))


@pytest.fixture
def widget(models, task, world):
    return LayerMapBuilder(*models, task.tokenizer, world.texts(12, seed=5)[0])


def test_the_matrix_is_taken_over_real_tokens_layer_by_layer(widget, models, task, world):
    from kdlab.data.batches import Rows
    from kdlab.models.tracing import trace_teacher
    texts = world.texts(12, seed=5)[0]
    states = [[], []]
    for text in texts:              # one at a time, so that there is no padding to get wrong
        batch = Rows(task.encode([text]), 0).batch([0])
        for found, model in zip(states, models, strict=True):
            found.append(torch.cat([h[0] for h in trace_teacher(model, batch, {"hidden_states"}).hidden_states], -1))
    x, y = (torch.cat(found).numpy() for found in states)
    assert widget.similarity.shape == (3, 5)
    for m, n in ((0, 0), (1, 3), (2, 4)):
        expected = gram_cka(x[:, 16 * m:16 * (m + 1)].astype(float), y[:, 32 * n:32 * (n + 1)].astype(float))
        assert widget.similarity[m, n] == pytest.approx(expected, abs=1e-5)


def test_lines_are_drawn_moved_and_taken_away(widget):
    assert widget.layers == layer_map.uniform(2, 4) == ((1, 2), (2, 4))
    before = widget.shown.value
    widget.source.value = 3                         # student layer 1
    assert widget.layers == ((1, 3), (2, 4)) and widget.shown.value != before
    assert widget.start.value == "top", "which is what was drawn"
    widget.layer.value = 2
    assert widget.source.value == 4, "the menu shows what is"
    widget.source.value = None
    assert widget.layers == ((1, 3),) and widget.start.value == "your own"
    widget.layer.value = 0
    widget.source.value = 0
    assert widget.layers == ((0, 0), (1, 3))
    widget.start.value = "bottom"
    assert widget.layers == layer_map.bottom(2, 4) and widget.source.value is None
    check_moved_at_once(widget, [(widget.start, ["top", "uniform"]), (widget.layer, [1, 2])])


def test_the_map_can_be_given_to_a_term_and_the_costs_are_the_term_s(widget, models, task):
    student, teacher = models
    term = HiddenStates(widget.layers, widths=(16, 32))
    term.check(student.config, teacher.config)
    assert f"{metrics.parameters(term):,} parameters" in widget.message.value
    assert "up to layer 4 of 4" in widget.message.value
    widget.start.value = "bottom"
    half = metrics.flops(teacher.base_model, task.tokenizer.model_max_length) / 2
    assert f"up to layer 2 of 4: about {half / 1e6:,.1f} MFLOPs" in widget.message.value
    widget.layer.value = 0
    widget.source.value = 0                         # a second matrix, for the embeddings
    assert f"{2 * metrics.parameters(term):,} parameters" in widget.message.value


def test_no_lines_are_no_error(widget):
    for layer in (1, 2):
        widget.layer.value, widget.source.value = layer, None
    assert widget.layers == () and "no lines" in widget.state().describe()
    assert "nothing is learnt from the inside" in widget.message.value


def test_what_cannot_be_compared_is_refused_or_said(models, task, world):
    texts = world.texts(4, seed=5)[0]
    with pytest.raises(KdlabError, match="4 layers cannot take one each from a teacher of 2"):
        LayerMapBuilder(models[1], models[0], task.tokenizer, texts)
    with pytest.raises(KdlabError, match="1 texts were given"):
        LayerMapBuilder(*models, task.tokenizer, texts[:1])
    other = new_classifier(task.tokenizer, task.label_names, layers=1, width=32, heads=2)
    assert "attention cannot be compared" in LayerMapBuilder(other, models[1], task.tokenizer, texts).message.value


def test_the_models_are_left_as_they_came(models, task, world):
    models[0].train()
    LayerMapBuilder(*models, task.tokenizer, world.texts(4, seed=5)[0])
    assert models[0].training and not models[1].training


def test_the_frame_is_static(widget):
    widget.start.value = "top"
    check_frame_is_static(widget, plots.picture(plots.frame_mapped, plots.draw_mapped, widget.state(), PANELS))
