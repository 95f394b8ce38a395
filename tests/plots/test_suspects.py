"""The line-up of lesson 07 and its pictures, and the detector exercise: every kind of loss is tried."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from widget_checks import check_frame_is_static

from kdlab import plots
from kdlab.errors import KdlabError
from kdlab.lessons import EXERCISES, check
from kdlab.lessons.exercise import DRAWS
from kdlab.lessons.lesson_07 import LOSSES, detector, draw_loss
from kdlab.plots.suspects import suspect
from kdlab.widgets import LineUp

STEPS = list(range(0, 21, 5))


def run(start: float, end: float, loss: float = 1.0) -> dict:
    """A run of 20 steps whose distance goes straight from start to end, and whose loss halves."""
    return {"loss": list(np.linspace(loss, loss / 2, 20)), "step": STEPS,
            "distance": list(np.linspace(start, end, len(STEPS))), "accuracy": 0.5}


CORRECT, ALONE = [run(0.7, 0.1), run(0.72, 0.16)], [run(0.7, 0.5), run(0.71, 0.44)]
RUNS = {"swapped": run(0.0, 0.6), "no <T>": run(0.7, 0.3, loss=0.2), "order": run(0.7, 0.7, loss=3.0)}


@pytest.fixture
def line_up() -> LineUp:
    return LineUp(RUNS, CORRECT, ALONE, seed=1)


def shown(widget: LineUp) -> bytes:
    return base64.b64decode(re.search(r"base64,([^\"]+)", widget.shown.value).group(1))


def test_each_suspect_is_one_of_the_runs_and_shows_its_numbers(line_up):
    assert sorted(line_up.suspects.values()) == sorted(RUNS)
    assert list(line_up.suspects) == ["suspect A", "suspect B", "suspect C"]
    pictures = set()
    for letter, name in line_up.suspects.items():
        line_up.who.value = letter
        state = line_up.state()
        assert state.run is RUNS[name]
        assert state.numbers["first distance"] == RUNS[name]["distance"][0]
        assert state.numbers["last distance"] == RUNS[name]["distance"][-1]
        assert state.numbers["last loss"] == pytest.approx(np.mean(RUNS[name]["loss"][-5:]))
        assert f"last distance = {RUNS[name]['distance'][-1]:.3f}" in line_up.message.value
        pictures.add(shown(line_up))
    assert len(pictures) == len(RUNS)


def test_the_name_is_hidden_until_asked_for_and_again_for_the_next(line_up):
    name = line_up.suspects["suspect A"]
    assert name not in line_up.message.value and "Who is it?" in line_up.message.value
    line_up.told.value = True
    assert f"The culprit: {line_up.suspects['suspect A']}." in line_up.state().note
    line_up.who.value = "suspect B"
    assert not line_up.told.value and "Who is it?" in line_up.message.value
    assert line_up.suspects["suspect B"] not in line_up.message.value


def test_names_are_text_and_never_markup(line_up):
    line_up.who.value = next(letter for letter, name in line_up.suspects.items() if name == "no <T>")
    line_up.told.value = True
    assert "no &lt;T&gt;" in line_up.message.value and "no <T>" not in line_up.shown.value


def test_the_order_depends_on_the_seed_alone():
    orders = {tuple(LineUp(RUNS, CORRECT, ALONE, seed=seed).suspects.values()) for seed in range(8)}
    assert len(orders) > 1
    assert LineUp(RUNS, CORRECT, ALONE, seed=5).suspects == LineUp(RUNS, CORRECT, ALONE, seed=5).suspects


def test_all_suspects_share_one_frame_so_that_scales_do_not_tell(line_up):
    frames, axes = set(), set()
    for letter in line_up.suspects:
        line_up.who.value = letter
        frames.add(line_up.state().frame)
        axes.add((line_up.state().loss_axis, line_up.state().distance_axis))
    assert len(frames) == len(axes) == 1
    (((low, high), top),) = axes
    assert low < 0.1 and high > 2.9 and top > 0.72


def test_a_widgets_frame_is_the_static_picture(line_up):
    """The fast way of drawing gives the pixels of the plain one."""
    for letter in line_up.suspects:
        line_up.who.value = letter
        check_frame_is_static(line_up, plots.picture(plots.frame_suspect, plots.draw_suspect, line_up.state(),
                                                     (1.0, 1.0)))


def test_the_page_without_a_kernel_has_the_picture_and_its_words(line_up):
    data, metadata = line_up._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (820, 300)
    said = metadata["image/png"]["alt"]
    assert said.startswith("Two line charts over training. suspect A: the loss goes from ")
    assert "the correct script 0.10 to 0.16; no teacher 0.44 to 0.50" in said
    assert line_up.suspects["suspect A"] not in said


def test_evidence_is_the_same_picture_with_the_name_it_is_given():
    static = plots.evidence("case one", RUNS["swapped"], CORRECT, ALONE)
    assert "case one: the loss goes from 0.947 to 0.553; the distance from the teacher from 0.00 to 0.60" in static.alt
    assert Image.open(io.BytesIO(static.png())).size == (820, 300)
    assert not static.figure.canvas.manager, "no window system is involved"


def test_a_loss_of_nothing_can_be_drawn():
    nothing = {**run(0.7, 0.7), "loss": [0.0] * 20}
    static = plots.evidence("always 0", nothing, [nothing], [nothing])
    assert "the loss goes from 0 to 0" in static.alt and static.png()


@pytest.mark.parametrize(("spoilt", "said"), [
    ({"loss": []}, "no values under 'loss'"),
    ({"distance": [0.5]}, "1 distances for 5 steps"),
    ({"loss": [1.0, float("nan")]}, "a loss that is not a finite number"),
    ({"distance": [0.5, 0.4, float("inf"), 0.3, 0.2]}, "a distance that is not a finite number"),
])
def test_a_run_that_cannot_be_shown_gets_a_sentence(spoilt, said):
    with pytest.raises(KdlabError, match=said):
        plots.evidence("case", run(0.7, 0.1) | spoilt, CORRECT, ALONE)
    bad = LineUp({"a": run(0.7, 0.1) | spoilt}, CORRECT, ALONE)
    assert 'role="alert"' in bad.message.value and said.split("'")[0] in bad.message.value


def test_bad_company_is_refused():
    with pytest.raises(KdlabError, match="at least one of each"):
        suspect("case", RUNS["order"], [], ALONE)
    with pytest.raises(KdlabError, match="different steps"):
        suspect("case", RUNS["order"], CORRECT, [ALONE[0], ALONE[1] | {"step": [0, 1, 2, 3, 4]}])
    with pytest.raises(KdlabError, match="1 to 26 suspects, and 0 were given"):
        LineUp({}, CORRECT, ALONE)


def test_the_detector_exercise_tries_every_kind_of_loss_and_knows_which_are_sound():
    g = torch.Generator().manual_seed(0)
    drawn = [draw_loss(g) for _ in range(DRAWS)]
    sound = dict(LOSSES.values())
    assert {loss for loss, _, _ in drawn} == set(sound)
    for loss, s, t in drawn:
        assert detector()(loss, s, t) is sound[loss]


def test_a_detector_that_fails_is_told_what_it_was_given():
    said = check("7.4", lambda loss, s, t: loss(s, t).backward()).said
    assert "stopped with TypeError" in said and "a function, (" in said


def test_the_mends_agree_with_another_way_of_writing_them():
    def look_up(stored, order, rows):
        return torch.stack([stored[order.tolist().index(row)] for row in rows.tolist()])

    def score_loss(student, teacher, mask):
        total, count = 0.0, 0
        for text in range(len(mask)):
            length = int(mask[text].sum())
            gaps = (student - teacher)[text, :, :length, :length].double()
            total, count = total + gaps.square().sum(), count + gaps.numel()
        return total / count

    assert check("7.2", look_up).passed and check("7.3", score_loss).passed
    assert {"7.1", "7.2", "7.3", "7.4"} <= set(EXERCISES)
