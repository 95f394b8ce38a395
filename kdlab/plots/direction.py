"""One bump fitted to two: which way round a divergence is taken decides what the student covers. Lesson 01."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .figure import STUDENT, TEACHER, area, heading, line, rectangles

PANELS = (1.7, 1.0)
PLACES = ("left bump", "between", "right bump")
STYLES = ("--", "-.", ":")
TOP = 0.105         # of the probability axis; the narrowest bump that a control allows stays below


@dataclass(frozen=True)
class Bump:
    """A discretised normal distribution: probabilities (G,), its mean and standard deviation before that."""

    q: np.ndarray
    mean: float
    sd: float


@dataclass(frozen=True)
class Direction:
    """A teacher with two bumps, the student fitted to it by each divergence, and the student that is shown.

    x: G places on a line; teacher: probabilities (G,) there; student: the one shown, fitted or set by hand; how: in a
    few words; fits: by the divergence's name; apart: between the teacher's bumps. numbers: by name.
    """

    x: np.ndarray
    teacher: np.ndarray
    student: Bump
    how: str
    fits: dict[str, Bump]
    apart: float
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def frame(self) -> tuple:
        return len(self.x), tuple(self.fits)

    def masses(self, probabilities: np.ndarray) -> tuple[float, float, float]:
        """How much lies on the left bump, between the two (the middle half of the way), and on the right bump."""
        left, right = self.x < -self.apart / 4, self.x > self.apart / 4
        return tuple(float(probabilities[part].sum()) for part in (left, ~left & ~right, right))

    @property
    def note(self) -> str:
        return f"The student's bump: mean {self.student.mean:.2f}, standard deviation {self.student.sd:.2f}."

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        masses = " ".join(f"{who}: " + ", ".join(f"{place} {mass:.0%}" for place, mass in
                                                 zip(PLACES, self.masses(values), strict=True)) + "."
                          for who, values in (("teacher", self.teacher), ("student", self.student.q)))
        numbers = " ".join(f"{name} {value:.3f}." for name, value in self.numbers.items())
        return f"A bump fitted to two, {self.how}, {self.apart:.1f} apart. {masses} {numbers} {self.note}"


def frame_direction(axes: Sequence[Axes], state: Direction) -> None:
    bumps, places = axes
    bumps.set(xlim=(state.x[0], state.x[-1]), ylim=(0, TOP), yticks=(0, 0.05, 0.1))
    bumps.set_ylabel("probability", fontsize=9)
    places.set(xlim=(-0.6, 2.6), ylim=(0, 1.15), yticks=(0, 0.5, 1))
    places.set_xticks(range(3), PLACES, fontsize=9)
    for panel in axes:
        panel.tick_params(labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    keys: list[Artist] = [Patch(facecolor=TEACHER, edgecolor="black", linewidth=0.6, label="teacher p"),
                          Patch(facecolor=STUDENT, hatch="///", edgecolor="black", linewidth=0.6, label="student q")]
    keys += [Line2D([], [], color="black", linestyle=style, linewidth=1.2, label=f"best by {name}")
             for name, style in zip(state.fits, STYLES, strict=False)]
    bumps.legend(handles=keys[:2], loc="upper left", frameon=False, fontsize=8)
    bumps.add_artist(bumps.legend_)
    bumps.legend(handles=keys[2:], loc="upper right", frameon=False, fontsize=8)
    places.set_title("where the probability is", fontsize=10, loc="left")


def draw_direction(axes: Sequence[Axes], state: Direction) -> list[Artist]:
    bumps, places = axes
    artists = [area(bumps, state.x, state.teacher, facecolor=TEACHER, alpha=0.75, linewidth=0),
               area(bumps, state.x, state.student.q, facecolor=to_rgba(STUDENT, 0.6), hatch="///", edgecolor="black",
                    linewidth=0.6)]
    artists += [line(bumps, state.x, bump.q, style, color="black", linewidth=1.2)
                for bump, style in zip(state.fits.values(), STYLES, strict=False)]
    for side, values, colour, hatch in ((-0.38, state.teacher, TEACHER, ""), (0.0, state.student.q, STUDENT, "///")):
        artists.append(rectangles(places, np.arange(3) + side, 0.0, 0.38, state.masses(values), facecolor=colour,
                                  hatch=hatch, edgecolor="black", linewidth=0.6))
    return [*artists, heading(bumps, state.how, state.numbers)]
