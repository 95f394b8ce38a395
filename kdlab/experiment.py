"""One honest experiment on a task: a teacher, a student alone, the same student with the teacher.

All students of a seed start from the same weights, see the same batches and take the same steps.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedModel

from . import measure
from .distill import Run, distill
from .files import new_folder, write_text
from .models import new_classifier, save
from .recipes import soft_targets
from .sizes import Sizes
from .tasks import Task


def run_experiment(task: Task, out: str | Path, sizes: Sizes | None = None, teacher: PreTrainedModel | None = None,
                   progress: bool = True, say: Callable[[str], None] = print) -> dict:
    """Train, compare, and write `out`/report.json, report.txt, teacher/ and student/.

    The student that is saved is seed 0's with the teacher. Returns the report. Nothing is written if
    the run fails but the teacher's cached logits.
    """
    sizes = sizes or Sizes()
    out, began = Path(out), time.perf_counter()
    train, test = task["train"], task["test"]

    def steps(epochs: float) -> int:
        return max(1, math.ceil(epochs * len(train) / sizes.batch_size))

    def training(model, stage, teacher=None, seed=0) -> Run:
        return distill(model, train, stage, teacher, seed=seed, cache=out / "cache", progress=progress)

    def new_student(seed: int) -> PreTrainedModel:
        return new_classifier(task.tokenizer, task.label_names, sizes.student_layers, sizes.student_width, seed=seed)

    new_student(0)      # a size that cannot be built is told before the teacher's long training
    new_folder(out)
    if teacher is None:
        say(f"teacher: {sizes.teacher_layers} layers x {sizes.teacher_width}")
        teacher = new_classifier(task.tokenizer, task.label_names, sizes.teacher_layers, sizes.teacher_width)
        stage = soft_targets.no_teacher(steps(sizes.teacher_epochs), batch_size=sizes.batch_size,
                                        learning_rate=sizes.teacher_learning_rate)
        _finished(training(teacher, stage))
        save(teacher, task.tokenizer, out / "teacher")
    teacher_logits = measure.predict(teacher, test)
    rows = {"teacher": [measure.evaluate(teacher, test)], "student, no teacher": [], "student, with teacher": []}

    budget = {"steps": steps(sizes.student_epochs), "batch_size": sizes.batch_size,
              "learning_rate": sizes.student_learning_rate}
    stages = {"student, no teacher": (soft_targets.no_teacher(**budget), None),
              "student, with teacher": (soft_targets.with_teacher(T=sizes.T, labelled=True, **budget), teacher)}
    reports, kept = {}, None
    for seed in range(sizes.seeds):
        for name, (stage, guide) in stages.items():
            say(f"{name}, seed {seed}: {sizes.student_layers} layers x {sizes.student_width}")
            student = new_student(seed)
            run = _finished(training(student, stage, guide, seed))
            rows[name].append(measure.evaluate(student, test, teacher_logits))
            reports[f"{name}, seed {seed}"] = run.report
            kept = student if kept is None and guide is not None else kept
    save(kept, task.tokenizer, out / "student")

    length = task.tokenizer.model_max_length
    costs = {name: {"parameters": measure.parameters(model), "flops": measure.flops(model, length),
                    "latency_ms": measure.latency(model, length)} for name, model in
             (("teacher", teacher), ("student", kept))}
    report = {"task": task.name, "labels": list(task.label_names), "train_rows": len(train),
              "test_rows": len(test), "sizes": asdict(sizes), "tokens_for_cost": length,
              "scores": {name: _summary(scores) for name, scores in rows.items()}, "costs": costs,
              "runs": reports, "seconds": time.perf_counter() - began,
              "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"}
    write_text(out / "report.json", json.dumps(report, indent=1))
    write_text(out / "report.txt", table(report))
    return report


def table(report: dict) -> str:
    """The report as text: a row a model, mean and standard deviation over seeds."""
    head = ("model", "accuracy", "fidelity", "calib. error", "parameters", "MFLOPs", "latency ms")
    lines = [f"{head[0]:<22}" + "".join(f"{h:>18}" for h in head[1:4]) + "".join(f"{h:>12}" for h in head[4:])]
    for name, scores in report["scores"].items():
        cost = report["costs"]["teacher" if name == "teacher" else "student"]
        cells = [_cell(scores.get(key)) for key in ("accuracy", "fidelity", "calibration_error")]
        lines.append(f"{name:<22}" + "".join(f"{c:>18}" for c in cells) + f"{cost['parameters']:>12,}"
                     + f"{cost['flops'] / 1e6:>12.1f}{cost['latency_ms']:>12.2f}")
    seeds = report["sizes"]["seeds"]
    lines.append(f"\n{report['train_rows']:,} training and {report['test_rows']:,} test rows; students: mean +- "
                 f"standard deviation of {seeds} seed{'s' if seeds > 1 else ''}; FLOPs and latency of one text of "
                 f"{report['tokens_for_cost']} tokens; {report['seconds'] / 60:.1f} minutes on {report['machine']}.")
    return "\n".join(lines) + "\n"


def _finished(run: Run) -> Run:
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _summary(scores: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {key: {"mean": statistics.fmean(s[key] for s in scores),
                  "sd": statistics.stdev(s[key] for s in scores) if len(scores) > 1 else 0.0,
                  "seeds": len(scores)} for key in scores[0]}


def _cell(score: dict[str, float] | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.4f}" + (f" +- {score['sd']:.4f}" if score["seeds"] > 1 else "")
