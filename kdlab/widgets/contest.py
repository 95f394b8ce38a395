"""Which one: methods compared by a score and a cost of one's choice. Lesson 06."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import ipywidgets

from ..errors import KdlabError
from ..plots.contest import PANELS, Contender, Contest, contest, draw_contest, frame_contest
from .controls import on_change
from .picture import Picture, PictureWidget


class WhichOne(PictureWidget):
    """Choose a score, a cost and the methods to compare; point at one to read its numbers.

    contenders: all with the same scores and costs, or `KdlabError` says who lacks what.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        contest(contenders)
        scores, costs = list(contenders[0].scores), list(contenders[0].costs)
        for score, cost in product(scores, costs):
            contest(contenders, score, cost)
        self.contenders = tuple(contenders)
        methods = list(dict.fromkeys(one.method for one in contenders))
        style = {"description_width": "4.5em"}
        self.score = ipywidgets.Dropdown(options=scores, description="score", style=style)
        self.cost = ipywidgets.Dropdown(options=costs, description="cost", style=style)
        self.methods = ipywidgets.SelectMultiple(options=methods, value=methods, rows=min(5, len(methods)),
                                                 description="methods", style=style)
        self.pointer = ipywidgets.Dropdown(options=self._shown_names(), index=0, description="point at", style=style)
        left = ipywidgets.VBox([self.score, self.cost, self.pointer])
        super().__init__(Picture(frame_contest, draw_contest, PANELS), [ipywidgets.HBox([left, self.methods])])
        on_change(self.refresh, self.score, self.cost, self.pointer)
        on_change(self._other_methods, self.methods)

    def _shown(self) -> tuple[Contender, ...]:
        return tuple(one for one in self.contenders if one.method in self.methods.value)

    def _shown_names(self) -> list[str]:
        return [one.name for one in self._shown()]

    def _other_methods(self, _) -> None:
        """The pointer stays where it was if that one is still shown."""
        with self.drawing:
            names, before = self._shown_names(), self.pointer.value
            self.pointer.options = names        # a menu that was empty points at nothing
            if names:
                self.pointer.value = before if before in names else names[0]
        self.refresh()

    def state(self) -> Contest:
        shown = self._shown()
        names = [one.name for one in shown]
        if self.pointer.value not in names:
            raise KdlabError("there is nobody to compare: choose at least one method")
        return contest(shown, self.score.value, self.cost.value, names.index(self.pointer.value))
