"""Which one: the Pareto front against its definition, the picture against the runs, the widget and its controls."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from widget_checks import check_frame_is_static, check_moved_at_once, shown_png

from kdlab.errors import KdlabError
from kdlab.plots.contest import Contender, contest, pareto, which_one
from kdlab.widgets import WhichOne

METHODS = {"no teacher": 0.40, "soft targets": 0.55, "recipe": 0.57}
STUDENTS = {"large": 500_000, "small": 150_000}


def contenders() -> list[Contender]:
    return [Contender(student, method, {"accuracy": (base - 0.01, base + bonus, base + 0.02),
                                        "kl_truth": (1 - base, 1.1 - base, 1.2 - base)},
                      {"parameters": size, "MFLOPs": size / 1e5})
            for bonus, (student, size) in enumerate(STUDENTS.items(), start=0) for method, base in METHODS.items()]


def widget() -> WhichOne:
    return WhichOne(contenders())


few = st.integers(1, 4).map(float)


@given(st.lists(st.tuples(few, few), min_size=1, max_size=8), st.booleans())
def test_the_front_holds_those_that_no_other_beats(points, less_is_better):
    costs, scores = zip(*points, strict=True)

    def beats(a, b):
        better = (lambda x, y: x <= y) if less_is_better else (lambda x, y: x >= y)
        return costs[a] <= costs[b] and better(scores[a], scores[b]) and points[a] != points[b]

    wanted = {i for i in range(len(points)) if not any(beats(j, i) for j in range(len(points)))}
    front = pareto(costs, scores, less_is_better)
    assert set(front) == wanted and len(front) == len(wanted)
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_numbers_are_the_runs_mean_and_standard_error():
    state = contest(contenders(), "accuracy", "parameters", chosen=1)
    runs = contenders()[1].scores["accuracy"]
    assert state.numbers == pytest.approx({"accuracy": sum(runs) / 3, "s.e.": statistics.stdev(runs) / 3**0.5})
    assert "large: soft targets, 500,000 parameters, 3 seeds; not on the Pareto front." in state.note
    alone = contest([Contender("one", "once", {"accuracy": (0.5,)}, {"parameters": 10})])
    assert alone.numbers["s.e."] == 0 and "1 seed;" in alone.note
    which_one(alone.contenders).png()       # a single point still has scales


def test_lower_is_better_for_distances():
    state = contest(contenders(), "kl_truth")
    assert "lower is better" in state.describe()
    assert {state.contenders[i].name for i in state.front} == {"small: recipe"}


def test_controls_change_what_is_shown_and_the_pointer_stays_where_it_can():
    shown = widget()
    before = shown_png(shown)
    shown.pointer.value = "small: soft targets"
    assert shown_png(shown) != before and "small: soft targets" in shown.message.value
    shown.score.value, shown.cost.value = "kl_truth", "MFLOPs"
    assert "kl_truth = 0.550" in shown.message.value and "1.5 MFLOPs" in shown.message.value
    shown.methods.value = ("soft targets", "recipe")
    assert shown.pointer.value == "small: soft targets" and len(shown.pointer.options) == 4
    shown.methods.value = ("no teacher",)
    assert shown.pointer.value == "large: no teacher"


def test_no_method_chosen_is_said_and_the_last_picture_stays():
    shown = widget()
    before = shown_png(shown)
    shown.methods.value = ()
    assert "choose at least one method" in shown.message.value and shown_png(shown) == before
    shown.methods.value = ("recipe",)
    assert "alert" not in shown.message.value


def test_fast_drawing_is_the_plain_one_and_the_last_position_wins():
    shown = widget()
    check_frame_is_static(shown, which_one(contenders()))
    check_moved_at_once(shown, [(shown.pointer, shown.pointer.options), (shown.score, ["kl_truth", "accuracy"] * 3),
                                (shown.cost, ["MFLOPs", "parameters"] * 3)])


@pytest.mark.parametrize(("change", "said"), [
    (lambda all_: all_.clear(), "nobody to compare"),
    (lambda all_: all_.append(Contender("x", "y", {"accuracy": (0.5,)}, {"parameters": 1, "MFLOPs": 1})),
     "x: y has no kl_truth"),
    (lambda all_: all_.append(Contender("x", "y", {"accuracy": (0.5,), "kl_truth": ()},
                                        {"parameters": 1, "MFLOPs": 1})), "x: y has no kl_truth"),
    (lambda all_: all_.append(Contender("x", "y", {"accuracy": (0.5,), "kl_truth": (1,)}, {"parameters": 0})),
     "no parameters above 0"),
])
def test_contenders_that_cannot_be_compared_are_refused(change, said):
    all_ = contenders()
    change(all_)
    with pytest.raises(KdlabError, match=said):
        WhichOne(all_)


def test_a_single_seed_claims_no_spread():
    def alt(*values):
        return which_one([Contender("a student", "a method", {"accuracy": values}, {"parameters": 1_000.0})]).alt
    assert "a method 0.500 at 1,000" in alt(0.5) and "0.500 ± 0.100 at" in alt(0.4, 0.6)
