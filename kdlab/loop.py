"""The loop: every run of kdlab, in a lesson, on the command line or over many processes, is this one.

`kdlab.engine.run` says what a stage is and what a run leaves behind.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm
from transformers import PreTrainedModel, get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from .data.batches import Rows, padded_fraction, training_batches, typical_batch
from .engine import distributed, memory, preflight
from .engine import precision as precisions
from .engine.checkpoint import Checkpoint
from .engine.fast_path import shortcut
from .engine.interrupt import Interruptible
from .engine.prediction import predict
from .engine.run import Run, Stage
from .errors import KdlabError, require
from .models.building import layers_of
from .models.tracing import Batch, can_choose_places, places_of, trace
from .teacher.cache import TeacherCache
from .teacher.source import TeacherReader, plan, reader
from .terms.objective import Objective

PROBES_PER_RUN = 60
TRACKERS = ("tensorboard", "wandb")


def distill(student: PreTrainedModel, data: Dataset, stages: Stage | Sequence[Stage],
            teacher: PreTrainedModel | None = None, *, seed: int = 0, teacher_data: Dataset | None = None,
            probes: Dataset | None = None, keep_weights: bool = False, cache: str | Path | TeacherCache | None = None,
            checkpoint: str | Path | None = None, checkpoint_every: int = 200, precision: str = "no",
            accumulate: int = 1, shard_teacher: bool = False, report_to: str | None = None,
            progress: bool = True, watch: Callable[[Run], object] | None = None) -> Run:
    """Train `student` in place through `stages` on `data`, with or without a `teacher`.

    data        encoded rows (`kdlab.data.tasks`), all of them used by every stage
    teacher_data  the same texts, row by row, encoded for a teacher that has a tokenizer of its own; terms can then
                read its logits of whole texts, and nothing token by token
    probes      encoded rows whose logits are recorded as training goes on (`Run.probe_logits`)
    keep_weights  whether the student's weights are kept too whenever the probes are looked at (`Run.weights`)
    cache       a folder for what the terms read of the teacher (`kdlab.teacher.cache`), so that it reads each row once;
    used if
                no stage changes the texts and it fits the cache's limit. Of a language model's distributions it keeps a
                few tokens (`kdlab.models.sparse`), at one temperature. `Run.report` says what was done, or why not
    checkpoint  a folder to save progress in every `checkpoint_every` steps; the same call goes on
                from what it finds there, to the same numbers as an undisturbed run
    precision   "no" (float32), "bf16" (autocast), or "auto": for each model what is faster here, by a short
                measurement, so that two machines may differ; losses are in float32 in any case
    accumulate  how many slices of a batch a process computes in turn, where a whole one takes too much memory
    shard_teacher  with several processes: each holds a part of the teacher's weights (FSDP)
    report_to   one of `TRACKERS`, which is told every step's losses; tensorboard's files lie in the checkpoint's
                folder, or in runs/
    watch       called after every step with the run so far, in the thread that trains; while it does not return, the
                run pauses, and if it returns true the run ends there

    Under `accelerate launch` every process calls this alike; a stage's batch_size is that of all of them together, and
    a term that averages over tokens averages them slice by slice (so it does when a batch is accumulated).
    At the start of a stage the objective is also computed on two small batches, to foretell the memory
    (`kdlab.engine.memory`). The same seed on the same machine gives the same numbers. An interrupt ends the run after
    the
    step under way and returns what there is. Raises `KdlabError` before the first step for a run that
    cannot be right, and at the step where a loss is no longer finite, naming the term.
    """
    stages = [stages] if isinstance(stages, Stage) else list(stages)
    precisions.check(precision)
    rows = Rows(data, student.config.pad_token_id or 0)
    theirs = None if teacher_data is None else Rows(teacher_data, teacher.config.pad_token_id or 0)
    preflight.check(student, teacher, rows, stages, theirs)
    preflight.check_counts(accumulate=accumulate, checkpoint_every=checkpoint_every)
    planned = plan(student, teacher, theirs or rows, stages, cache)
    identity = preflight.identity(student, teacher, rows, stages, seed, precision, theirs,
                                  planned.identity()) if checkpoint else ""
    saved = Checkpoint(checkpoint, identity)
    accelerator = _accelerator(report_to, checkpoint)
    device = accelerator.device
    slices = accumulate * distributed.world_size()
    mine = range(accumulate * distributed.rank(), accumulate * (distributed.rank() + 1))
    run = Run(**saved.record.get("run", {}), probe_logits=saved.probes())
    models = {"student": student.to(device)} | ({} if teacher is None else {"teacher": teacher})
    if shard_teacher and teacher is not None:
        distributed.shard(teacher, layers_of(teacher))
    elif teacher is not None:
        teacher.to(device)
    if precision != "auto":
        run.precision = dict.fromkeys(models, precision)
    elif not run.precision:
        example = rows.batch(typical_batch(rows, stages[0].batch_size, seed)[::slices])
        run.precision = distributed.broadcast(_faster_precisions(models, example, stages, theirs))
    autocast = precisions.autocast(device, run.precision["student"])
    read_teacher, source = reader(planned, teacher, theirs or rows, run.precision.get("teacher", ""),
                                          own_tokens=theirs is not None)
    total = sum(stage.steps for stage in stages)
    look = _prober(student, probes, run, total, keep_weights)
    began, began_at, was_training, ended = time.perf_counter(), run.steps, student.training, False

    with torch.random.fork_rng(), Interruptible() as interrupt, tqdm(
            total=total, initial=run.steps, disable=not (progress and distributed.is_main()), file=sys.stdout,
            ascii=True, mininterval=0.5, ncols=100) as bar:
        torch.manual_seed(seed + 1_000_003 * distributed.rank())
        saved.restore_weights(student)
        look()
        for number, stage in list(enumerate(stages))[saved.stage:]:
            done = saved.step if number == saved.stage else 0
            objective = stage.objective.to(device)
            groups = stage.parameter_groups(student)
            learning = [parameter for group in groups for parameter in group["params"]]
            optimizer = torch.optim.AdamW(groups, betas=stage.betas, eps=stage.eps,
                                          weight_decay=stage.weight_decay, fused=True)
            batches = training_batches(rows, stage.batch_size, seed + number, done, mine, slices)
            schedule = _schedule(optimizer, stage, done)
            if number == saved.stage:
                saved.restore_stage(objective, optimizer)
            student.train()
            body = shortcut(student, objective.reads_student())

            losses_of = partial(_losses, stage=stage, objective=objective, body=body, read_teacher=read_teacher,
                                choosing=can_choose_places(student), autocast=autocast)
            peak = memory.expected_peak(losses_of, learning, rows, stage.batch_size, seed, slices) / 2**20
            run.report["expected_peak_mib"] = max(peak, run.report.get("expected_peak_mib", 0))

            for step in range(done + 1, stage.steps + 1):
                seen = 0.0
                for part, batch in next(batches):           # this process's slices of the batch
                    losses = losses_of({name: values.to(device) for name, values in batch.items()})
                    accelerator.backward(part * losses["loss"])
                    seen = seen + part * torch.stack(list(losses.values())).detach()

                values = dict(zip(losses, distributed.all_reduce(seen).tolist(), strict=True))
                preflight.stop_unless_finite(values, run.steps + 1)
                distributed.all_reduce_gradients(learning)
                norm = accelerator.clip_grad_norm_(learning, stage.clip)
                preflight.stop_unless_finite({"gradient": norm.item()}, run.steps + 1)
                optimizer.step()
                schedule.step()
                for module in (student, objective):         # parts at rate 0 gather gradients as well
                    module.zero_grad()

                run.record(stage.name, values)
                look()
                accelerator.log(values, step=run.steps)
                shown = {name: f"{value:.3f}" for name, value in values.items()}
                if len(objective.terms) == 1 and objective.terms[0].weight == 1:
                    del shown["loss"]       # the one term is the loss
                bar.set_postfix(shown, refresh=False)
                bar.update()
                ended = distributed.any_of(bool(watch and watch(run)) or interrupt.requested)
                if step % checkpoint_every == 0 or step == stage.steps or ended:
                    saved.save(student, objective, optimizer, run, number, step)
                if ended:
                    break
            if ended:
                break
    student.train(was_training)
    for tracker in accelerator.trackers:        # `end_training` would part the processes, too
        tracker.finish()

    run.interrupted = ended
    seconds = time.perf_counter() - began
    run.report |= {"steps": run.steps, "seconds": seconds, "teacher": source, "precision": run.precision,
                  "steps_per_second": (run.steps - began_at) / seconds, "rows": len(rows),
                  "padded_fraction": padded_fraction(rows, stages[0].batch_size, seed)}
    if interrupt.requested and distributed.is_main():
        print(f"interrupted after step {run.steps} of {total}; the student and the history are as of then")
    return run


def _accelerator(report_to: str | None, checkpoint: str | Path | None) -> Accelerator:
    if report_to is None:
        return Accelerator()
    if report_to not in TRACKERS:
        raise KdlabError(f"the run cannot be reported to '{report_to}'; take one of {', '.join(TRACKERS)}")
    require(f"reporting to {report_to}", report_to)
    accelerator = Accelerator(log_with=report_to, project_dir=str(checkpoint or "runs"))
    accelerator.init_trackers("kdlab")
    return accelerator


def _losses(batch: Batch, *, stage: Stage, objective: Objective, body: nn.Module, choosing: bool,
            read_teacher: TeacherReader, autocast: torch.autocast) -> dict[str, Tensor]:
    """What a batch costs: each term's loss by name, and "loss", their weighted sum."""
    batch = _prepared(batch, stage, choosing)
    known = read_teacher(batch, objective.teacher_needs)
    with autocast:
        seen = trace(body, batch, objective.student_needs)
    return objective(seen, known, batch)


