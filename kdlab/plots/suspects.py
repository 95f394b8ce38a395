"""A suspect run beside runs of the correct script and of no teacher: what was printed, and what was not. Lesson 07."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from ..errors import KdlabError
from .distributions import _smoothed
from .figure import ACCENT, TEACHER, TRUTH, Static, heading, line, picture

PANELS = (1.0, 1.0)
FIELDS = ("loss", "step", "distance")
Curves = dict[str, Sequence[float]]
THIS = {"color": ACCENT, "linewidth": 2.4, "marker": "o", "markersize": 4, "markeredgecolor": "black",
        "markeredgewidth": 0.5}


@dataclass(frozen=True)
class Suspect:
    """One run to be judged by its curves.

    run, and each of correct and baseline (one a seed): "loss", one value a training step, and "distance", that from
    the teacher on held-out texts, measured at the steps "step". loss_axis, distance_axis: the ends of the two scales.
    name: what the run is called, which need not be what it is. numbers, note: for the line beneath the picture.
    """

    name: str
    run: Curves
    correct: tuple[Curves, ...]
    baseline: tuple[Curves, ...]
    loss_axis: tuple[float, float]
    distance_axis: float
    note: str = ""
    numbers: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        loss, distance = _ends(self.run)
        object.__setattr__(self, "numbers", {"first loss": loss[0], "last loss": loss[1],
                                             "first distance": distance[0], "last distance": distance[1]})

    @property
    def frame(self) -> tuple:
        return id(self.correct), id(self.baseline), self.loss_axis, self.distance_axis

    def describe(self) -> str:
        """The picture in words and numbers, for its alt text."""
        (first, last), (near, far) = _ends(self.run)
        others = "; ".join(f"{name} {min(ends):.2f} to {max(ends):.2f}" for name, ends in (
            ("the correct script", [run["distance"][-1] for run in self.correct]),
            ("no teacher", [run["distance"][-1] for run in self.baseline])))
        return (f"Two line charts over training. {self.name}: the loss goes from {first:.3g} to {last:.3g}; the "
                f"distance from the teacher from {near:.2f} to {far:.2f}. In the end, for comparison, over the seeds: "
                f"{others}. {self.note}").strip()


def suspect(name: str, run: Curves, correct: Sequence[Curves], baseline: Sequence[Curves],
            among: Sequence[Curves] = (), note: str = "") -> Suspect:
    """The state of the picture. among: further runs for which the scales shall have room.

    Raises `KdlabError` for runs that lack a curve, whose curves do not fit together, or that are not finite.
    """
    correct, baseline = (runs if isinstance(runs, tuple) else tuple(runs) for runs in (correct, baseline))
    if not correct or not baseline:
        raise KdlabError("a suspect is judged beside runs of the correct script and of no teacher; give at least one "
                         "of each")
    shown = (run, *among, *correct, *baseline)
    for one in shown:
        _check(name, one)
    for runs in (correct, baseline):
        if any(list(one["step"]) != list(runs[0]["step"]) for one in runs):
            raise KdlabError("the seeds of one script were measured at different steps; measure them at the same ones")
    losses = np.concatenate([_smoothed(one["loss"])[1] for one in shown])
    losses = losses[losses > 0]
    ends = (losses.min() / 1.3, losses.max() * 1.3) if len(losses) else (0.1, 1.0)
    return Suspect(name, run, correct, baseline, (float(ends[0]), float(ends[1])),
                   1.25 * max(max(one["distance"]) for one in shown) or 1.0, note)


def evidence(name: str, run: Curves, correct: Sequence[Curves], baseline: Sequence[Curves]) -> Static:
    """A run's printed loss, and its distance from the teacher between the correct script's and no teacher's."""
    return picture(frame_suspect, draw_suspect, suspect(name, run, correct, baseline), PANELS)


def frame_suspect(axes: Sequence[Axes], state: Suspect) -> None:
    printed, unseen = axes
    steps, values = _smoothed(state.correct[0]["loss"])
    printed.set_yscale("log")
    printed.set_ylim(*state.loss_axis)
    printed.plot(steps, values, "--", color=TEACHER, linewidth=1.4)
    printed.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    printed.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    printed.yaxis.set_minor_locator(NullLocator())
    printed.set_ylabel("training loss, log scale", fontsize=9)
    kinds = ("correct", state.correct, "--", TEACHER), ("no teacher", state.baseline, ":", TRUTH)
    for name, runs, dash, colour in kinds:
        steps, of_seeds = runs[0]["step"], np.array([run["distance"] for run in runs])
        unseen.fill_between(steps, of_seeds.min(axis=0), of_seeds.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        unseen.plot(steps, of_seeds.mean(axis=0), dash, color=colour, linewidth=1.6, label=name)
    unseen.plot([], [], label="this run", **THIS)
    unseen.set_ylim(0, state.distance_axis)
    unseen.set_ylabel("distance from the teacher (nats)", fontsize=9)
    unseen.legend(frameon=False, fontsize=8, loc="upper right", ncols=3)
    for panel in axes:
        panel.set_xlabel("step", fontsize=9)
        panel.tick_params(labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)


def draw_suspect(axes: Sequence[Axes], state: Suspect) -> list[Artist]:
    artists = [line(axes[0], *_smoothed(state.run["loss"]), color=ACCENT, linewidth=2.4),
               line(axes[1], state.run["step"], state.run["distance"], **THIS)]
    artists.append(heading(axes[0], f"{state.name}: what it printed", {}))
    artists.append(heading(axes[1], "what nobody looked at", {}))
    return artists


def _ends(run: Curves) -> tuple[tuple[float, float], tuple[float, float]]:
    """First and last of loss, as drawn, and of distance."""
    loss = _smoothed(run["loss"])[1]
    return (float(loss[0]), float(loss[-1])), (float(run["distance"][0]), float(run["distance"][-1]))


def _check(name: str, run: Curves) -> None:
    lost = [field for field in FIELDS if field not in run or not len(run[field])]
    if lost:
        raise KdlabError(f"a run shown with '{name}' has no values under '{lost[0]}'; it needs {', '.join(FIELDS)}")
    if len(run["step"]) != len(run["distance"]):
        raise KdlabError(f"a run shown with '{name}' has {len(run['distance'])} distances for {len(run['step'])} "
                         "steps; measure one at each")
    for kind in ("loss", "distance"):
        if not np.isfinite(np.asarray(run[kind], dtype=float)).all():
            raise KdlabError(f"a run shown with '{name}' has a {kind} that is not a finite number, so there is no "
                             "curve to draw; look at the step where that begins")
