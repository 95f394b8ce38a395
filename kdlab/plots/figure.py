"""What every picture shares: colours, an empty figure, and a static picture with words for it.

Colours are from the palette of Okabe and Ito (2008), safe for colour-blind readers; teacher, student
and truth also differ in hatching and mark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEACHER, STUDENT, TRUTH, ACCENT = "#0072B2", "#E69F00", "#000000", "#CC79A7"


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


def heading(axes: Axes, start: str, numbers: dict[str, float]) -> Artist:
    line = "   ".join([start, *(f"{name} {value:.3f}" for name, value in numbers.items())])
    return axes.text(0, 1.04, line, transform=axes.transAxes, fontsize=9.5)


def about(title: str) -> str:
    return f", headed '{title}'" if title else ""
