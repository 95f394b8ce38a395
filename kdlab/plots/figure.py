"""What every picture shares: colours, an empty figure, and a static picture with words for it.

Colours are from the palette of Okabe and Ito (2008), safe for colour-blind readers; teacher, student
and truth also differ in hatching and mark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

TEACHER, STUDENT, TRUTH, ACCENT = "#0072B2", "#E69F00", "#000000", "#CC79A7"


def new_figure(panels: Sequence[float] = (1.0,), width: float = 8.2, height: float = 3.0,
               left: float = 0.66) -> Figure:
    """An empty figure with one axes a panel, of these relative widths, that no window system knows of.

    Its margins hold tick labels and names whatever its size, in inches; `left` is the left one.
    """
    figure = Figure(figsize=(width, height), dpi=100)
    grid = figure.add_gridspec(1, len(panels), width_ratios=panels, left=left / width, right=0.985,
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


# What moves is made anew for every frame, and matplotlib's own `bar`, `plot` and the like first ask each new artist
# whether the axes' limits have to grow: half of the time of a frame. The limits are the frame's business here.

def rectangles(axes: Axes, left, bottom, width, height, **style) -> Artist:
    """Any number of rectangles, given by arrays or numbers, as one artist."""
    left, bottom, width, height = np.broadcast_arrays(left, bottom, width, height)
    corners = np.stack([np.stack([left + dx * width, bottom + dy * height], axis=-1)
                        for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))], axis=-2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    path = Path(corners.reshape(-1, 2), np.tile(codes, corners.size // 10))
    return axes.add_artist(PathPatch(path, **style))


def area(axes: Axes, x, y, **style) -> Artist:
    """The area between a curve and 0."""
    outline = np.column_stack([np.concatenate([x[:1], x, x[-1:]]), np.concatenate([[0.0], y, [0.0]])])
    return axes.add_artist(PathPatch(Path(outline, closed=False), **style))


def line(axes: Axes, x, y, linestyle: str = "-", **style) -> Artist:
    """A line, or marks where linestyle is "", in data coordinates."""
    return axes.add_artist(Line2D(x, y, linestyle=linestyle, **style))


def tiles(axes: Axes, values: np.ndarray, colours: str | Colormap, low: float, high: float) -> Artist:
    """A matrix (rows, columns) as coloured squares around whole numbers, the first row on top."""
    shades = colormaps[colours] if isinstance(colours, str) else colours
    corners = np.stack(np.meshgrid(*(np.arange(size + 1) - 0.5 for size in values.shape[::-1])), axis=-1)
    mesh = QuadMesh(corners, antialiased=False)         # an image would be resampled, at a millisecond each
    mesh.set_facecolor(shades(np.clip((values - low) / (high - low), 0, 1)).reshape(-1, 4))
    return axes.add_artist(mesh)


def heading(axes: Axes, start: str, numbers: dict[str, float]) -> Artist:
    words = "   ".join([start, *(f"{name} {value:.3f}" for name, value in numbers.items())])
    return axes.text(0, 1.04, words, transform=axes.transAxes, fontsize=9.5)


def about(title: str) -> str:
    return f", headed '{title}'" if title else ""
