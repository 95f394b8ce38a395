"""Differences with their intervals, one below the other: which of them stay clear of zero? Lesson 08."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ..errors import KdlabError
from .figure import ACCENT, TEACHER, Static, line, new_figure

ROW, LETTER = 0.42, 0.075       # inches


@dataclass(frozen=True)
class Gap:
    """A difference: its name, one value a seed, the mean, and the ends of its interval."""

    name: str
    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def told(self) -> str:
        return f"{self.name} {self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class Forest:
    """Differences of one score."""

    gaps: tuple[Gap, ...]
    score: str

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        clear = [gap.name for gap in self.gaps if gap.low > 0 or gap.high < 0]
        return (f"Differences of {self.score}, each a dot with its interval, small marks for the seeds: "
                f"{'; '.join(gap.told for gap in self.gaps)}. Clear of zero: {', '.join(clear) or 'none'}.")


def forest(gaps: Sequence[Gap], score: str) -> Static:
    """The static picture; raises `KdlabError` where there is no difference to draw."""
    if not gaps:
        raise KdlabError("there is no difference to draw; compare at least one method with the baselines")
    state = Forest(tuple(gaps), score)
    figure = new_figure(height=0.9 + ROW * len(gaps), left=LETTER * max(len(gap.name) for gap in gaps) + 0.2)
    frame_forest(figure.axes, state)
    draw_forest(figure.axes, state)
    return Static(figure, state.describe())


def frame_forest(axes: Sequence[Axes], state: Forest) -> None:
    (plot,) = axes
    ends = [x for gap in state.gaps for x in (*gap.values, gap.low, gap.high, 0.0) if math.isfinite(x)]
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    plot.set_xlim(min(ends) - room, max(ends) + room)
    plot.set_ylim(len(state.gaps) - 0.4, -0.6)
    plot.set_yticks(range(len(state.gaps)), [gap.name for gap in state.gaps], fontsize=9)
    plot.tick_params(labelsize=8.5)
    plot.axvline(0, color="0.5", linewidth=1)
    plot.set_xlabel(f"difference of {state.score}", fontsize=9)
    plot.grid(axis="x", color="0.92", linewidth=0.7)
    plot.set_axisbelow(True)
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)


def draw_forest(axes: Sequence[Axes], state: Forest) -> list[Artist]:
    (plot,) = axes
    low, high = plot.get_xlim()
    drawn: list[Artist] = []
    for row, gap in enumerate(state.gaps):
        clear = gap.low > 0 or gap.high < 0
        colour = TEACHER if clear else ACCENT
        drawn += [line(plot, [max(gap.low, low), min(gap.high, high)], [row, row], color=colour, linewidth=2),
                  line(plot, gap.values, [row + 0.22] * len(gap.values), "", marker="|", markersize=6, color="0.35"),
                  line(plot, [gap.mean], [row], "", marker="o" if clear else "D", markersize=8, color=colour,
                       markeredgecolor="black", markeredgewidth=0.7)]
    return drawn
