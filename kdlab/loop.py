"""THE loop: every run of kdlab, in a lesson, on the command line or over many processes, is this one.

`Stage` says what is minimised and how fast, `Run` is what a run leaves behind (both in `kdlab.engine.run`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel

from .data.batches import Rows
from .engine import preflight
from .engine.callbacks import Callback
from .engine.fast_path import fast_path
from .engine.run import Run, Runtime, Stage
from .engine.session import Session
from .models.tracing import trace
from .teacher.cache import TeacherCache
from .teacher.source import TeacherSource


def distill(student: PreTrainedModel, teacher: PreTrainedModel | None, data: Dataset, stages: Stage | Sequence[Stage],
            *, teacher_data: Dataset | None = None, seed: int = 0, cache: str | Path | TeacherCache | None = None,
            callbacks: Sequence[Callback | Callable[[Run], object]] = (), runtime: Runtime | None = None) -> Run:
    """Train `student` in place through `stages` on `data`, with a `teacher` or without (None).

    data        encoded rows (`kdlab.data.tasks`); every stage uses all of them
    teacher_data  the same texts, row by row, encoded for a teacher that has a tokenizer of its own; terms can then
                read its logits of whole texts, and nothing token by token
    cache       a folder that keeps what the terms read of the teacher (`kdlab.teacher.cache`), so that the teacher
                reads each row once. It is used if no stage changes the texts and it fits the cache's limit
    callbacks   who looks on (`kdlab.engine.callbacks`): `Probes`, `Checkpoint`, `Tracker`, or a function of the run;
                one that returns true ends the run
    runtime     precision, slices, progress bar (`Runtime`)

    The same seed on the same machine gives the same numbers. Under `accelerate launch` every process calls this alike
    and computes its slice of each batch. An interrupt ends the run after the step under way. Raises `KdlabError`
    before the first step for a run that cannot be right, and at the step where a loss is no longer finite.
    """
    stages = [stages] if isinstance(stages, Stage) else list(stages)
    rows = Rows(data, student.config.pad_token_id or 0)
    teacher_rows = None if teacher_data is None else Rows(teacher_data, teacher.config.pad_token_id or 0)
    preflight.check(student, teacher, rows, stages, teacher_rows)        # what cannot be right stops here
    source = TeacherSource(student, teacher, rows, stages, cache, teacher_rows)
    session = Session(student, teacher, rows, teacher_rows, stages, seed, callbacks, runtime or Runtime(), source.kept)
    ask_teacher = source.open(session.run)                          # live, or from the cache

    with session as run:                                            # seeds; goes on from a checkpoint
        for stage, done in session.remaining_stages():
            objective = stage.objective.to(session.device)
            optimizer, schedule = stage.optimizer(student, done)
            model = fast_path(student, objective.reads_student())   # shares its weights; skips what no term reads
            with session.stage(stage, done, optimizer):
                for slices in session.batches(stage, done):
                    for share, batch in slices:                     # one, unless a batch is shared or accumulated
                        batch = stage.prepared(batch, student)      # masks tokens, for instance
                        t = ask_teacher(batch, objective.teacher_needs)         # in eval mode, without gradient
                        with session.autocast():
                            s = trace(model, batch, objective.student_needs)
                        losses = objective(s, t, batch)             # {"soft targets": ..., "loss": ...}
                        (share * losses["loss"]).backward()
                        session.add(share, losses)
                    values = session.gather()                       # of all slices; stops where a term is not finite
                    session.clip(stage.clip)
                    optimizer.step()
                    schedule.step()
                    student.zero_grad()
                    objective.zero_grad()
                    run.record(stage.name, values)
                    if session.step():                              # bar, probes, checkpoint, trackers, stop
                        return run
    return run
