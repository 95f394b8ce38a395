"""Pictures as functions of state: the same one makes a static figure, a widget's frame, a test's picture.

A picture comes in two halves. `frame_*(axes, state)` draws what stays while a control moves: scales,
ticks, names. `draw_*(axes, state)` adds what moves and returns those artists, so that a widget can keep
the frame as a background and redraw only them. `axes` is the list of a figure's axes.

Colours are from the palette of Okabe and Ito (2008), safe for colour-blind readers; teacher, student
and truth also differ in hatching and mark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

TEACHER, STUDENT, TRUTH, ACCENT = "#0072B2", "#E69F00", "#000000", "#CC79A7"
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
        artists += axes[1].bar(range(len(state.labels)), state.gradient, 0.6, color=ACCENT,
                               edgecolor="black", linewidth=0.6)
    left = {name: value for name, value in state.numbers.items() if name != "|gradient|"}
    artists.append(_heading(axes[0], f"T = {state.T:.2f}", left))
    right = {name: value for name, value in state.numbers.items() if name == "|gradient|"}
    artists.append(_heading(axes[1], "(q - p) / T", right))
    return artists


@dataclass(frozen=True)
class Moment:
    """One moment of a training run: the student on one text, and where on the curves that is.

    teacher, student, truth: probabilities (C,) at temperature 1. curves: each loss term's name -> its
    value at every step. step: the steps taken so far.
    """

    labels: tuple[str, ...]
    step: int
    teacher: np.ndarray | None
    student: np.ndarray
    truth: np.ndarray | None
    curves: dict[str, Sequence[float]]
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def frame(self) -> tuple:
        return self.labels, self.teacher is None, self.truth is None, id(self.curves)

    def describe(self) -> str:
        numbers = " ".join(f"{name} {value:.3f}." for name, value in self.numbers.items())
        return (f"Bar chart after step {self.step}. "
                f"{_in_words(self.labels, self.teacher, self.student, self.truth)} {numbers}")


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
    if state.curves:
        axes[1].legend(frameon=False, fontsize=9)


def draw_moment(axes: Sequence[Axes], state: Moment) -> list[Artist]:
    artists = _draw_distributions(axes[0], state.teacher, state.student, state.truth)
    artists.append(_heading(axes[0], f"step {state.step}", state.numbers))
    artists.append(axes[1].axvline(state.step, color=ACCENT, linewidth=2))
    return artists


def new_figure(panels: Sequence[float] = (1.0,), width: float = 8.2, height: float = 3.0) -> Figure:
    """An empty figure with one axes a panel, of these relative widths, that no window system knows of.

    Its margins hold tick labels and names whatever its size, in inches.
    """
    figure = Figure(figsize=(width, height), dpi=100)
    grid = figure.add_gridspec(1, len(panels), width_ratios=panels, left=0.66 / width, right=0.985,
                               bottom=0.48 / height, top=1 - 0.36 / height, wspace=0.26)
    for column in range(len(panels)):
        figure.add_subplot(grid[0, column])
    return figure


@dataclass(frozen=True)
class Static:
    """A figure with words for those who cannot see it; a notebook shows it as an image with alt text."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        out = io.BytesIO()
        self.figure.savefig(out, format="png")
        return out.getvalue()

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def picture(frame: Callable, draw: Callable, state, panels: Sequence[float] = (1.6, 1.0)) -> Static:
    """Both halves of a picture in a figure of their own: the static form."""
    figure = new_figure(panels)
    frame(figure.axes, state)
    draw(figure.axes, state)
    return Static(figure, state.describe())


def bars(labels: Sequence[str], teacher=None, student=None, truth=None, title: str = "") -> Static:
    """Distributions over the same classes side by side."""
    figure = new_figure(width=5.6, height=2.7)
    _probability_frame(figure.axes[0], labels)
    _draw_distributions(figure.axes[0], teacher, student, truth)
    _legend(figure.axes[0], teacher, student, truth)
    figure.axes[0].set_title(title, fontsize=10, loc="left")
    return Static(figure, f"Bar chart{_about(title)}. {_in_words(labels, teacher, student, truth)}")


def curves(lines: dict[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, title: str = "",
           log: bool = False) -> Static:
    """Lines over a common axis, told apart by dash and mark; the alt text gives each one's ends.

    log: both axes are logarithmic.
    """
    figure = new_figure(width=5.6, height=2.7)
    axes = figure.axes[0]
    styles = zip(("-", "--", ":", "-."), (TEACHER, STUDENT, TRUTH, ACCENT), ("o", "s", "^", "D"), strict=True)
    for (name, (xs, ys)), (dash, colour, mark) in zip(lines.items(), styles, strict=False):
        axes.plot(xs, ys, dash, color=colour, marker=mark if len(xs) <= 20 else "", label=name)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=9)
    if log:
        axes.loglog()
    elif all(float(value).is_integer() for xs, _ in lines.values() for value in xs):
        axes.xaxis.get_major_locator().set_params(integer=True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    said = "; ".join(f"{name} goes from {ys[0]:.3g} at {xs[0]:.3g} to {ys[-1]:.3g} at {xs[-1]:.3g}"
                     for name, (xs, ys) in lines.items())
    scale = ", both axes logarithmic" if log else ""
    return Static(figure, f"Line chart of {y} over {x}{scale}{_about(title)}. {said}.")


def _heading(axes: Axes, start: str, numbers: dict[str, float]) -> Artist:
    line = "   ".join([start, *(f"{name} {value:.3f}" for name, value in numbers.items())])
    return axes.text(0, 1.04, line, transform=axes.transAxes, fontsize=9.5)


def _draw_distributions(axes: Axes, teacher, student, truth) -> list[Artist]:
    artists: list[Artist] = []
    shift = BAR / 2 if teacher is not None and student is not None else 0
    for values, side, colour, hatch in ((teacher, -shift, TEACHER, ""), (student, shift, STUDENT, "///")):
        if values is not None:
            artists += axes.bar(np.arange(len(values)) + side, values, BAR, color=colour, hatch=hatch,
                                edgecolor="black", linewidth=0.6)
    if truth is not None:
        artists += axes.plot(range(len(truth)), truth, "D", color=TRUTH, markerfacecolor="white",
                             markersize=7, markeredgewidth=1.6, clip_on=False)
    return artists


def _probability_frame(axes: Axes, labels: Sequence[str]) -> None:
    _class_axis(axes, labels)
    axes.set_ylim(0, 1.15)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
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


def _about(title: str) -> str:
    return f", headed '{title}'" if title else ""


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
