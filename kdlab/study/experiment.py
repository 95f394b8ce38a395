"""One honest experiment on a task: a teacher, a student alone, the same student with the teacher.

All students of a seed start from the same weights, see the same batches and take the same steps.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..data.tasks import Task
from ..engine import distributed
from ..engine.callbacks import Tracker
from ..engine.checkpoint import Checkpoint
from ..engine.run import Runtime
from ..files import new_folder, write_text
from ..loop import Run, distill
from ..models import layers_of, new_classifier, save
from ..recipes import soft_targets
from . import metrics
from .model_card import model_card
from .sizes import Sizes

NewStudent = Callable[[int, PreTrainedModel], PreTrainedModel]     # from a seed and the teacher


def run_experiment(task: Task, out: str | Path, sizes: Sizes | None = None, teacher: PreTrainedModel | None = None,
                   new_student: NewStudent | None = None, teacher_task: Task | None = None,
                   runtime: Runtime | None = None, checkpoint_every: int = 200, report_to: str | None = None,
                   say: Callable[[str], None] = print) -> dict:
    """Train, compare, and write `out`/report.json, report.txt, teacher/ and student/.

    teacher: a classifier that is there already; without one, one is trained first. new_student: what makes the
    students, where they are not to be small BERTs of `sizes`. teacher_task: the task as the teacher reads it, where it
    has a tokenizer of its own. report_to: a tracker (`kdlab.engine.callbacks.TRACKERS`), whose files go to `out`/logs.

    The student that is saved is seed 0's with the teacher. Returns the report. Whatever stops an experiment, the same
    call goes on where it was: each training keeps its progress in `out`/progress, which is removed at the end.
    """
    sizes, runtime = sizes or Sizes(), runtime or Runtime()
    out, began = Path(out), time.perf_counter()
    train, test = task["train"], task["test"]
    theirs = teacher_task or task
    tell = say if distributed.is_main() else lambda words: None

    def steps(epochs: float) -> int:
        return max(1, math.ceil(epochs * len(train) / sizes.batch_size))

    def training(name: str, model, stage, guide=None, seed=0) -> Run:
        data = {"teacher_data": theirs["train"]} if guide is not None and teacher_task is not None else {}
        tell(name)
        place = name.replace(", ", "-").replace(" ", "-")
        looking_on = [Checkpoint(out / "progress" / place, checkpoint_every)]
        if report_to:
            looking_on.append(Tracker(report_to, out / "logs" / place))
        return _finished(distill(model, guide, train, stage, seed=seed, cache=out / "cache", callbacks=looking_on,
                                 runtime=runtime, **data))

    def small(seed: int, _: PreTrainedModel | None = None) -> PreTrainedModel:
        return new_classifier(task.tokenizer, task.label_names, sizes.student_layers, sizes.student_width, seed=seed)

    new_student = new_student or small
    if teacher is not None or new_student is small:
        new_student(0, teacher)     # one that cannot be built is told before the teacher's long training
    new_folder(out)
    if teacher is None:
        teacher = new_classifier(task.tokenizer, task.label_names, sizes.teacher_layers, sizes.teacher_width)
        stage = soft_targets.no_teacher(steps(sizes.teacher_epochs), batch_size=sizes.batch_size,
                                        learning_rate=sizes.teacher_learning_rate)
        training("teacher", teacher, stage)
        _save(teacher, task, out / "teacher")
    length = task.tokenizer.model_max_length
    costs = {"teacher": _costs(teacher, length)}
    if runtime.shard_teacher:
        distributed.shard(teacher, layers_of(teacher))
    teacher_logits = metrics.predict(teacher, theirs["test"])
    rows = {"teacher": [metrics.evaluate(teacher, theirs["test"])], "student, no teacher": [],
            "student, with teacher": []}

    budget = {"steps": steps(sizes.student_epochs), "batch_size": sizes.batch_size,
              "learning_rate": sizes.student_learning_rate}
    stages = {"student, no teacher": (soft_targets.no_teacher(**budget), None),
              "student, with teacher": (soft_targets.with_teacher(T=sizes.T, labelled=True, **budget), teacher)}
    runs, kept = {}, None
    for seed in range(sizes.seeds):
        for name, (stage, guide) in stages.items():
            student = new_student(seed, teacher)
            run = training(f"{name}, seed {seed}", student, stage, guide, seed)
            rows[name].append(metrics.evaluate(student, test, teacher_logits))
            runs[f"{name}, seed {seed}"] = run.report.as_dict()
            kept = student if kept is None and guide is not None else kept

    costs["student"] = _costs(kept, length)
    report = {"task": task.name, "labels": list(task.label_names), "train_rows": len(train),
              "test_rows": len(test), "sizes": asdict(sizes), "tokens_for_cost": length,
              "scores": {name: _summary(scores) for name, scores in rows.items()}, "costs": costs,
              "runs": runs, "seconds": time.perf_counter() - began, "processes": distributed.world_size(),
              "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"}
    _save(kept, task, out / "student", model_card(report, kept))
    if distributed.is_main():
        write_text(out / "report.json", json.dumps(report, indent=1))
        write_text(out / "report.txt", table(report))
        shutil.rmtree(out / "progress")
    distributed.barrier()
    return report


def table(report: dict) -> str:
    """The report as text: a row a model, mean and standard deviation over seeds."""
    score = metrics.headline(report["scores"]["teacher"])
    third = "spearman" if score == "pearson" else "calibration_error"
    head = ("model", score, "fidelity", third.replace("calibration_error", "calib. error"), "parameters", "MFLOPs",
            "latency ms")
    lines = [f"{head[0]:<22}" + "".join(f"{h:>18}" for h in head[1:4]) + "".join(f"{h:>12}" for h in head[4:])]
    for name, scores in report["scores"].items():
        cost = report["costs"]["teacher" if name == "teacher" else "student"]
        cells = [_cell(scores.get(key)) for key in (score, "fidelity", third)]
        lines.append(f"{name:<22}" + "".join(f"{c:>18}" for c in cells) + f"{cost['parameters']:>12,}"
                     + f"{cost['flops'] / 1e6:>12.1f}{cost['latency_ms']:>12.2f}")
    seeds = report["sizes"]["seeds"]
    lines.append(f"\n{report['train_rows']:,} training and {report['test_rows']:,} test rows; students: mean +- "
                 f"standard deviation of {seeds} seed{'s' if seeds > 1 else ''}; FLOPs and latency of one text of "
                 f"{report['tokens_for_cost']} tokens; {report['seconds'] / 60:.1f} minutes on {report['machine']}.")
    return "\n".join(lines) + "\n"


def _save(model: PreTrainedModel, task: Task, folder: Path, card: str = "") -> None:
    if distributed.is_main():
        save(model, task.tokenizer, folder, card)
    distributed.barrier()


def _costs(model: PreTrainedModel, length: int) -> dict[str, float]:
    return {"parameters": metrics.parameters(model), "flops": metrics.flops(model, length),
            "latency_ms": metrics.latency(model, length)}


def _finished(run: Run) -> Run:
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _summary(scores: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {key: {"mean": statistics.fmean(s[key] for s in scores),
                  "sd": statistics.stdev(s[key] for s in scores) if len(scores) > 1 else 0.0,
                  "seeds": len(scores), "values": [s[key] for s in scores]} for key in scores[0]}


def _cell(score: dict[str, float] | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.4f}" + (f" +- {score['sd']:.4f}" if score["seeds"] > 1 else "")
