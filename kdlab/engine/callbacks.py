"""Who looks on while a run trains: the progress bar, probes, trackers, and any function of yours.

A callback is called when a run begins, after every step, and at its end. Of `distill(..., callbacks=[...])` each may be
one of these or a function of the `Run`; one that returns true ends the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import Accelerator
from datasets import Dataset
from tqdm import tqdm

from ..data.batches import Rows
from ..errors import KdlabError, require
from . import distributed
from .prediction import predict
from .run import Run

if TYPE_CHECKING:
    from .session import Session

TRACKERS = ("tensorboard", "wandb")


class Callback:
    """Does nothing; a callback overrides what it needs."""

    def begin(self, session: Session) -> None:
        """Before the first step, when the student has the weights it starts with."""

    def step(self, session: Session) -> bool | None:
        """After every step. True ends the run."""

    def end(self, session: Session) -> None:
        """After the last step, or when something went wrong."""


class Watch(Callback):
    """A function of the run, called in the thread that trains: while it does not return, the run pauses."""

    def __init__(self, function: Callable[[Run], object]) -> None:
        self.function = function

    def step(self, session: Session) -> bool:
        return bool(self.function(session.run))


class Probes(Callback):
    """Records the student's logits on a few encoded rows as training goes on (`Run.probe_logits`), about 60 times.

    keep_weights: whether its weights are kept then, too (`Run.weights`).
    """

    PER_RUN = 60

    def __init__(self, rows: Dataset, keep_weights: bool = False) -> None:
        self.data, self.keep_weights = rows, keep_weights

    def begin(self, session: Session) -> None:
        self.rows = Rows(self.data, session.student.config.pad_token_id or 0)
        self.step(session)

    def step(self, session: Session) -> None:
        run, student = session.run, session.student
        due = run.steps % max(1, session.total // self.PER_RUN) == 0 or run.steps == session.total
        if due and run.steps not in run.probe_steps:
            run.probe_steps.append(run.steps)
            run.probe_logits.append(predict(student, self.rows))
            if self.keep_weights:
                run.weights.append({name: value.detach().cpu().clone() for name, value in student.state_dict().items()})


class ProgressBar(Callback):
    """Steps done and the last losses, in a terminal or a notebook."""

    def begin(self, session: Session) -> None:
        self.bar = tqdm(total=session.total, initial=session.run.steps, disable=not distributed.is_main(),
                        file=sys.stdout, ascii=True, mininterval=0.5, ncols=100)

    def step(self, session: Session) -> None:
        shown = {name: f"{value:.3f}" for name, value in session.run.last_losses().items()}
        if len(shown) == 2 and session.only_term_weighs_1:
            del shown["loss"]       # the one term is the loss
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def end(self, session: Session) -> None:
        self.bar.close()


class Tracker(Callback):
    """Sends every step's losses to one of `TRACKERS`; tensorboard's files go to `folder`.

    Raises `KdlabError` for a tracker that kdlab does not know or that is not installed.
    """

    def __init__(self, name: str, folder: str | Path = "runs") -> None:
        if name not in TRACKERS:
            raise KdlabError(f"the run cannot be reported to '{name}'; take one of {', '.join(TRACKERS)}")
        require(f"reporting to {name}", name)
        self.name, self.folder = name, folder

    def begin(self, session: Session) -> None:
        self.accelerator = Accelerator(log_with=self.name, project_dir=str(self.folder))
        self.accelerator.init_trackers("kdlab")

    def step(self, session: Session) -> None:
        self.accelerator.log(session.run.last_losses(), step=session.run.steps)

    def end(self, session: Session) -> None:
        for tracker in self.accelerator.trackers:       # `end_training` would end the processes' group, too
            tracker.finish()
