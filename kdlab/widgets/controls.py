"""Controls for everyone: what a screen reader has to name, and what a hand that types would rather type."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from copy import copy

import ipywidgets

DIGITS = 2


def on_change(act: Callable, *controls: ipywidgets.Widget) -> None:
    """Call `act` when the value of one of the controls changes.

    The page is not sent what it has just said itself: ipywidgets' echo, meant for a second page on the same kernel,
    would come before the picture, and every message costs milliseconds. For the same reason call this before
    `with_field`: callbacks run in the order in which they are given, and the picture should go first.
    """
    for control in controls:
        control.add_traits(**{name: copy(control.traits()[name]).tag(echo_update=False)
                              for name in ("value", "index") if name in control.keys})
        control.observe(act, "value")


def text_picker(texts: Sequence[str], typing: bool = True) -> ipywidgets.Combobox | ipywidgets.Dropdown:
    """A field to pick a text from a list, or, where `typing`, to type another."""
    common = {"options": list(texts), "description": "text", "style": {"description_width": "6.5em"},
              "layout": ipywidgets.Layout(width="98%")}
    if not typing:
        return ipywidgets.Dropdown(**common)
    return ipywidgets.Combobox(value=texts[0], continuous_update=False, placeholder="pick a text, or type one",
                               **common)


def with_field(slider: ipywidgets.Widget) -> ipywidgets.HBox:
    """A slider beside a field for its number, in place of the readout.

    ipywidgets gives a slider's handle no name that a screen reader could say; a field has its label. Both move, and
    are enabled, together.
    """
    slider.readout = False
    slider.layout.flex, slider.layout.width = "1 1 auto", "auto"
    whole = isinstance(slider, ipywidgets.IntSlider)
    low, high = slider.min, slider.max
    if isinstance(slider, ipywidgets.FloatLogSlider):
        low, high = slider.base**low, slider.base**high
    kind = ipywidgets.BoundedIntText if whole else ipywidgets.BoundedFloatText
    field = kind(value=_rounded(slider.value), min=low, max=high, step=1 if whole else 10**-DIGITS,
                 description=slider.description, disabled=slider.disabled, style={"description_width": "0px"},
                 layout=ipywidgets.Layout(width="6em", flex="0 0 auto"))

    def typed(change) -> None:
        if change["new"] != _rounded(slider.value):     # else it is the slider's own number coming back
            slider.value = change["new"]

    # The present value, not that of the event: another thread may have moved the slider since.
    slider.observe(lambda _: setattr(field, "value", _rounded(slider.value)), "value")
    slider.observe(lambda _: setattr(field, "disabled", slider.disabled), "disabled")
    field.observe(typed, "value")
    return ipywidgets.HBox([slider, field], layout=ipywidgets.Layout(width="98%"))


class Player(ipywidgets.ToggleButton):
    """A button that calls `begin` and then `step` every `seconds`, until that returns false or the button is pressed
    again. Unlike `ipywidgets.Play` it is one button, and has a name.
    """

    def __init__(self, name: str, begin: Callable[[], None], step: Callable[[], bool], seconds: float) -> None:
        super().__init__(value=False, description=name, icon="play", tooltip=name,
                         layout=ipywidgets.Layout(width="8em"))
        self.begin, self.step, self.seconds = begin, step, seconds
        self.thread: threading.Thread | None = None
        self.observe(self._pressed, "value")

    def _pressed(self, change) -> None:
        self.icon = "pause" if change["new"] else "play"
        if change["new"] and not (self.thread and self.thread.is_alive()):
            self.begin()
            self.thread = threading.Thread(target=self._go, name="kdlab player", daemon=True)
            self.thread.start()

    def _go(self) -> None:
        while self.value and self.comm is not None and self.step():
            time.sleep(self.seconds)
        self.value = False


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, DIGITS)
