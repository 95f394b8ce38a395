"""A keyboard or kernel interrupt that ends a run between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading


class Interruptible:
    """While in this block the first interrupt only sets `requested`; the second one raises as usual."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interruptible:
        # Only the main thread may handle signals; elsewhere an interrupt goes where it always went.
        self.handles = threading.current_thread() is threading.main_thread()
        if self.handles:
            self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self.handles:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, number: int, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
