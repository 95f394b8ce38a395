"""What every picture widget has to keep, whatever it shows."""

from __future__ import annotations

import base64
import io
import re
import threading

import numpy as np
from PIL import Image


def shown_png(widget) -> bytes:
    """The picture that the widget shows now."""
    return base64.b64decode(re.search(r"base64,([^\"]+)", widget.shown.value).group(1))


def check_moved_at_once(widget, moves) -> None:
    """Controls moved in a thread each, as JupyterLab 4.4 and later may do: nothing fails, and the last state is shown.

    moves: pairs of a control and the values it takes, one after another.
    """
    failures: list[Exception] = []

    def move(control, values) -> None:
        try:
            for value in values:
                control.value = value
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=move, args=(control, list(values))) for control, values in moves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert shown_png(widget) == widget.picture.png(widget.state())


def check_frame_is_static(widget, static) -> None:
    """The fast way of drawing (a kept background, redrawn artists, letters by Pillow) gives the plain one's picture.

    Compared in blocks of 5 by 5 pixels, where letters of the same font look alike, but not one word like another.
    """
    fast, slow = (Image.open(io.BytesIO(png)).convert("RGB") for png in (widget.picture.png(widget.state()),
                                                                         static.png()))
    assert fast.size == slow.size
    fast, slow = (np.asarray(image.reduce(5), dtype=int) for image in (fast, slow))
    assert (np.abs(fast - slow).max(axis=-1) > 50).mean() < 0.002
