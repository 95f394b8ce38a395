"""One bump fitted to two: against moment matching, scipy's minimiser, and the losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from scipy.spatial import distance
from widget_checks import check_frame_is_static, check_moved_at_once

from kdlab import plots
from kdlab.plots.direction import PANELS, TOP
from kdlab.widgets import KLDirection
from kdlab.widgets.direction import BY_HAND, DIVERGENCES, FARTHEST, TEACHER_SD, X, direction, fit, normal

FORWARD, REVERSE, JSD = DIVERGENCES


def teacher(apart: float, left: float) -> np.ndarray:
    bumps = [np.exp(-0.5 * ((X - mean) / TEACHER_SD) ** 2) for mean in (-apart / 2, apart / 2)]
    p = left * bumps[0] / bumps[0].sum() + (1 - left) * bumps[1] / bumps[1].sum() + 1e-30
    return p / p.sum()


@given(st.floats(0, FARTHEST), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=25)
def test_forward_kl_matches_mean_and_variance(apart, left):
    """Whatever the teacher, forward KL of a normal student is least where the first two moments agree."""
    p = teacher(apart, left)
    q = fit(p, DIVERGENCES[FORWARD]).q
    mean = (p * X).sum()
    assert (q * X).sum() == pytest.approx(mean, abs=0.02)
    assert (q * (X - mean) ** 2).sum() == pytest.approx((p * (X - mean) ** 2).sum(), rel=0.02)
    assert fit(p, DIVERGENCES[FORWARD]).mean == pytest.approx(apart * (0.5 - left), abs=0.02), "as the lesson says"


@pytest.mark.parametrize("name", DIVERGENCES)
@given(st.floats(0, FARTHEST), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=15)
def test_no_minimiser_finds_a_better_bump(name, apart, left):
    p, oracle = teacher(apart, left), {
        FORWARD: lambda p, q: special.rel_entr(p, q).sum(), REVERSE: lambda p, q: special.rel_entr(q, p + 1e-30).sum(),
        JSD: lambda p, q: (special.rel_entr(p, (p + q) / 2) + special.rel_entr(q, (p + q) / 2)).sum() / 2}[name]
    ours = fit(p, DIVERGENCES[name])

    def loss(at) -> float:
        return oracle(p, normal(np.clip(at[0], -5, 5), np.exp(np.clip(at[1], np.log(0.5), np.log(4)))))
    best = min(optimize.minimize(loss, (start, np.log(sd)), method="Nelder-Mead").fun
               for start in (-apart / 2, 0.0, apart / 2) for sd in (0.7, 2.0))
    assert oracle(p, ours.q) <= best + 2e-3


def test_far_apart_reverse_kl_takes_one_bump_and_forward_kl_both():
    one, both = direction(6, 0.6, REVERSE), direction(6, 0.6, FORWARD)
    assert one.masses(one.student.q)[0] > 0.95 and one.student.mean == pytest.approx(-3, abs=0.1)
    assert min(both.masses(both.student.q)) > 0.2, "and much where the teacher has next to nothing"
    assert both.masses(both.teacher)[1] < 0.02


@pytest.mark.parametrize("how", [*DIVERGENCES, BY_HAND])
def test_the_numbers_are_the_divergences(how):
    state = direction(4, 0.3, how, (1.0, 1.5))
    p, q = state.teacher, state.student.q
    assert state.numbers["KL(p||q)"] == pytest.approx(special.rel_entr(p, q).sum(), abs=1e-9)
    assert state.numbers["KL(q||p)"] == pytest.approx(special.rel_entr(q, p).sum(), abs=1e-9)
    assert state.numbers["JSD"] == pytest.approx(distance.jensenshannon(p, q) ** 2, abs=1e-9)
    assert sum(state.masses(q)) == pytest.approx(1)
    assert f"JSD {state.numbers['JSD']:.3f}" in state.describe()


def test_the_widget_moves_and_only_by_hand_do_the_bumps_sliders_count():
    widget = KLDirection()
    assert "fitted by forward KL" in widget.shown.value and widget.mean.disabled
    check_moved_at_once(widget, [(widget.how, [REVERSE, JSD]), (widget.apart, [6.0, 2.0]), (widget.left, [0.2])])
    assert "fitted by JSD, 2.0 apart" in widget.shown.value
    widget.how.value = BY_HAND
    assert not widget.mean.disabled
    widget.mean.value, widget.sd.value = -1.0, 2.0
    assert widget.state().student.mean == -1.0 and "set by hand" in widget.shown.value


def test_every_corner_can_be_drawn():
    for apart in (0.0, FARTHEST):
        for left in (0.05, 0.95):
            for how in (*DIVERGENCES, BY_HAND):
                state = direction(apart, left, how, (-5.0, 0.5))
                assert all(np.isfinite(value) for value in state.numbers.values())
                assert max(state.teacher.max(), state.student.q.max()) < TOP


def test_the_frame_is_static():
    widget = KLDirection()
    widget.apart.value = 3.0
    check_frame_is_static(widget, plots.picture(plots.frame_direction, plots.draw_direction, widget.state(), PANELS))