def _prepared(batch: Batch, stage: Stage, choosing: bool) -> Batch:
    """As the stage changes it, and with the places where a language model's logits are read."""
    if stage.transform:
        batch = stage.transform(batch)
    places = places_of(stage.objective.logits_at, batch) if choosing else None
    return batch if places is None else {**batch, "places": places}


def _faster_precisions(models: dict[str, PreTrainedModel], example: Batch, stages: Sequence[Stage],
                       theirs: Rows | None) -> dict[str, str]:
    """For each model in which precision a batch is computed sooner; theirs: rows that a teacher with a tokenizer of its
    own reads instead."""
    device = models["student"].device
    with torch.random.fork_rng():
        example = _prepared({name: values.to(device) for name, values in example.items()}, stages[0],
                            can_choose_places(models["student"]))
    found = {}
    for name, model in models.items():
        learning, batch = name == "student", example
        if not learning and theirs is not None:
            batch = {key: values.to(device) for key, values in theirs.batch(example["row"].cpu().numpy()).items()}
        readings = set().union(*(stage.objective.reads_student() if learning else stage.objective.reads_teacher()
                                 for stage in stages))
        found[name] = precisions.faster(shortcut(model, readings), batch, {output for output, _ in readings}, learning)
    return found


def _schedule(optimizer: torch.optim.Optimizer, stage: Stage, done: int) -> LRScheduler:
    warmup = round(stage.warmup * stage.steps)
    if stage.decay:
        return get_linear_schedule_with_warmup(optimizer, warmup, stage.steps, last_epoch=done - 1)
    return get_constant_schedule_with_warmup(optimizer, warmup, last_epoch=done - 1)


def _prober(student: PreTrainedModel, probes: Dataset | None, run: Run, total: int,
            keep_weights: bool) -> Callable[[], None]:
    """A function to be called after every step: it records the probes' logits every so often."""
    if probes is None:
        return lambda: None
    rows, every = Rows(probes, student.config.pad_token_id or 0), max(1, total // PROBES_PER_RUN)

    def look() -> None:
        due = run.steps % every == 0 or run.steps == total
        if due and run.steps not in run.probe_steps:
            run.probe_steps.append(run.steps)
            run.probe_logits.append(predict(student, rows))
            if keep_weights:
                run.weights.append({name: value.detach().cpu().clone() for name, value in student.state_dict().items()})
    return look
