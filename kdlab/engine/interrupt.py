"""A keyboard or kernel interrupt that ends a run between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable


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


def on_kernel_interrupt(act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` when the notebook's kernel is interrupted, while it is idle or while it runs a cell; returns a
    function that ends this. Outside a notebook nothing happens.

    For work in a thread of its own, which a signal never reaches: an idle kernel ignores it, a busy one turns it into
    a KeyboardInterrupt of the cell that runs.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
    if loop is None:
        return lambda: None

    def after_cell(result) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            act()

    def end() -> None:
        shell.events.unregister("post_run_cell", after_cell)
        _acts.remove(act)
        loop.add_callback(_listen)

    shell.events.register("post_run_cell", after_cell)
    _acts.append(act)
    loop.add_callback(_listen)
    return end


_acts: list[Callable[[], None]] = []
_before: list = []      # the handler that was there before ours


def _listen() -> None:
    """Hear interrupts while there is anyone to tell. For the main thread, between two messages: during one, the kernel
    has a handler of its own."""
    if _acts and not _before:
        _before.append(signal.signal(signal.SIGINT, lambda number, frame: [act() for act in list(_acts)]))
    elif _before and not _acts:
        signal.signal(signal.SIGINT, _before.pop())
