"""Lines over a common axis."""

from __future__ import annotations

from collections.abc import Sequence

from .figure import ACCENT, STUDENT, TEACHER, TRUTH, Static, about, new_figure


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
    return Static(figure, f"Line chart of {y} over {x}{scale}{about(title)}. {said}.")
