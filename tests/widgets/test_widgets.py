"""Widgets and pictures: what is shown is what the losses say, also for awkward input."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import special
from widget_checks import check_frame_is_static, check_moved_at_once

from kdlab import losses, plots
from kdlab.engine.callbacks import Probes
from kdlab.engine.run import QUIET
from kdlab.errors import KdlabError
from kdlab.loop import distill
from kdlab.models import new_classifier
from kdlab.recipes.soft_targets import with_teacher
from kdlab.study.metrics import predict
from kdlab.widgets import TemperatureExplorer, WatchItLearn
from kdlab.widgets.temperature import tempered
from kdlab.worlds.corpus import LABEL_NAMES

TEXTS = ["the waiter was rude but the pizza was good .", "we loved the price ."]
logit = st.floats(-30, 30, allow_nan=False, width=32)


@given(st.lists(st.tuples(logit, logit), min_size=1, max_size=100), st.floats(0.1, 20))
@settings(deadline=None, max_examples=60)
def test_the_explorers_state_is_what_the_losses_say(pairs, T):
    teacher, student = torch.tensor(pairs, dtype=torch.float64).T
    state = tempered(tuple(map(str, range(len(pairs)))), teacher, student, None, T)
    p, q = (special.softmax(logits.numpy() / T) for logits in (teacher, student))
    assert np.allclose(state.teacher, p) and np.allclose(state.student, q)
    assert np.allclose(state.gradient, (q - p) / T)
    assert state.numbers["KL(p||q)"] == pytest.approx(losses.kl_divergence(teacher / T, student / T).item(), abs=1e-9)
    assert state.numbers["H(p)"] == pytest.approx(special.entr(p).sum(), abs=1e-6)
    student = student.clone().requires_grad_()
    losses.kl_divergence(teacher / T, student / T).backward()
    assert np.allclose(state.gradient, student.grad, atol=1e-9)


def test_a_logit_that_is_no_number_gets_a_sentence():
    with pytest.raises(KdlabError, match="not a finite number"):
        tempered(("a", "b"), torch.tensor([0.0, float("nan")]), torch.zeros(2), None, 1.0)


@pytest.mark.parametrize("classes", [1, 2, 5, 100])
def test_any_number_of_classes_can_be_drawn(classes):
    labels = tuple(f"class {i}" for i in range(classes))
    state = tempered(labels, torch.randn(classes), torch.randn(classes), np.full(classes, 1 / classes), 2.0)
    image = Image.open(io.BytesIO(plots.picture(plots.frame_tempered, plots.draw_tempered, state).png()))
    assert image.size == (820, 300)


@pytest.fixture
def explorer(task, student, teacher, world):
    return TemperatureExplorer(teacher, student, task.tokenizer, TEXTS, world, T=2)


def test_moving_a_control_changes_picture_and_numbers_together(explorer, teacher, task):
    before = explorer.shown.value
    explorer.T.value = 8.0
    T = explorer.T.value
    assert explorer.shown.value != before
    p = (predict(teacher, task.encode(TEXTS[:1]))[0].double() / T)
    assert f"H(p) = {losses.entropy(p).item():.3f}" in explorer.message.value
    assert f"H(p) {losses.entropy(p).item():.3f}" in explorer.shown.value


def test_a_widgets_frame_is_the_static_picture(explorer):
    """The fast way of drawing gives the pixels of the plain one."""
    for T in (0.3, 2.0, 15.0):
        explorer.T.value = T
        plain = plots.picture(plots.frame_tempered, plots.draw_tempered, explorer.state())
        check_frame_is_static(explorer, plain)


def test_bad_input_is_said_in_the_widget_and_the_last_picture_stays(explorer):
    before = explorer.shown.value
    explorer.text.value = "  "
    assert explorer.shown.value == before
    assert 'role="alert"' in explorer.message.value and "the text is empty" in explorer.message.value
    explorer.text.value = "a <b>word</b> nobody knows"
    assert 'role="status"' in explorer.message.value and "truth:" not in explorer.shown.value
    assert "No truth is shown" in explorer.message.value and "word 1" in explorer.message.value


def test_events_in_two_threads_do_not_spoil_the_picture(explorer):
    explorer.by_hand.value = True
    sliders = (explorer.T, explorer.T, *explorer.logits["teacher"][:2], *explorer.logits["student"][:2])
    check_moved_at_once(explorer, [(slider, np.linspace(0.2, 9, 25)) for slider in sliders])


def test_setting_logits_by_hand_starts_from_the_texts_own(explorer):
    by_text = explorer.state()
    explorer.by_hand.value = True
    assert np.allclose(explorer.state().teacher, by_text.teacher, atol=0.05) or max(
        abs(s.value) for s in explorer.logits["teacher"]) == 10
    for slider in (*explorer.logits["teacher"], *explorer.logits["student"]):
        slider.value = 0
    assert explorer.state().numbers["KL(p||q)"] == pytest.approx(0, abs=1e-12)
    assert explorer.state().numbers["H(p)"] == pytest.approx(np.log(5))


@pytest.fixture
def run(task, student, teacher):
    return distill(student, teacher, task["transfer"], with_teacher(12, learning_rate=3e-3),
                   callbacks=[Probes(task.encode(TEXTS))], runtime=QUIET)


def test_the_replay_shows_the_recorded_student(run, task, teacher, student, world):
    truth = world.posteriors(TEXTS)
    widget = WatchItLearn(run, TEXTS, LABEL_NAMES, predict(teacher, task.encode(TEXTS)), truth)
    assert widget.state().step == 0
    fresh = new_classifier(task.tokenizer, task.label_names, layers=1, width=32, seed=1)
    assert np.allclose(widget.state().student, predict(fresh, task.encode(TEXTS))[0].softmax(-1), atol=1e-6)
    widget.moment.index, widget.text.value = len(run.probe_steps) - 1, TEXTS[1]
    state = widget.state()
    assert state.step == 12
    assert np.allclose(state.student, predict(student, task.encode(TEXTS))[1].softmax(-1), atol=1e-6)
    assert state.numbers["KL(truth||q)"] == pytest.approx(
        float((truth[1] * np.log(np.maximum(truth[1], 1e-300) / state.student)).sum()), abs=1e-6)
    widget.step.value = 7
    assert widget.state().step == run.probe_steps[7] == 7 and widget.moment.index == 7
    assert np.allclose(widget.state().student, run.probe_logits[7][1].double().softmax(-1))


def test_the_replay_plays_to_the_end_and_begins_anew_and_stops(run):
    widget = WatchItLearn(run, TEXTS, LABEL_NAMES)
    widget.play.seconds = 0.01
    for _ in range(2):                              # the second time from the end, so from the start again
        widget.play.value = True
        widget.play.thread.join(60)
        assert widget.state().step == 12 and not widget.play.value and widget.play.icon == "play"
    widget.moment.index, widget.play.seconds = 0, 60
    widget.play.value = True
    widget.close()
    assert widget.play.comm is None, "and its thread ends at the next step"


def test_a_field_stands_for_its_slider_and_the_slider_for_its_field(explorer):
    field = next(box.children[1] for box in explorer.children
                 if getattr(box, "children", ())[:1] == (explorer.T,))
    assert field.description == explorer.T.description == "temperature"
    assert (field.min, field.max) == (2**-3, 2**4.5)
    explorer.T.value = 2**0.5
    assert field.value == 1.41 and explorer.T.value == 2**0.5, "rounding does not move the slider"
    field.value = 3
    assert explorer.T.value == 3 and explorer.state().T == 3
    order = []
    explorer.shown.observe(lambda _: order.append("picture"), "value")
    field.observe(lambda _: order.append("field"), "value")
    explorer.T.value = 2
    assert order == ["picture", "field"], "the picture is sent first"
    assert explorer.T.trait_metadata("value", "echo_update") is False, "and nothing before it"
    field.value = 1_000                             # an ipywidgets field keeps to its bounds
    assert explorer.T.value == pytest.approx(2**4.5)


def test_a_page_without_kernel_shows_the_end_with_words(run, task, teacher):
    widget = WatchItLearn(run, TEXTS, LABEL_NAMES, predict(teacher, task.encode(TEXTS)))
    data, metadata = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (820, 300)
    assert metadata["image/png"]["alt"].startswith("Bar chart after step 12. teacher: 1 star")


def test_a_replay_that_cannot_be_shown_is_refused(run, task, student, teacher):
    with pytest.raises(KdlabError, match="1 texts were given for 2 probes"):
        WatchItLearn(run, TEXTS[:1], LABEL_NAMES)
    bare = distill(student, teacher, task["transfer"], with_teacher(2), runtime=QUIET)
    with pytest.raises(KdlabError, match="recorded no probes"):
        WatchItLearn(bare, TEXTS, LABEL_NAMES)


def test_a_typed_text_joins_as_if_it_had_been_a_probe(task, student, teacher, world):
    """The oracle: a run whose probes had that text from the beginning."""
    typed = "the pizza was good ."
    twin = new_classifier(task.tokenizer, task.label_names, layers=1, width=32, seed=1)
    stage = with_teacher(8, learning_rate=3e-3)
    expected = distill(twin, teacher, task["transfer"], stage, callbacks=[Probes(task.encode([typed]))], runtime=QUIET)
    run = distill(student, teacher, task["transfer"], stage, callbacks=[Probes(task.encode(TEXTS), keep_weights=True)],
                  runtime=QUIET)
    widget = WatchItLearn(run, TEXTS, LABEL_NAMES, student=student, tokenizer=task.tokenizer, teacher=teacher,
                          world=world)
    after = predict(student, task.encode(TEXTS))
    widget.text.value = typed
    for number in (0, 3, 8):
        widget.moment.index = number
        state = widget.state()
        assert np.allclose(state.student, expected.probe_logits[number][0].double().softmax(-1), atol=1e-6)
        assert np.allclose(state.teacher, predict(teacher, task.encode([typed]))[0].softmax(-1), atol=1e-6)
        assert np.allclose(state.truth, world.posterior(typed))
    assert torch.equal(predict(student, task.encode(TEXTS)), after), "the student itself stays as it is"
    widget.text.value = "xyzzy"
    assert widget.state().truth is None and "No truth is shown" in widget.message.value
    widget.text.value = " "
    assert 'role="alert"' in widget.message.value and "the text is empty" in widget.message.value
    for i in range(20):
        widget.text.value = f"text {i}"
    assert len(widget.typed) <= 8


def test_typing_into_a_run_that_kept_no_weights_is_refused(run, student, task):
    with pytest.raises(KdlabError, match="kept its weights at 0 of 13 moments"):
        WatchItLearn(run, TEXTS, LABEL_NAMES, student=student, tokenizer=task.tokenizer)


def test_static_pictures_carry_words():
    shown = plots.bars(("no", "yes"), teacher=[0.25, 0.75], title="a text")
    data, metadata = shown._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "Bar chart, headed 'a text'. teacher: no 25%, yes 75%."
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (560, 270)
    line = plots.curves({"a": ([1, 2], [3.0, 4.0])}, x="T", y="H")
    assert line.alt == "Line chart of H over T. a goes from 3 at 1 to 4 at 2."
    assert not line.figure.canvas.manager, "no window system is involved"
