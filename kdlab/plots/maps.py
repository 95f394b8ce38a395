"""Attention maps: who looks at whom. Lesson 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .figure import Static, about, new_figure

NAMED = 4       # of the largest entries, in the alt text


def attention_maps(words: Sequence[str], maps: Mapping[str, object], title: str = "") -> Static:
    """Maps (L, L) side by side, by name: a row for each word that looks, a column for each that is looked at.

    Each map has a colour scale of its own, with 0 in white; the alt text names each one's range and largest entries.
    """
    figure = new_figure([1.0] * len(maps), width=4.1 * len(maps), height=3.7)
    figure.axes[0].get_gridspec().update(left=0.11, right=0.95, bottom=0.21, top=0.9, wspace=0.42)
    said = []
    for axes, (name, values) in zip(tuple(figure.axes), maps.items(), strict=True):
        values = np.asarray(values, dtype=float)
        axes.set_position(axes.get_subplotspec().get_position(figure))
        low, top = values.min(), np.abs(values).max()
        image = axes.imshow(values, cmap="PRGn_r" if low < 0 else "Blues", vmin=-top if low < 0 else 0, vmax=top,
                            aspect="auto")
        axes.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
        axes.set_yticks(range(len(words)), words, fontsize=8)
        axes.set_title(name, fontsize=10, loc="left")
        figure.colorbar(image, ax=axes, fraction=0.06, pad=0.03).ax.tick_params(labelsize=8)
        largest = np.argsort(values, axis=None)[::-1][:NAMED]
        named = ", ".join(f"from {words[i]} to {words[j]} {values[i, j]:.2f}"
                          for i, j in zip(*np.unravel_index(largest, values.shape), strict=True))
        said.append(f"{name}: from {values.min():.2f} to {values.max():.2f}; largest {named}.")
    figure.axes[0].set_ylabel("from (query)", fontsize=9)
    for axes in figure.axes[:len(maps)]:
        axes.set_xlabel("to (key)", fontsize=9)
    return Static(figure, f"Maps of {len(words)} by {len(words)} words{about(title)}. {' '.join(said)}")
