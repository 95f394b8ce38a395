"""One process of a run of several, for test_distributed.py: `accelerate launch ... one_of_many.py SETTINGS`.

SETTINGS is JSON. What came of the run is written to settings["out"] by the main process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from kdlab.data.tasks import builtin_task
from kdlab.engine import distributed
from kdlab.engine.callbacks import Tracker
from kdlab.engine.checkpoint import Checkpoint
from kdlab.engine.run import Runtime, Stage
from kdlab.loop import distill
from kdlab.models import fingerprint, new_classifier
from kdlab.terms import HardLabels, HiddenStates, Objective, SoftTargets


def main(settings: dict) -> None:
    task = builtin_task("restaurant", labelled=200, unlabelled=10, seed=1)
    student = new_classifier(task.tokenizer, task.label_names, 1, 32, dropout=settings.get("dropout", 0.0), seed=0)
    teacher = new_classifier(task.tokenizer, task.label_names, 2, 64, dropout=0.0, seed=2)
    terms = [SoftTargets(), HardLabels(0.5)]
    if settings.get("hidden"):
        terms.append(HiddenStates(((1, 2),), widths=(32, 64)))
    stage = Stage(Objective(terms), settings.get("steps", 12), settings.get("batch_size", 32), learning_rate=3e-3)

    watched: list[int] = []

    def watch(run) -> None:
        watched.append(run.steps)
        if run.steps == settings.get("die") and (settings.get("all") or distributed.rank() == settings["who"]):
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [watch]
    if "checkpoint" in settings:
        callbacks.append(Checkpoint(settings["checkpoint"], settings.get("checkpoint_every", 200)))
    if "report_to" in settings:
        callbacks.append(Tracker(settings["report_to"], settings.get("checkpoint", "runs")))
    run = distill(student, teacher, task["train"], stage, cache=settings.get("cache"), callbacks=callbacks,
                  runtime=Runtime(settings.get("precision", "no"), settings.get("accumulate", 1),
                                  settings.get("shard_teacher", False), progress=False))
    weights = {name: value.flatten()[:4].tolist() for name, value in student.state_dict().items()}
    known = fingerprint(teacher)            # all processes together: a shared teacher is put together for it
    if distributed.is_main():
        Path(settings["out"]).write_text(json.dumps({
            "history": run.history, "student": fingerprint(student), "weights": weights, "teacher": known,
            "first": watched[0] if watched else None,
            "processes": distributed.world_size(), "report": run.report.as_dict()}))


class Slow:
    """It takes the interpreter a second to tear this down, and meanwhile other threads run."""

    def __del__(self, sleep=time.sleep) -> None:
        sleep(1)


def leave_gloo_at_work() -> None:
    """End this process while gloo's threads are the last that hold some tensors."""
    distributed.barrier()
    works = [torch.distributed.all_reduce(torch.ones(100_000), async_op=True) for _ in range(300)]
    if distributed.rank() == 1:
        for work in works:
            work.wait()
    else:
        sys.slow = Slow()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    leave_gloo_at_work() if settings.get("leave") else main(settings)
