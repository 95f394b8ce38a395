"""A run that is started, paused, resumed and stopped from the page, without a page: buttons are clicked by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from conftest import opinionated

from kdlab.engine.run import QUIET, Stage
from kdlab.errors import KdlabError
from kdlab.loop import distill
from kdlab.models import new_classifier, new_masked_lm
from kdlab.recipes import tinybert
from kdlab.recipes.soft_targets import no_teacher, with_teacher
from kdlab.study.metrics import predict
from kdlab.widgets import LiveRun
from kdlab.widgets.live import ENDED, PAUSED, READY, RUNNING

TEXTS = ["the waiter was rude but the pizza was good .", "we loved the price ."]
LONG = 100_000      # steps: nobody waits for that


def new_student(task):
    return new_classifier(task.tokenizer, task.label_names, layers=1, width=32, seed=1)


@pytest.fixture
def live(task, teacher, world):
    """Makes live runs, and ends those that a test leaves going."""
    made: list[LiveRun] = []

    def make(steps: int, **options) -> LiveRun:
        made.append(LiveRun(new_student(task), teacher, task["transfer"], with_teacher(steps, learning_rate=3e-3),
                            tokenizer=task.tokenizer, texts=TEXTS, world=world, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()
        one.wait(60)
        assert not (one.thread and one.thread.is_alive())


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def test_a_live_run_is_the_run_of_distill(live, task, teacher, world):
    widget = live(15)
    assert widget.phase == READY and "Ready for 15 steps" in widget.message.value
    widget.go.click()
    run = widget.wait(60)
    twin = new_student(task)
    expected = distill(twin, teacher, task["transfer"], with_teacher(15, learning_rate=3e-3), runtime=QUIET)
    assert run.history == expected.history and not run.interrupted
    assert all(torch.equal(a, b) for a, b in zip(widget.student.parameters(), twin.parameters(), strict=True))
    assert widget.phase == ENDED and widget.go.disabled and widget.halt.disabled and widget.bar.value == 15
    state = widget.state()
    assert state.step == 15 and "Done: step 15 of 15" in widget.message.value
    assert np.allclose(state.student, predict(twin, task.encode(TEXTS))[0].softmax(-1), atol=1e-6)
    assert np.allclose(state.teacher, predict(teacher, task.encode(TEXTS))[0].softmax(-1), atol=1e-6)
    assert np.allclose(state.truth, world.posterior(TEXTS[0]))
    assert len(state.curves["soft targets"]) == 15


def test_pause_holds_the_student_still_and_resume_goes_on(live, task):
    widget = live(LONG)
    widget.go.click()
    until(lambda: widget.run.steps > 3)
    assert widget.go.description == "pause"
    widget.go.click()
    until(lambda: widget.go.description == "resume")
    assert widget.phase == PAUSED
    steps, before = widget.run.steps, predict(widget.student, task.encode(TEXTS))
    time.sleep(0.3)
    assert widget.run.steps == steps and torch.equal(predict(widget.student, task.encode(TEXTS)), before)
    widget.text.value = TEXTS[1]                    # the notebook goes on, and so does the widget
    assert np.allclose(widget.state().student, before[1].double().softmax(-1), atol=1e-6)
    assert f"Paused: step {steps} of" in widget.message.value
    widget.go.click()
    until(lambda: widget.run.steps > steps + 3)
    assert widget.phase == RUNNING
    widget.halt.click()
    run = widget.wait(60)
    assert run.interrupted and widget.phase == ENDED and "Stopped: step" in widget.message.value
    assert len(run.history["soft targets"]) == run.steps < LONG


def test_a_page_may_ask_for_the_picture_while_the_student_learns(live):
    """Whoever shows the widget again must not read the student in the middle of a step."""
    widget = live(LONG)
    widget.go.click()
    until(lambda: widget.run.steps > 2)
    read = []
    widget.state = lambda: read.append(1)
    with widget.drawing:        # as if the run were busy with a step for as long as this takes
        shown, _ = widget._repr_mimebundle_()
    assert "image/png" in shown and not read
    del widget.state


def test_waiting_for_a_paused_run_is_refused_and_closing_ends_one(live):
    widget = live(LONG)
    widget.go.click()
    widget.go.click()
    until(lambda: widget.go.description == "resume")
    with pytest.raises(KdlabError, match="resume or stop it first"):
        widget.wait()
    widget.close()
    assert not widget.thread.is_alive(), "so that the student is free"


def test_a_live_run_without_a_text_can_still_be_shown(task, teacher):
    widget = LiveRun(new_student(task), teacher, task["transfer"], with_teacher(3), tokenizer=task.tokenizer,
                     texts=[" "])
    assert "the text is empty" in widget.message.value and widget._repr_mimebundle_()


def test_stop_ends_a_paused_run_too(live):
    widget = live(LONG)
    widget.go.click()
    until(lambda: widget.run.steps > 0)
    widget.go.click()
    until(lambda: widget.phase == PAUSED)
    steps = widget.run.steps
    widget.halt.click()
    assert widget.wait(60).steps == steps and widget.phase == ENDED


def test_the_picture_follows_while_it_runs_and_a_typed_text_joins(live):
    widget = live(LONG)
    first = widget.shown.value
    widget.go.click()
    until(lambda: widget.shown.value != first)
    widget.text.value = "hello"
    until(lambda: "No truth is shown" in widget.message.value)
    assert 'aria-live="off"' in widget.message.value, "or a screen reader would never come to rest"
    assert "steps a second" in widget.message.value and "s left" in widget.message.value
    widget.text.value = " "
    until(lambda: "the text is empty" in widget.message.value)
    widget.text.value = TEXTS[1]
    until(lambda: 'role="status"' in widget.message.value)


def test_a_run_that_cannot_be_right_is_refused_before_there_is_a_button(task, world):
    other = opinionated(new_classifier(task.tokenizer, ("bad", "good"), layers=1, width=32))
    with pytest.raises(KdlabError, match="labels"):
        LiveRun(new_student(task), other, task["transfer"], with_teacher(3), tokenizer=task.tokenizer, texts=TEXTS)


def test_a_teacher_that_is_no_classifier_is_not_asked_for_stars(task):
    student = new_classifier(task.tokenizer, task.label_names, layers=2, width=32)
    bert = new_masked_lm(task.tokenizer, 2, 32)
    stage = Stage(tinybert.intermediate(student, bert), 2)
    widget = LiveRun(student, bert, task["transfer"], stage, tokenizer=task.tokenizer, texts=TEXTS)
    widget.go.click()
    assert widget.wait(60).steps == 2 and widget.state().teacher is None


def test_a_loss_that_is_no_number_ends_it_with_a_sentence(task, world):
    student = new_student(task)
    widget = LiveRun(student, None, task["train"], no_teacher(5), tokenizer=task.tokenizer, texts=TEXTS, world=world)
    with torch.no_grad():
        student.classifier.weight.fill_(float("nan"))
    widget.go.click()
    widget.wait(60)
    assert widget.phase == ENDED and "hard labels" in widget.message.value and 'role="alert"' in widget.message.value


def test_only_a_classifier_can_be_watched_so(task):
    with pytest.raises(KdlabError, match="this is a BertForMaskedLM"):
        LiveRun(new_masked_lm(task.tokenizer, 1, 32), None, task["transfer"], with_teacher(3), tokenizer=task.tokenizer,
                texts=TEXTS)
