"""A picture that is redrawn in place, fast, with words for those who cannot see it."""

from __future__ import annotations

import base64
import html
import io
import struct
import sys
import threading
from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ..plots import new_figure

MESSAGE_HEIGHT = "4.5em"    # three lines: fixed, so that nothing on the page moves when the numbers change


class Picture:
    """A figure whose fixed half is kept as a background while its moving half is redrawn.

    The time of a matplotlib figure goes into axes, ticks and text that do not move; keeping them as an
    image leaves a few milliseconds a frame.
    """

    def __init__(self, frame: Callable, draw: Callable, panels: Sequence[float] = (1.6, 1.0)) -> None:
        self.frame, self.draw, self.panels = frame, draw, panels
        self.key: object = None
        self.background = self.canvas = None

    def png(self, state) -> bytes:
        """The picture of a state. `state.frame` tells when the background has to change."""
        if state.frame != self.key:
            figure = new_figure(self.panels)
            self.canvas = FigureCanvasAgg(figure)
            self.frame(figure.axes, state)
            self.canvas.draw()
            self.background, self.key = self.canvas.copy_from_bbox(figure.bbox), state.frame
        axes = self.canvas.figure.axes
        self.canvas.restore_region(self.background)
        artists = self.draw(axes, state)
        for artist in artists:
            artist.axes.draw_artist(artist)
            artist.remove()
        pixels = np.asarray(self.canvas.buffer_rgba())[..., :3]
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG", compress_level=1)
        return out.getvalue()


class PictureWidget(ipywidgets.VBox):
    """Controls above a picture and a line of numbers; a subclass gives `state()` and the controls.

    Where no kernel runs, the page shows the picture of `static_state()`, with its description as alt
    text. What goes wrong is said in the widget. A notebook cell that is run again closes the widgets of its last run.
    """

    def __init__(self, picture: Picture, controls: Sequence[ipywidgets.Widget]) -> None:
        self.picture = picture
        self.drawing = threading.RLock()    # JupyterLab may deliver events in a thread of their own
        self.shown = ipywidgets.HTML()
        self.message = ipywidgets.HTML(layout=ipywidgets.Layout(height=MESSAGE_HEIGHT, overflow="auto"))
        super().__init__([*controls, self.shown, self.message])
        _replace_in_cell(self)
        self.refresh()

    def close(self) -> None:
        """Take the widget off the page and let go of all that it holds: controls, callbacks, figure."""
        for part in _parts(self):
            part.unobserve_all()
            ipywidgets.Widget.close(part)
        self.picture = None

    def state(self):
        """What the picture shows now. Raises ValueError with a sentence where the input is no good."""
        raise NotImplementedError

    def static_state(self):
        """What a page without a kernel shows: the present state, unless another tells more."""
        return self.state()

    def refresh(self, *_) -> None:
        """Draw the present state in place of the last one; keep the last one if it cannot be drawn."""
        with self.drawing:      # the state is read inside, so that the last one drawn is the latest
            if self.picture is None:
                return
            try:
                state = self.state()
                png = self.picture.png(state)
            except ValueError as error:
                self.alert("Not shown", str(error))
                return
            width, height = struct.unpack(">II", png[16:24])        # where a PNG has them
            # The size in advance keeps the page still, and decoding with the text keeps the picture from flickering.
            self.shown.value = (f'<img alt="{html.escape(state.describe())}" width="{width}" height="{height}" '
                                f'decoding="sync" style="max-width:100%;height:auto" '
                                f'src="data:image/png;base64,{base64.b64encode(png).decode()}">')
            numbers = " &nbsp; ".join(f"{html.escape(k)} = {v:.3f}" for k, v in state.numbers.items())
            self.message.value = _paragraph("status", f"{numbers} {html.escape(state.note)}")

    def alert(self, what: str, why: str) -> None:
        """Say beneath the picture what went wrong."""
        self.message.value = _paragraph("alert", f"<b>{html.escape(what)}:</b> {html.escape(why)}")

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        with self.drawing:
            try:
                state = self.static_state()
            except ValueError:      # the widget itself says what is wrong
                return bundle
            bundle["image/png"] = base64.b64encode(self.picture.png(state)).decode()
        bundle["text/plain"] = state.describe()
        return bundle, {"image/png": {"alt": state.describe()}}


def _paragraph(role: str, text: str) -> str:
    return f'<p role="{role}" style="margin:0;line-height:1.4">{text}</p>'


def _parts(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """A widget and all that belongs to it: children, layouts, styles."""
    found: dict[int, ipywidgets.Widget] = {}
    waiting = [widget]
    while waiting:
        part = waiting.pop()
        if id(part) not in found:
            found[id(part)] = part
            held = [getattr(part, name) for name in part.keys]
            waiting += [x for value in held for x in (value if isinstance(value, tuple) else (value,))
                        if isinstance(x, ipywidgets.Widget)]
    return list(found.values())


_in_cell: dict[str, tuple[str, list[PictureWidget]]] = {}     # a cell's name -> its last run and what that has made


def _replace_in_cell(widget: PictureWidget) -> None:
    """Remember the widget by the cell that makes it, and close those of an earlier run of the same cell.

    Who runs a notebook says which cell a request is from (JupyterLab, Notebook and VS Code do); otherwise nothing is
    remembered.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    parent = shell.kernel.get_parent() if hasattr(shell, "kernel") else {}
    cell, request = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
    if cell is None:
        return
    before, made = _in_cell.get(cell, (request, []))
    if before != request:
        for old in made:
            old.close()
        made = []
    _in_cell[cell] = (request, [*made, widget])
