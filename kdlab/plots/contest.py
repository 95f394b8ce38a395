"""Methods against each other: a score against a cost, with the spread over seeds and the Pareto front. Lesson 06."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..errors import KdlabError
from .figure import ACCENT, STUDENT, TEACHER, TRUTH, Static, line, picture

PANELS = (1.0, 0.34)        # relative widths: the picture, and the keys beside it
LESS_IS_BETTER = frozenset({"kl_truth", "kl_teacher", "calibration_error"})
COLOURS = (TEACHER, STUDENT, "#009E73", ACCENT, "#56B4E9", "#D55E00", TRUTH)       # Okabe and Ito 2008
MARKS = "osD^vPX"


@dataclass(frozen=True)
class Contender:
    """A student and how it was taught.

    scores: for each score, such as accuracy, one value a seed. costs: for each cost, such as parameters, a positive
    number. method decides colour and mark.
    """

    student: str
    method: str
    scores: Mapping[str, tuple[float, ...]]
    costs: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.student}: {self.method}"

    def mean(self, score: str) -> float:
        return statistics.fmean(self.scores[score])

    def told(self, score: str) -> str:
        """Mean and standard error in words; a single seed has no spread to tell."""
        spread = f" ± {self.standard_error(score):.3f}" if len(self.scores[score]) > 1 else ""
        return f"{self.mean(score):.3f}{spread}"

    def standard_error(self, score: str) -> float:
        """Of the mean over seeds; 0 with a single seed, which tells no spread."""
        values = self.scores[score]
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Contest:
    """Contenders by a cost and a score, one of them pointed at."""

    contenders: tuple[Contender, ...]
    score: str
    cost: str
    chosen: int

    @property
    def frame(self) -> tuple:
        return tuple(map(id, self.contenders)), self.score, self.cost

    @property
    def front(self) -> tuple[int, ...]:
        """Those that no other beats, by their means, cheapest first: see `pareto`."""
        return pareto([c.costs[self.cost] for c in self.contenders], [c.mean(self.score) for c in self.contenders],
                      self.score in LESS_IS_BETTER)

    @property
    def numbers(self) -> dict[str, float]:
        one = self.contenders[self.chosen]
        return {self.score: one.mean(self.score), "s.e.": one.standard_error(self.score)}

    @property
    def note(self) -> str:
        one = self.contenders[self.chosen]
        seeds = len(one.scores[self.score])
        place = "on" if self.chosen in self.front else "not on"
        return (f"{one.name}, {_count(one.costs[self.cost])} {self.cost}, {seeds} seed{'s' if seeds > 1 else ''}; "
                f"{place} the Pareto front.")

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        rows = "; ".join(f"{c.name} {c.told(self.score)} at "
                         f"{_count(c.costs[self.cost])}" for c in self.contenders)
        front = ", ".join(self.contenders[i].name for i in self.front)
        better = "lower" if self.score in LESS_IS_BETTER else "higher"
        return (f"Scatter of {self.score} ({better} is better) against {self.cost}: {rows}. Pareto front: {front}. "
                f"Pointed at: {self.note}")


def contest(contenders: Sequence[Contender], score: str = "accuracy", cost: str = "parameters",
            chosen: int = 0) -> Contest:
    """The state of the picture; raises `KdlabError` for no contender, or one without this score or cost."""
    if not contenders:
        raise KdlabError("there is nobody to compare: choose at least one method")
    for one in contenders:
        if not one.scores.get(score):
            raise KdlabError(f"{one.name} has no {score}; it has {', '.join(one.scores) or 'no scores'}")
        if not one.costs.get(cost, 0) > 0:
            raise KdlabError(f"{one.name} has no {cost} above 0; it has {', '.join(one.costs) or 'no costs'}")
    if not 0 <= chosen < len(contenders):
        raise KdlabError(f"there are {len(contenders)} contenders, counted from 0, and none of them is {chosen}")
    return Contest(tuple(contenders), score, cost, chosen)


def which_one(contenders: Sequence[Contender], score: str = "accuracy", cost: str = "parameters") -> Static:
    """A static picture of all contenders."""
    return picture(frame_contest, draw_contest, contest(contenders, score, cost), PANELS)


def pareto(costs: Sequence[float], scores: Sequence[float], less_is_better: bool = False) -> tuple[int, ...]:
    """Indices of those that no other beats, by cost: nobody is at most as dear and at least as good, and one of the
    two strictly."""
    sign = 1 if less_is_better else -1
    order = sorted(range(len(costs)), key=lambda i: (costs[i], sign * scores[i]))
    front: list[int] = []
    for i in order:
        best = sign * scores[front[-1]] if front else math.inf
        twin = front and costs[i] == costs[front[-1]] and scores[i] == scores[front[-1]]
        if sign * scores[i] < best or twin:
            front.append(i)
    return tuple(front)


def frame_contest(axes: Sequence[Axes], state: Contest) -> None:
    plot, keys = axes
    _scales(plot, state)
    plot.grid(color="0.92", linewidth=0.7)
    plot.set_axisbelow(True)
    front = [state.contenders[i] for i in state.front]
    plot.step([c.costs[state.cost] for c in front], [c.mean(state.score) for c in front], where="post", color="0.45",
              linewidth=1.2, linestyle="--", zorder=1)
    styles = _styles(state)
    for one in state.contenders:
        colour, mark = styles[one.method]
        plot.errorbar(one.costs[state.cost], one.mean(state.score), yerr=one.standard_error(state.score), color=colour,
                      marker=mark, markersize=7, markeredgecolor="black", markeredgewidth=0.6, capsize=3, zorder=2)
    keys.axis("off")
    handles = [Line2D([], [], color=colour, marker=mark, linestyle="", markeredgecolor="black", markeredgewidth=0.6,
                      label=method) for method, (colour, mark) in styles.items()]
    handles.append(Line2D([], [], color="0.45", linestyle="--", linewidth=1.2, label="Pareto front"))
    keys.legend(handles=handles, loc="center left", fontsize=9, frameon=False, borderpad=0, handletextpad=0.6)


def draw_contest(axes: Sequence[Axes], state: Contest) -> list[Artist]:
    plot, one = axes[0], state.contenders[state.chosen]
    ring = line(plot, [one.costs[state.cost]], [one.mean(state.score)], "", marker="o", markersize=17, color="none",
                markeredgecolor="black", markeredgewidth=1.8, zorder=3)
    head = f"{one.name}   {state.score} {one.told(state.score)}"
    return [ring, plot.text(0, 1.04, head, transform=plot.transAxes, fontsize=9.5)]


def _scales(plot: Axes, state: Contest) -> None:
    costs = [c.costs[state.cost] for c in state.contenders]
    ends = [c.mean(state.score) + sign * c.standard_error(state.score) for c in state.contenders for sign in (-1, 1)]
    room = 0.08 * (max(ends) - min(ends)) or 0.01
    plot.set_ylim(min(ends) - room, max(ends) + room)
    low, high = min(costs), max(costs)
    plot.set_xscale("log")
    plot.minorticks_off()
    plot.set_xlim(low / 1.3, high * 1.3)
    ticks: list[float] = []
    for cost in sorted(costs):
        if not ticks or cost > 1.25 * ticks[-1]:        # names of nearer ones would overlap
            ticks.append(cost)
    plot.set_xticks(ticks, [_count(tick) for tick in ticks])
    plot.tick_params(labelsize=8)
    better = "lower" if state.score in LESS_IS_BETTER else "higher"
    plot.set_xlabel(state.cost, fontsize=9)
    plot.set_ylabel(f"{state.score} ({better} is better)", fontsize=9)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)


def _styles(state: Contest) -> dict[str, tuple[str, str]]:
    methods = dict.fromkeys(c.method for c in state.contenders)
    return {method: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]) for i, method in enumerate(methods)}


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
