"""Attention side by side: what is shown is the models' attention and the terms' loss, also for awkward input."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from conftest import opinionated
from PIL import Image
from transformers import ElectraConfig, ElectraForSequenceClassification
from widget_checks import check_frame_is_static, check_moved_at_once

from kdlab import plots
from kdlab.data.batches import Rows
from kdlab.errors import KdlabError
from kdlab.models import new_classifier, new_masked_lm
from kdlab.models.layer_dropping import layer_drop
from kdlab.models.layer_map import spread
from kdlab.models.tracing import trace_teacher
from kdlab.recipes import mobilebert
from kdlab.recipes.teacher import new_teacher
from kdlab.terms import AttentionProbabilities, AttentionScores
from kdlab.widgets import AttentionSideBySide, attention
from kdlab.widgets.attention import side_by_side

TEXTS = ["the waiter was rude but the pizza was good .", "we loved the price ."]


@pytest.fixture
def bert(task):
    """A BERT of 4 layers x 32 with 2 heads, of strong opinions."""
    return opinionated(new_masked_lm(task.tokenizer, 4, 32, heads=2, dropout=0.1, seed=3), 6)


@pytest.fixture
def widget(bert, task):
    student = layer_drop(bert)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(0.05)
    return AttentionSideBySide(bert, student, task.tokenizer, TEXTS, spread(2, 4))


def test_the_maps_are_what_transformers_says(widget, bert, task):
    """The oracle is another mechanism: the eager attention of transformers, asked for its probabilities."""
    bert.set_attn_implementation("eager")
    ids = torch.tensor([task.encode(TEXTS)["input_ids"][0]])
    with torch.no_grad():
        theirs = bert(input_ids=ids, output_attentions=True).attentions
    for m, n in spread(2, 4):
        for head in (1, 2):
            widget.pair.value, widget.head.value = (m, n), head
            state = widget.state()
            assert state.layers == (m, n) and state.head == head and state.kind == "probabilities"
            assert np.allclose(state.teacher, theirs[n - 1][0, head - 1], atol=1e-5)
            assert np.allclose(state.student.sum(axis=1), 1)
            assert np.allclose(state.difference, state.student - state.teacher)
    widget.kind.value = "scores"
    scores = torch.from_numpy(widget.state().teacher)
    assert torch.allclose(scores.softmax(-1).float(), theirs[3][0, 1], atol=1e-5)


def test_the_numbers_are_the_terms_losses(widget, bert, task):
    """A term's own loss over all heads; one head by hand."""
    batch = Rows(task.encode(TEXTS[1:]), task.tokenizer.pad_token_id).batch([0])
    seen = [trace_teacher(model, batch, {"attention"}) for model in (widget.models[1], bert)]
    widget.text.value, widget.pair.value, widget.head.value, widget.kind.value = TEXTS[1], (2, 4), 2, "scores"
    state = widget.state()
    assert state.numbers["MSE of scores, all heads"] == pytest.approx(AttentionScores(((2, 4),))(*seen, batch).item())
    assert state.numbers["KL, all heads"] == pytest.approx(AttentionProbabilities(((2, 4),))(*seen, batch).item())
    assert state.numbers["MSE of scores, head 2"] == pytest.approx((state.difference**2).mean(), rel=1e-5)
    p, q = (torch.from_numpy(x).softmax(-1).numpy() for x in (state.teacher, state.student))
    assert state.numbers["KL, head 2"] == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-4)
    assert f"KL, head 2 = {state.numbers['KL, head 2']:.3f}" in widget.message.value


