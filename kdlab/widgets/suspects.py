"""The line-up: runs without their names, to be told apart by their curves. Lesson 07."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np

from ..errors import KdlabError
from ..plots.suspects import PANELS, Curves, Suspect, draw_suspect, frame_suspect, suspect
from .controls import on_change
from .picture import Picture, PictureWidget

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class LineUp(PictureWidget):
    """Choose a suspect, look at its curves, name the bug; tick the box for the answer.

    runs: the name of each bug -> the run's curves, "loss", "step" and "distance" (`kdlab.plots.Suspect`); correct,
    baseline: runs of the correct script and of no teacher, one a seed. The suspects get letters in an order drawn
    with `seed`.
    """

    def __init__(self, runs: Mapping[str, Curves], correct: Sequence[Curves], baseline: Sequence[Curves],
                 seed: int = 0) -> None:
        if not 0 < len(runs) <= len(LETTERS):
            raise KdlabError(f"a line-up has 1 to {len(LETTERS)} suspects, and {len(runs)} were given")
        names = list(runs)
        order = np.random.default_rng(seed).permutation(len(names))
        self.suspects = {f"suspect {letter}": names[i] for letter, i in zip(LETTERS, order, strict=False)}
        self.runs, self.correct, self.baseline = dict(runs), tuple(correct), tuple(baseline)
        style = {"description_width": "6.5em"}
        self.who = ipywidgets.Dropdown(options=list(self.suspects), description="suspect", style=style)
        self.told = ipywidgets.Checkbox(value=False, description="show the culprit", indent=False)
        super().__init__(Picture(frame_suspect, draw_suspect, PANELS), [ipywidgets.HBox([self.who, self.told])])
        on_change(self._next, self.who)
        on_change(self.refresh, self.told)

    def _next(self, _) -> None:
        """Another suspect comes with its name hidden, or choosing would tell."""
        if self.told.value:
            self.told.value = False     # draws
        else:
            self.refresh()

    def state(self) -> Suspect:
        name = self.suspects[self.who.value]
        note = f"The culprit: {name}." if self.told.value else "Who is it? Think first, then tick the box."
        return suspect(self.who.value, self.runs[name], self.correct, self.baseline, list(self.runs.values()), note)
