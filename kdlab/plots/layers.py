"""A layer map as lines between two towers, beside how alike the layers are. Lessons 02 and 04."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..models.layer_map import LayerMap
from .figure import STUDENT, TEACHER, line, rectangles

PANELS = (1.0, 1.25)
WRITTEN = 80        # cells of the matrix that still have room for their number


@dataclass(frozen=True)
class Mapped:
    """Which teacher layer each student layer learns from; layer 0 stands for the embeddings' output.

    depths: layers of student and teacher. layers: the map. similarity: (student layers + 1, teacher layers + 1), linear
    CKA. note: what the map costs.
    """

    depths: tuple[int, int]
    layers: LayerMap
    similarity: np.ndarray
    note: str = ""

    @property
    def frame(self) -> tuple:
        return self.depths, id(self.similarity)

    @property
    def numbers(self) -> dict[str, float]:
        pairs = [float(self.similarity[pair]) for pair in self.layers]
        return {"mean CKA of the pairs": sum(pairs) / len(pairs)} if pairs else {}

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        M, N = self.depths
        lines = "; ".join(f"student {_name(m)} from teacher {_name(n)}, CKA {self.similarity[m, n]:.2f}"
                          for m, n in self.layers)
        alike = "; ".join(f"student {_name(m)} is most like teacher {_name(int(row.argmax()))}, {row.max():.2f}"
                          for m, row in enumerate(self.similarity))
        return (f"A layer map between a student of {M} layers and a teacher of {N}: {lines or 'no lines'}. "
                f"Similarity by linear CKA: {alike}. {self.note}").strip()


def frame_mapped(axes: Sequence[Axes], state: Mapped) -> None:
    towers, matrix = axes
    towers.set(xlim=(-0.45, 1.45), ylim=(-0.09, 1.09))
    towers.axis("off")
    for x, depth, colour, hatch, who in ((0, state.depths[0], STUDENT, "///", "student"),
                                         (1, state.depths[1], TEACHER, "", "teacher")):
        tall = min(0.12, 0.7 / (depth + 1))
        for layer in range(depth + 1):
            y = _height(layer, depth)
            towers.add_patch(Rectangle((x - 0.09, y - tall / 2), 0.18, tall, facecolor=colour, hatch=hatch,
                                       edgecolor="black", linewidth=0.6, alpha=0.45 if layer == 0 else 1))
            towers.text(x - 0.14 if x == 0 else x + 0.14, y, _short(layer), fontsize=9 if depth < 14 else 7,
                        ha="right" if x == 0 else "left", va="center")
        towers.text(x, 1.12, who, fontsize=10, ha="center")
    values = state.similarity
    matrix.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    matrix.set_xticks(range(values.shape[1]), [_short(n) for n in range(values.shape[1])], fontsize=8)
    matrix.set_yticks(range(values.shape[0]), [_short(m) for m in range(values.shape[0])], fontsize=8)
    matrix.set_xlabel("teacher layer", fontsize=9)
    matrix.set_ylabel("student layer", fontsize=9)
    matrix.set_title("how alike they are: linear CKA", fontsize=10, loc="left")
    if values.size <= WRITTEN:
        for (m, n), value in np.ndenumerate(values):
            matrix.text(n, m, f"{value:.2f}", ha="center", va="center", fontsize=8,
                        color="white" if value > 0.6 else "black")


def draw_mapped(axes: Sequence[Axes], state: Mapped) -> list[Artist]:
    towers, matrix = axes
    artists: list[Artist] = []
    for m, n in state.layers:
        ends = _height(m, state.depths[0]), _height(n, state.depths[1])
        artists += [line(towers, (0.1, 0.9), ends, color="black", linewidth=1.6, marker="o", markersize=4),
                    rectangles(matrix, n - 0.46, m - 0.44, 0.92, 0.88, fill=False, linewidth=2.2, edgecolor="black")]
    return artists


def _height(layer: int, depth: int) -> float:
    return layer / max(depth, 1)


def _short(layer: int) -> str:
    return str(layer) if layer else "emb."


def _name(layer: int) -> str:
    return f"layer {layer}" if layer else "embeddings"