def test_padding_is_left_out():
    scores = torch.randn(2, 1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    padded = side_by_side(tuple("abcde"), *scores, mask, (1, 1), 1)
    plain = side_by_side(tuple("abc"), *scores[..., :3, :3], mask[:, :3], (1, 1), 1)
    assert padded.tokens == ("a", "b", "c") and padded.numbers == pytest.approx(plain.numbers)
    assert np.allclose(padded.teacher, plain.teacher)


def test_a_model_beside_itself_differs_nowhere(bert, task):
    widget = AttentionSideBySide(bert, bert, task.tokenizer, TEXTS, ((2, 2),))
    assert set(widget.state().numbers.values()) == {0.0}
    assert not widget.state().difference.any()


def test_any_family_can_be_shown(task):
    teacher = new_teacher(task, "ib-bert")
    student = mobilebert.new_student(teacher, intra_bottleneck_size=32, intermediate_size=64)
    assert teacher.training and student.training
    state = AttentionSideBySide(teacher, student, task.tokenizer, TEXTS).state()
    assert state.layers == (4, 4)
    assert teacher.training and student.training, "a look changes no mode"


def test_models_that_cannot_be_compared_are_refused(bert, task):
    def shown(student, layers=None):
        AttentionSideBySide(bert, student, task.tokenizer, TEXTS, layers)

    with pytest.raises(KdlabError, match="the student has 4 heads and the teacher 2"):
        shown(new_classifier(task.tokenizer, task.label_names, 2, 32, heads=4))
    with pytest.raises(KdlabError, match="maps layer 5 of the teacher"):
        shown(layer_drop(bert), ((1, 5),))
    other = ElectraForSequenceClassification(ElectraConfig(
        vocab_size=50, hidden_size=16, embedding_size=16, num_attention_heads=2, num_hidden_layers=1))
    with pytest.raises(KdlabError, match="attention of the architecture 'electra' cannot be captured"):
        shown(other)
    small = new_masked_lm(task.tokenizer, 1, 32, heads=2)
    small.resize_token_embeddings(50)
    with pytest.raises(KdlabError, match="one tokenizer cannot serve both"):
        shown(small, ((1, 1),))


def test_bad_input_is_said_in_the_widget_and_the_last_picture_stays(widget):
    before = widget.shown.value
    widget.text.value = "  "
    assert widget.shown.value == before
    assert 'role="alert"' in widget.message.value and "the text is empty" in widget.message.value
    widget.text.value = "a <b>blorb</b> rude waiter"
    assert 'role="status"' in widget.message.value and "of the words are not in the vocabulary" in widget.message.value
    before = widget.shown.value
    widget.models[0].config.max_position_embeddings = 4
    widget.text.value = TEXTS[1]
    assert widget.shown.value == before and "the models read at most 4; shorten it" in widget.message.value
    with pytest.raises(KdlabError, match="not a finite number"):
        side_by_side(("a",), torch.full((1, 1, 1, 1), torch.nan), torch.zeros(1, 1, 1, 1), torch.ones(1, 1), (1, 1), 1)


def test_a_very_long_text_is_cut_where_the_tokenizer_says(widget, task):
    widget.text.value = " ".join(["the waiter was rude ."] * 50)
    assert len(widget.state().tokens) == task.tokenizer.model_max_length


def test_a_text_is_traced_once(widget, monkeypatch):
    calls = []
    monkeypatch.setattr(attention, "trace_teacher", lambda *args: calls.append(args) or trace_teacher(*args))
    for text in (*TEXTS, *TEXTS):
        widget.text.value = text
        for head in (1, 2):
            widget.head.value, widget.kind.value = head, "scores" if head == 1 else "probabilities"
    assert len(calls) == 2, "the second text, by two models; the first was traced when the widget was made"
    for i in range(2 * attention.TEXTS_KEPT):
        widget.text.value = f"{TEXTS[1]} {'very ' * i}"
    assert len(widget.seen) == attention.TEXTS_KEPT


def test_a_widgets_frame_is_the_static_picture(widget):
    for kind in plots.attention.KINDS:
        for text in TEXTS:
            widget.kind.value, widget.text.value = kind, text
            check_frame_is_static(widget, plots.picture(plots.frame_side_by_side, plots.draw_side_by_side,
                                                        widget.state(), plots.attention.PANELS))


def test_a_page_without_kernel_shows_the_maps_with_words(widget):
    data, metadata = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (920, 390)
    said, state = metadata["image/png"]["alt"], widget.state()
    assert said.startswith(f"Three maps of attention probabilities on '[CLS] {TEXTS[0]} [SEP]'. teacher, layer 4, ")
    i, j = divmod(int(state.teacher.argmax()), len(state.tokens))
    assert f"strongest from '{state.tokens[i]}' to '{state.tokens[j]}', {state.teacher.max():.2f}" in said
    i, j = divmod(int(np.abs(state.difference).argmax()), len(state.tokens))
    assert f"student − teacher: strongest from '{state.tokens[i]}' to '{state.tokens[j]}', " \
           f"{state.difference[i, j]:.2f}" in said
    assert f"KL, all heads {state.numbers['KL, all heads']:.3f}." in said


def test_the_last_position_wins_when_events_come_in_two_threads(widget):
    check_moved_at_once(widget, (
        (widget.head, [1, 2] * 10), (widget.kind, ["scores", "probabilities"] * 10), (widget.text, TEXTS * 10)))


def test_the_strongest_difference_is_the_largest_in_size():
    state = plots.SideBySide(("a", "b"), np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]]),
                             "scores", (1, 2), 1)
    assert [at for _, _, at in state.maps()] == [(0, 0), (0, 1), (0, 0)]
    assert "student − teacher: strongest from 'a' to 'a', -3.00" in state.describe()


@pytest.mark.parametrize(("size", "limit"), [(0.0, 1e-3), (0.56, 0.6), (1.0, 1.0), (12.6, 15.0), (96, 100.0)])
def test_a_colour_scale_ends_at_a_round_number(size, limit):
    assert plots.attention._limit(np.array([[-size, 0.0]])) == pytest.approx(limit)
