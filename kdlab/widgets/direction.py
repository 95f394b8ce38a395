"""KL direction: one bump fitted to two by forward KL, reverse KL and JSD. Lesson 01."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import ipywidgets
import numpy as np
import torch

from .. import losses
from ..plots.direction import PANELS, Bump, Direction, draw_direction, frame_direction
from .controls import on_change, with_field
from .picture import Picture, PictureWidget

X = np.linspace(-10, 10, 161)           # so wide that no fit is cut off at the ends
TEACHER_SD = 0.7
FARTHEST = 6.0                          # of the bumps from each other
MEANS, SDS = np.linspace(-4, 4, 41), np.geomspace(0.5, 4, 25)
BY_HAND = "by hand"


class KLDirection(PictureWidget):
    """Choose the divergence by which one bump, the student, is fitted to a teacher with two; or set it by hand.

    The bumps are normal distributions on a grid of 161 places, so that every divergence is a sum over classes, as in
    the losses. The fit is a search over means and standard deviations.
    """

    def __init__(self) -> None:
        style = {"description_width": "6.5em"}
        self.how = ipywidgets.ToggleButtons(options=[*DIVERGENCES, BY_HAND], description="fit",
                                            style={**style, "button_width": "8em"})

        def slider(name: str, value: float, low: float, high: float, step: float) -> ipywidgets.FloatSlider:
            return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, description=name, style=style)
        self.apart = slider("bumps apart", 5.0, 0.0, FARTHEST, 0.1)
        self.left = slider("left bump", 0.6, 0.05, 0.95, 0.01)
        self.mean = slider("mean", 0.0, -5.0, 5.0, 0.05)
        self.sd = slider("spread", 1.0, 0.5, 4.0, 0.05)
        self._follow()
        on_change(self._other_way, self.how)
        on_change(self.refresh, self.apart, self.left, self.mean, self.sd)
        super().__init__(Picture(frame_direction, draw_direction, PANELS), [
            self.how, *(ipywidgets.HBox([with_field(one), with_field(other)])
                        for one, other in ((self.apart, self.left), (self.mean, self.sd)))])

    def state(self) -> Direction:
        return direction(self.apart.value, self.left.value, self.how.value, (self.mean.value, self.sd.value))

    def _other_way(self, _) -> None:
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        """Only by hand do mean and spread move the bump."""
        self.mean.disabled = self.sd.disabled = self.how.value != BY_HAND


def direction(apart: float, left: float, how: str, by_hand: tuple[float, float] = (0.0, 1.0)) -> Direction:
    """The picture's state: a teacher with bumps `apart` from each other, of which the left one has the mass `left`,
    and the student by the divergence `how` (of `DIVERGENCES`), or `by_hand`: its mean and standard deviation."""
    p, fits = _fitted(apart, left)
    student = fits[how] if how in fits else Bump(normal(*by_hand), *by_hand)
    log_p, log_q = (torch.from_numpy(values).log() for values in (p, student.q))
    numbers = {"KL(p||q)": losses.kl_divergence(log_p, log_q).item(),
               "KL(q||p)": losses.kl_divergence(log_q, log_p).item(),
               "JSD": losses.jensen_shannon(log_p, log_q).item()}
    return Direction(X, p, student, f"fitted by {how}" if how in fits else "set by hand", fits, apart, numbers)


@lru_cache(64)
def _fitted(apart: float, left: float) -> tuple[np.ndarray, dict[str, Bump]]:
    """The teacher, and the student by each divergence."""
    p = left * normal(-apart / 2, TEACHER_SD) + (1 - left) * normal(apart / 2, TEACHER_SD)
    return p, {name: fit(p, divergence) for name, divergence in DIVERGENCES.items()}


def normal(mean, sd) -> np.ndarray:
    """Normal distributions as probabilities on X, (..., G) for means and standard deviations of shape (...)."""
    mean, sd = np.asarray(mean)[..., None], np.asarray(sd)[..., None]
    q = np.exp(-0.5 * ((X - mean) / sd) ** 2) + 1e-30       # nowhere 0, so that every divergence is finite
    return q / q.sum(-1, keepdims=True)


def forward(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p||q), of p (..., G) and q (..., G)."""
    return (p * (np.log(p) - np.log(q))).sum(-1)


def reverse(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return forward(q, p)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = (p + q) / 2
    return (forward(p, middle) + forward(q, middle)) / 2


DIVERGENCES: dict[str, Callable] = {"forward KL": forward, "reverse KL": reverse, "JSD": jensen_shannon}


def fit(p: np.ndarray, divergence: Callable) -> Bump:
    """The bump that `divergence` likes best: the best of a coarse grid, then of finer ones around it."""
    p = p.astype(np.float32)                # whose logarithms take a third of the time
    means, sds = np.meshgrid(MEANS, SDS)
    candidates = _COARSE
    for finer in (0.1, 0.01, None):
        best = np.unravel_index(np.argmin(divergence(p, candidates)), means.shape)
        mean, sd = float(means[best]), float(sds[best])
        if finer:
            steps = np.linspace(-1, 1, 15)
            means, sds = np.meshgrid(mean + 2 * finer * steps, sd * np.exp(finer * steps))
            candidates = normal(means, sds).astype(np.float32)
    return Bump(normal(mean, sd), mean, sd)


_COARSE = normal(*np.meshgrid(MEANS, SDS)).astype(np.float32)
