"""A picture that is redrawn in place, fast, with words for those who cannot see it."""

from __future__ import annotations

import base64
import html
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import ipywidgets
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image, ImageDraw, ImageFont

from ..plots import new_figure

BACKGROUNDS = 3             # of one picture, kept at a time: going back to one costs nothing
MESSAGE_HEIGHT = "4.5em"    # three lines: fixed, so that nothing on the page moves when the numbers change


class Picture:
    """A figure whose fixed half is kept as a background while its moving half is redrawn.

    The time of a matplotlib figure goes into axes, ticks and text that do not move; keeping them as an
    image leaves a few milliseconds a frame.
    """

    def __init__(self, frame: Callable, draw: Callable, panels: Sequence[float] = (1.6, 1.0),
                 backgrounds: int = BACKGROUNDS) -> None:
        self.frame, self.draw, self.panels, self.backgrounds = frame, draw, panels, backgrounds
        self.kept: dict[object, tuple[FigureCanvasAgg, object]] = {}    # by state.frame, the last used at the end

    def png(self, state) -> bytes:
        """The picture of a state. `state.frame` tells when the background has to change."""
        canvas, background = self._background(state)
        canvas.restore_region(background)
        artists = self.draw(canvas.figure.axes, state)
        words = [artist for artist in artists if isinstance(artist, Text) and _plain(artist)]
        for artist in artists:
            if artist not in words:
                artist.axes.draw_artist(artist)
        size = canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        for text in words:
            _write(image, text)
        for artist in artists:
            artist.remove()
        return _encoded(image)

    def _background(self, state) -> tuple[FigureCanvasAgg, object]:
        key = state.frame
        if key not in self.kept:
            figure = new_figure(self.panels)
            canvas = FigureCanvasAgg(figure)
            self.frame(figure.axes, state)
            canvas.draw()
            while len(self.kept) >= self.backgrounds:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = canvas, canvas.copy_from_bbox(figure.bbox)
        self.kept[key] = self.kept.pop(key)
        return self.kept[key]


def _plain(text: Text) -> bool:
    return not (text.get_rotation() or text.get_bbox_patch() or "$" in text.get_text() or "\n" in text.get_text())


def _write(image: Image.Image, text: Text) -> None:
    """A line of text where matplotlib would put it. Matplotlib takes some 70 microseconds a letter, which is most of a
    frame's time; Pillow, with the same font, a twentieth of that."""
    x, y = text.get_transform().transform(text.get_unitless_position())
    across = {"left": "l", "center": "m", "right": "r"}[text.get_horizontalalignment()]
    down = {"baseline": "s", "bottom": "d", "center": "m", "center_baseline": "m", "top": "a"}
    ImageDraw.Draw(image).text((x, image.height - y), text.get_text(), fill=to_hex(text.get_color()),
                               font=_font(text.get_fontsize() * text.figure.dpi / 72),
                               anchor=across + down[text.get_verticalalignment()])


@cache
def _font(pixels: float) -> ImageFont.FreeTypeFont:
    path = font_manager.findfont(font_manager.FontProperties())
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


def _encoded(image: Image.Image) -> bytes:
    """The image as PNG with no filter on its rows: a third of Pillow's time, which tries five on each."""
    pixels = np.asarray(image)
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)      # each row begins with its filter, 0 for none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)         # 8 bits for each of red, green and blue
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1))
            + chunk(b"IEND", b""))


class PictureWidget(ipywidgets.VBox):
    """Controls above a picture and a line of numbers; a subclass gives `state()` and the controls.

    Where no kernel runs, the page shows the picture of `static_state()`, with its description as alt
    text. A state that cannot be shown (`state` raises ValueError) is told in the widget. Whoever makes a widget in a
    notebook cell closes those that an earlier run of that cell has made.
    """

    picture: Picture | None = None      # none yet, or none any more
    spoken = True                       # whether a screen reader is to say the numbers whenever they change
    drawing = threading.RLock()         # its own once it is made: what is refused before that is closed, too

    def __init__(self, picture: Picture, controls: Sequence[ipywidgets.Widget]) -> None:
        self.picture = picture
        self.drawing = threading.RLock()    # JupyterLab may deliver events in a thread of their own
        self.shown, self.drawn = ipywidgets.HTML(), None
        self.message = ipywidgets.HTML(layout=ipywidgets.Layout(height=MESSAGE_HEIGHT, overflow="auto"))
        super().__init__([*controls, self.shown, self.message])
        _replace_in_cell(self)
        self.refresh()

    def close(self) -> None:
        """Take the widget off the page and let go of all that it holds: controls, callbacks, figure."""
        with self.drawing:
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
                self.drawn = state
            except ValueError as error:
                self.alert("Not shown", str(error))
                return
            width, height = struct.unpack(">II", png[16:24])        # where a PNG has them
            # The size in advance keeps the page still, and decoding with the text keeps the picture from flickering.
            self.shown.value = (f'<img alt="{html.escape(state.describe())}" width="{width}" height="{height}" '
                                f'decoding="sync" style="max-width:100%;height:auto" '
                                f'src="data:image/png;base64,{base64.b64encode(png).decode()}">')
            numbers = " &nbsp; ".join(f"{html.escape(k)} = {v:.3f}" for k, v in state.numbers.items())
            self.message.value = _paragraph("status", f"{numbers} {html.escape(state.note)}", self.spoken)

    def alert(self, what: str, why: str) -> None:
        """Say beneath the picture what went wrong."""
        self.message.value = _paragraph("alert", f"<b>{html.escape(what)}:</b> {html.escape(why)}")

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        with self.drawing:
            if self.picture is None:
                return bundle
            try:
                state = self.static_state()
            except ValueError:      # the widget itself says what is wrong
                return bundle
            bundle["image/png"] = base64.b64encode(self.picture.png(state)).decode()
        bundle["text/plain"] = state.describe()
        return bundle, {"image/png": {"alt": state.describe()}}


def _paragraph(role: str, text: str, spoken: bool = True) -> str:
    silent = "" if spoken else ' aria-live="off"'
    return f'<p role="{role}"{silent} style="margin:0;line-height:1.4">{text}</p>'


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
