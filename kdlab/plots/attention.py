"""Attention side by side: one head of teacher and student as maps on one colour scale, and their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap

from .figure import STUDENT, TEACHER, rectangles, tiles

KINDS = ("probabilities", "scores")
APART = "student − teacher"
PANELS = (1.0, 1.0, 1.0)
WIDTH, HEIGHT = 9.2, 3.9                # inches: three maps with a name on every row need more than a bar chart
SIDE, BOTTOM = 2.3, 0.95                # of a map
STARTS = (0.95, 3.35, 6.4)              # where the maps begin, from the left
BAR = 0.09                              # a colour bar's width

# White is 0 in every map. Either light to dark in one hue, or two hues that colour-blind readers tell apart; in the
# difference they are the hues of student and teacher, whoever has more.
PROBABILITY, SCORE = "Blues", "PRGn_r"
DIFFERENCE = LinearSegmentedColormap.from_list("difference", ["#003a5c", TEACHER, "#ffffff", STUDENT, "#7a4a00"])


@dataclass(frozen=True)
class SideBySide:
    """One head of a teacher's layer and of a student's, on one text.

    tokens: L of them. teacher, student: (L, L), a row for each token that looks (query), a column for each that is
    looked at (key). kind: one of `KINDS`, whether they were taken after the softmax or before. layers: (student
    layer, teacher layer), counted from 1 as in a layer map; head: from 1. numbers: by name; note: a sentence beneath.
    """

    tokens: tuple[str, ...]
    teacher: np.ndarray
    student: np.ndarray
    kind: str
    layers: tuple[int, int]
    head: int
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def difference(self) -> np.ndarray:
        """Student minus teacher: above 0 where the student looks more."""
        return self.student - self.teacher

    @property
    def frame(self) -> tuple:
        return self.tokens, self.kind

    def maps(self) -> list[tuple[str, np.ndarray, tuple[int, int]]]:
        """Each map's title, values, and strongest pair (row, column): the largest, of the difference in size."""
        m, n = self.layers
        return [(title, values, tuple(int(i) for i in np.unravel_index(sizes.argmax(), sizes.shape)))
                for title, values, sizes in (
                    (f"teacher, layer {n}, head {self.head}", self.teacher, self.teacher),
                    (f"student, layer {m}, head {self.head}", self.student, self.student),
                    (APART, self.difference, np.abs(self.difference)))]

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        said = "; ".join(f"{title}: strongest from '{self.tokens[i]}' to '{self.tokens[j]}', {values[i, j]:.2f}"
                         for title, values, (i, j) in self.maps())
        numbers = " ".join(f"{name} {value:.3f}." for name, value in self.numbers.items())
        return (f"Three maps of attention {self.kind} on '{' '.join(self.tokens)}'. {said}. {numbers} "
                f"{self.note}").strip()


def frame_side_by_side(axes: Sequence[Axes], state: SideBySide) -> None:
    figure, names = axes[0].figure, state.tokens
    figure.set_size_inches(WIDTH, HEIGHT)
    every = math.ceil(len(names) / 40)          # beyond that not every name can be read
    at, size = range(0, len(names), every), min(8.0, 72 * SIDE * every / len(names))
    for panel, start in zip(axes[:3], STARTS, strict=True):
        _place(panel, start, SIDE)
        panel.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
        panel.set_xticks(at, [name[:14] for name in names[::every]], rotation=90, fontsize=size)
        panel.set_yticks(at, [name[:14] for name in names[::every]] if start == STARTS[0] else [], fontsize=size)
        panel.tick_params(length=0, pad=2)
        panel.spines[:].set_visible(False)      # a map would hide them; its own border goes over it
    axes[0].text(-0.02, 1.03, "from ↓", transform=axes[0].transAxes, fontsize=9, ha="right")
    axes[0].text(-0.02, -0.1, "to →", transform=axes[0].transAxes, fontsize=9, ha="right")
    axes[2].text(0, 1.03, APART, transform=axes[2].transAxes, fontsize=9.5)
    for map_, start in ((_colours(state.kind), STARTS[1]), (DIFFERENCE, STARTS[2])):
        bar = figure.add_axes((0, 0, 1, 1))
        _place(bar, start + SIDE + 0.07, BAR)
        bar.imshow(np.linspace(0, 1, 256)[:, None], cmap=map_, aspect="auto", origin="lower")
        bar.set(xticks=[], yticks=[])


def draw_side_by_side(axes: Sequence[Axes], state: SideBySide) -> list[Artist]:
    low, top = (0.0 if state.kind == "probabilities" else -1.0), _limit(state.teacher, state.student)
    apart = _limit(state.difference)
    looks = [(_colours(state.kind), low * top, top)] * 2 + [(DIFFERENCE, -apart, apart)]
    artists: list[Artist] = []
    for panel, (title, values, (i, j)), (colours, least, most) in zip(axes[:3], state.maps(), looks, strict=True):
        artists.append(tiles(panel, values, colours, least, most))
        artists.append(rectangles(panel, -0.5, -0.5, *values.shape[::-1], fill=False, edgecolor="black",
                                  linewidth=0.8, clip_on=False))
        artists.append(rectangles(panel, j - 0.5, i - 0.5, 1, 1, fill=False, edgecolor="black"))
        if title != APART:      # which stays
            artists.append(panel.text(0, 1.03, title, transform=panel.transAxes, fontsize=9.5))
    for bar, (_, least, most) in zip(axes[3:], looks[1:], strict=True):
        artists += [bar.text(1.6, place, f"{least + place * (most - least):.2g}", transform=bar.transAxes,
                             fontsize=8, va="center") for place in (0.0, 0.5, 1.0)]
    line = "     ".join(f"{name} = {value:.3f}" for name, value in state.numbers.items())
    artists.append(axes[0].text(STARTS[0] / WIDTH, 0.94, line, transform=axes[0].figure.transFigure, fontsize=9))
    return artists


def _place(axes: Axes, start: float, width: float) -> None:
    axes.set_position((start / WIDTH, BOTTOM / HEIGHT, width / WIDTH, SIDE / HEIGHT))


def _colours(kind: str) -> str | Colormap:
    return PROBABILITY if kind == "probabilities" else SCORE


def _limit(*maps: np.ndarray) -> float:
    """The end of a colour scale: a round number, so that pictures can be compared."""
    size = max(float(np.abs(values).max()) for values in maps)
    decade = 10.0 ** math.floor(math.log10(max(size, 1e-3)))
    return next(step * decade for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if size <= step * decade * (1 + 1e-9))
