"""Sizes: parameters by part, FLOPs and latency of one model beside the papers' models. Lesson 02."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .figure import ACCENT, line, rectangles

# Part -> colour (Okabe and Ito 2008) and hatch, so that none is told by its colour alone.
PARTS = {"embeddings": ("#56B4E9", ""), "attention": ("#D55E00", "///"), "FFN": ("#009E73", ""),
         "bottleneck": ("#F0E442", "xxx"), "other": ("#999999", "")}
PANELS = (1.75, 1.0, 0.8)           # relative widths: parameters, FLOPs, milliseconds
LIMITS = (120, 350, 1000)           # million parameters: the axis ends at the first that the model fits into
BAR = 0.62
DIAMOND = {"color": "black", "markerfacecolor": "white", "markersize": 7, "markeredgewidth": 1.0, "zorder": 4}
FLOPS_AXIS, LATENCY_AXIS = (0.01, 1000), (0.3, 5000)


@dataclass(frozen=True)
class Weighed:
    """A model and what it costs. parts: parameters, in the order of `PARTS`. flops: of one text of 128 tokens.
    latency: milliseconds for one text of 128 tokens, None where nobody measured. published_parameters (millions)
    and published_flops (10^9): what its paper prints."""

    name: str
    parts: tuple[int, ...]
    flops: int
    latency: float | None = None
    published_parameters: float | None = None
    published_flops: float | None = None

    @property
    def parameters(self) -> int:
        return sum(self.parts)

    def in_words(self) -> str:
        """The row as a sentence."""
        said = f"{self.name}: {self.parameters / 1e6:.2f} million parameters"
        if self.published_parameters is not None:
            said += f" (published: {self.published_parameters:g})"
        said += f", {self.flops / 1e9:.2f} GFLOPs"
        if self.published_flops is not None:
            said += f" (published: {self.published_flops:g})"
        return said + ("." if self.latency is None else f", {self.latency:.0f} ms.")


@dataclass(frozen=True)
class Sizes:
    """One model, which moves, above the papers' models, which stay.

    stale: the last latency measured when it belongs to another setting, drawn hollow. numbers, note: for the line
    beneath the picture.
    """

    model: Weighed
    papers: tuple[Weighed, ...]
    stale: float | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def limit(self) -> int:
        return next((limit for limit in LIMITS if self.model.parameters <= 1e6 * limit), LIMITS[-1])

    @property
    def frame(self) -> tuple:
        return self.papers, self.limit

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in zip(PARTS, self.model.parts, strict=True)
                          if count)
        rows = " ".join(row.in_words() for row in self.papers)
        return (f"Three charts of size, FLOPs for 128 tokens and latency. {self.model.in_words()} In millions: "
                f"{parts}. {self.note} For comparison: {rows}")


def frame_sizes(axes: Sequence[Axes], state: Sizes) -> None:
    axes[0].get_gridspec().update(left=0.19, wspace=0.06)      # room for the models' names
    for panel in axes:
        panel.set_position(panel.get_subplotspec().get_position(panel.figure))
    names = ["this model", *(row.name for row in state.papers)]
    for panel in axes:
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.axhspan(-0.6, 0.5, color="0.93", zorder=0)
        panel.set_yticks(range(len(names)), names if panel is axes[0] else [], fontsize=8)
        panel.tick_params(axis="y", length=0)
        panel.tick_params(axis="x", labelsize=8)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    axes[0].set_xlim(0, state.limit)
    axes[0].set_xlabel("million parameters", fontsize=9)
    for panel, (low, high), name in ((axes[1], FLOPS_AXIS, "GFLOPs, 128 tokens"),
                                     (axes[2], LATENCY_AXIS, "ms, one core here")):
        panel.set_xscale("log")
        panel.set_xlim(low, high)
        panel.minorticks_off()
        panel.grid(axis="x", color="0.88", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.set_xlabel(name, fontsize=9)
    axes[1].set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes[2].set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    for y, row in enumerate(state.papers, start=1):
        _row(axes, y, row, state.limit)
    _keys(axes, state)


def draw_sizes(axes: Sequence[Axes], state: Sizes) -> list[Artist]:
    artists = _row(axes, 0, state.model, state.limit, strong=True)
    if state.model.latency is None and state.stale is not None:
        artists.append(line(axes[2], [state.stale], [0], "", marker="o", color="black", markerfacecolor="white",
                            markersize=7))
    heads = (f"{state.model.parameters / 1e6:.2f} million: {state.model.name}", f"{state.model.flops / 1e9:.3g} GFLOPs",
             "not measured" if state.model.latency is None else f"{state.model.latency:.3g} ms")
    for panel, head in zip(axes, heads, strict=True):
        artists.append(panel.text(0, 1.045, head, transform=panel.transAxes, fontsize=9.5))
    return artists


def _row(axes: Sequence[Axes], y: int, row: Weighed, limit: int, strong: bool = False) -> list[Artist]:
    """Bars by part, then FLOPs and latency; the published figures as diamonds."""
    artists: list[Artist] = []
    left = 0.0
    for (colour, hatch), count in zip(PARTS.values(), row.parts, strict=True):
        width = min(count / 1e6, limit - left)      # what does not fit on the axis is cut, and said
        if width > 0:
            artists.append(rectangles(axes[0], left, y - BAR / 2, width, BAR, facecolor=colour, hatch=hatch,
                                      edgecolor="black", linewidth=0.9 if strong else 0.4))
        left += max(width, 0)
    if row.parameters > 1e6 * limit:
        artists.append(axes[0].text(limit, y, f"{row.parameters / 1e6:.0f} →", fontsize=8, ha="right", va="center",
                                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8}))
    colour, size = (ACCENT, 9) if strong else ("black", 4)
    dot = {"marker": "o", "color": colour, "markersize": size, "markeredgecolor": "black"}
    artists.append(line(axes[1], [row.flops / 1e9], [y], "", **dot))
    if row.latency is not None:
        artists.append(line(axes[2], [row.latency], [y], "", **dot))
    if row.published_parameters is not None and row.published_parameters <= limit:
        artists.append(line(axes[0], [row.published_parameters], [y], "", marker="D", **DIAMOND))
    if row.published_flops is not None:     # around the dot, which mostly hits the same place
        artists.append(line(axes[1], [row.published_flops], [y], "", marker="D",
                            **DIAMOND | {"markerfacecolor": "none"}))
    return artists


def _keys(axes: Sequence[Axes], state: Sizes) -> None:
    keys: list[Artist] = [Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.4, label=name)
                          for name, (colour, hatch) in PARTS.items()]
    keys.append(Line2D([], [], marker="D", linestyle="", label="published", **DIAMOND))
    axes[0].legend(handles=keys, loc="lower right", ncols=2, fontsize=8, frameon=False, labelspacing=0.35,
                   columnspacing=1.2, borderpad=0)
    if not any(row.latency for row in state.papers):
        axes[2].text(0.5, 0.4, "of the papers' models,\nnone measured yet", transform=axes[2].transAxes, fontsize=8,
                     ha="center", color="0.3")
