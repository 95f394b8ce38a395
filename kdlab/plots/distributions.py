"""Distributions: teacher, student and truth on one axis, tempered or at a moment of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .figure import ACCENT, STUDENT, TEACHER, TRUTH, Static, about, heading, line, new_figure, rectangles

BAR = 0.38      # width; two bars a class


@dataclass(frozen=True)
class Tempered:
    """Teacher and student at one temperature, and the truth where it is known.

    teacher, student, truth: probabilities (C,); the truth is not tempered, it is what is. gradient:
    d soft-target loss without T^2 / d student logit = (q - p) / T, shape (C,). numbers: what is
    written above, by name, the gradient's size above the gradient. note: a sentence beneath.
    """

    labels: tuple[str, ...]
    T: float
    teacher: np.ndarray
    student: np.ndarray | None
    truth: np.ndarray | None
    gradient: np.ndarray | None
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def frame(self) -> tuple:
        """What the fixed half of the picture depends on."""
        return self.labels, self.student is None, self.truth is None, _limit(self.gradient)

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        numbers = " ".join(f"{name} {value:.3f}." for name, value in self.numbers.items())
        return (f"Bar chart at temperature {self.T:.2f}. "
                f"{_in_words(self.labels, self.teacher, self.student, self.truth)} {numbers} {self.note}").strip()


def frame_tempered(axes: Sequence[Axes], state: Tempered) -> None:
    _probability_frame(axes[0], state.labels)
    _legend(axes[0], state.teacher, state.student, state.truth)
    _class_axis(axes[1], state.labels, size=8)
    top = _limit(state.gradient)
    axes[1].set_ylim(-top, top)
    axes[1].axhline(0, color="0.4", linewidth=0.8)


def draw_tempered(axes: Sequence[Axes], state: Tempered) -> list[Artist]:
    artists = _draw_distributions(axes[0], state.teacher, state.student, state.truth)
    if state.gradient is not None:
        artists.append(rectangles(axes[1], np.arange(len(state.labels)) - 0.3, 0.0, 0.6, state.gradient,
                                  facecolor=ACCENT, edgecolor="black", linewidth=0.6))
    left = {name: value for name, value in state.numbers.items() if name != "|gradient|"}
    artists.append(heading(axes[0], f"T = {state.T:.2f}", left))
    right = {name: value for name, value in state.numbers.items() if name == "|gradient|"}
    artists.append(heading(axes[1], "(q - p) / T", right))
    return artists


@dataclass(frozen=True)
class Moment:
    """One moment of a training run: the student on one text, and where on the curves that is.

    teacher, student, truth: probabilities (C,) at temperature 1. curves: each loss term's name -> its
    value at every step. step: the steps taken so far; total: those planned, where the axis ends, if there are more
    than the curves have.
    """

    labels: tuple[str, ...]
    step: int
    teacher: np.ndarray | None
    student: np.ndarray
    truth: np.ndarray | None
    curves: dict[str, Sequence[float]]
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""
    total: int = 0

    @property
    def frame(self) -> tuple:
        lengths = tuple(len(values) for values in self.curves.values())
        return self.labels, self.teacher is None, self.truth is None, id(self.curves), lengths

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        numbers = " ".join(f"{name} {value:.3f}." for name, value in self.numbers.items())
        losses = " ".join(f"Loss of {name} {values[self.step - 1]:.3f}." for name, values in self.curves.items()
                          if 0 < self.step <= len(values) and values[self.step - 1] is not None)
        return (f"Bar chart after step {self.step}{f' of {self.total}' if self.total else ''}. "
                f"{_in_words(self.labels, self.teacher, self.student, self.truth)} {numbers} {losses} "
                f"{self.note}").strip()


def frame_moment(axes: Sequence[Axes], state: Moment) -> None:
    _probability_frame(axes[0], state.labels)
    _legend(axes[0], state.teacher, state.student, state.truth)
    for (name, values), style in zip(state.curves.items(), ("-", "--", ":", "-."), strict=False):
        steps, smooth = _smoothed(values)
        axes[1].plot(steps, smooth, style, color="0.25", linewidth=1.4, label=name)
    axes[1].tick_params(labelsize=8)
    axes[1].set_xlabel("step", fontsize=9)
    axes[1].set_title("loss (running mean)", fontsize=10)
    axes[1].set_ylim(bottom=0)
    if state.total:
        axes[1].set_xlim(0, state.total)
    if state.curves:
        axes[1].legend(frameon=False, fontsize=9)


def draw_moment(axes: Sequence[Axes], state: Moment) -> list[Artist]:
    artists = _draw_distributions(axes[0], state.teacher, state.student, state.truth)
    artists.append(heading(axes[0], f"step {state.step}", state.numbers))
    artists.append(line(axes[1], [state.step] * 2, axes[1].get_ylim(), color=ACCENT, linewidth=2))
    return artists


def bars(labels: Sequence[str], teacher=None, student=None, truth=None, title: str = "", top: float = 1.0) -> Static:
    """Distributions over the same classes side by side. top: where the axis ends, for small probabilities."""
    figure = new_figure(width=5.6, height=2.7)
    _probability_frame(figure.axes[0], labels, top)
    _draw_distributions(figure.axes[0], teacher, student, truth)
    _legend(figure.axes[0], teacher, student, truth)
    figure.axes[0].set_title(title, fontsize=10, loc="left")
    return Static(figure, f"Bar chart{about(title)}. {_in_words(labels, teacher, student, truth)}")


def _draw_distributions(axes: Axes, teacher, student, truth) -> list[Artist]:
    artists: list[Artist] = []
    shift = BAR / 2 if teacher is not None and student is not None else 0
    for values, side, colour, hatch in ((teacher, -shift, TEACHER, ""), (student, shift, STUDENT, "///")):
        if values is not None:
            artists.append(rectangles(axes, np.arange(len(values)) + side - BAR / 2, 0.0, BAR, values,
                                      facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.6))
    if truth is not None:
        artists.append(line(axes, range(len(truth)), truth, "", marker="D", color=TRUTH, markerfacecolor="white",
                            markersize=7, markeredgewidth=1.6, clip_on=False))
    return artists


def _probability_frame(axes: Axes, labels: Sequence[str], top: float = 1.0) -> None:
    _class_axis(axes, labels)
    axes.set_ylim(0, 1.15 * top)
    axes.set_yticks([0, 0.25 * top, 0.5 * top, 0.75 * top, top])
    axes.set_ylabel("probability", fontsize=9)


def _class_axis(axes: Axes, labels: Sequence[str], size: float = 9) -> None:
    axes.set_xlim(-0.6, len(labels) - 0.4)
    every = max(1, len(labels) // 12)
    axes.set_xticks(range(0, len(labels), every), [str(label)[:12] for label in labels[::every]], fontsize=size)
    axes.tick_params(axis="y", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(axes: Axes, teacher, student, truth) -> None:
    keys: list[Artist] = [Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.6, label=name)
                          for name, colour, hatch, values in (("teacher p", TEACHER, "", teacher),
                                                              ("student q", STUDENT, "///", student))
                          if values is not None]
    if truth is not None:
        keys.append(Line2D([], [], marker="D", color=TRUTH, markerfacecolor="white", markersize=7,
                           markeredgewidth=1.6, linestyle="", label="truth"))
    axes.legend(handles=keys, loc="upper left", ncols=3, frameon=False, fontsize=9)


def _in_words(labels: Sequence[str], teacher, student, truth) -> str:
    rows = (("teacher", teacher), ("student", student), ("truth", truth))
    return " ".join(f"{name}: " + ", ".join(f"{label} {value:.0%}" for label, value in
                                            zip(labels, values, strict=True)) + "."
                    for name, values in rows if values is not None)


def _limit(gradient: np.ndarray | None) -> float:
    """A symmetric axis limit that changes in steps, so that the frame is seldom redrawn."""
    top = 0.0 if gradient is None else float(np.abs(gradient).max())
    return next((limit for limit in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if top <= limit), 30.0)


def _smoothed(values: Sequence[float | None], points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal stretches of the steps that have a value."""
    steps = np.array([i for i, v in enumerate(values, start=1) if v is not None])
    kept = np.array([v for v in values if v is not None], dtype=float)
    groups = np.array_split(np.arange(len(kept)), min(points, max(1, len(kept) // 5)))
    groups = [g for g in groups if len(g)]
    return np.array([steps[g].mean() for g in groups]), np.array([kept[g].mean() for g in groups])
