"""One honest experiment on a task: a teacher, a student alone, the same student with the teacher, by any recipe.

All students of a seed take the same number of steps. By soft targets they also start from the same weights and see the
same batches; where a recipe starts its student from the teacher's weights, the student alone starts from fresh ones.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ..data.tasks import Task
from ..engine import distributed
from ..engine.callbacks import Tracker
from ..engine.checkpoint import Checkpoint
from ..engine.run import Run, Runtime
from ..files import new_folder, write_text
from ..loop import distill
from ..models import classifier_from, layers_of, new_classifier, new_model, save
from ..models.building import labelled
from ..recipes import named, soft_targets
from ..recipes.common import has_language_head, phases
from ..recipes.teacher import new_teacher, pretrain
from . import metrics
from .label_check import check_labels
from .model_card import model_card
from .sizes import Sizes

NewStudent = Callable[[int, PreTrainedModel], PreTrainedModel]     # from a seed and the teacher
TRIED = 8                                                          # rows on which everything is tried first
HEADS = 4                   # of a pretrained teacher made here: a TinyBERT has as many, whatever its width


def run_experiment(task: Task, out: str | Path, sizes: Sizes | None = None, teacher: PreTrainedModel | None = None,
                   new_student: NewStudent | None = None, teacher_task: Task | None = None,
                   runtime: Runtime | None = None, checkpoint_every: int = 200, report_to: str | None = None,
                   say: Callable[[str], None] = print, *, recipe: str = "soft-targets", paper: bool = False,
                   pretrained: PreTrainedModel | None = None, trust_label_order: bool = False) -> dict:
    """Train, compare, and write `out`/report.json, report.txt, teacher/ and student/.

    teacher: a classifier that is there already; without one, one is trained first, from `pretrained` if that is given;
    for all recipes but soft targets a masked language model is pretrained on the training texts otherwise.
    new_student: what makes the students, where they are not to be the recipe's own (soft targets alone). teacher_task:
    the task as the teacher reads it, where it has a tokenizer of its own. report_to: a tracker
    (`kdlab.engine.callbacks.TRACKERS`), whose files go to `out`/logs. recipe: of `kdlab.recipes.RECIPES`; paper: with
    the paper's settings. trust_label_order: skip the check that the teacher's classes are in the data's order.

    Everything is tried on a few rows before the first training: building, each stage, scoring, costs, saving. The
    student that is saved is seed 0's with the teacher. Returns the report. Whatever stops an experiment, the same call
    goes on where it was: each training keeps its progress in `out`/progress, which is removed at the end.
    """
    method, runtime = named(recipe), runtime or Runtime()
    settings = (sizes or Sizes()).settings_of(method, len(task["train"]), paper)
    sizes = (sizes or Sizes()).resolved(settings, paper)
    out, began = Path(out), time.perf_counter()
    train, test = task["train"], task["test"]
    theirs = teacher_task or task
    tell = say if distributed.is_main() else lambda words: None
    teacher_steps = max(1, math.ceil(sizes.teacher_epochs * len(train) / sizes.batch_size))

    def options(name: str, keeps: type[Checkpoint] = Checkpoint) -> dict[str, Any]:
        tell(name)
        place = name.replace(", ", "-").replace(" ", "-")
        looking_on = [keeps(out / "progress" / place, checkpoint_every)]
        if report_to:
            looking_on.append(Tracker(report_to, out / "logs" / place))
        return {"cache": out / "cache", "callbacks": looking_on, "runtime": runtime}

    def student_of(seed: int) -> PreTrainedModel:
        if new_student is not None:
            return new_student(seed, teacher)
        return method.student_for(task, teacher, pretrained, settings, seed)

    def student_alone(seed: int) -> PreTrainedModel:
        student = student_of(seed)
        if not has_language_head(student):
            return student
        return new_model(labelled(deepcopy(student.config), task.label_names), AutoModelForSequenceClassification, seed)

    own_teacher, own_pretrained = teacher is None, False
    if own_teacher and method is soft_targets and pretrained is None:
        teacher = new_classifier(task.tokenizer, task.label_names, sizes.teacher_layers, sizes.teacher_width)
    elif own_teacher:
        own_pretrained = pretrained is None
        pretrained = pretrained if pretrained is not None else new_teacher(
            task, getattr(method, "TEACHER", "bert"), layers=sizes.teacher_layers, width=sizes.teacher_width,
            heads=HEADS, dropout=0.1)
        teacher = classifier_from(pretrained, task.label_names)
    length = task.tokenizer.model_max_length
    first = student_alone(0)        # one that cannot be built is told before anything is written
    new_folder(out)
    costs = {"teacher": _costs(teacher, length, not runtime.shard_teacher), "student": _costs(first, length)}
    _try(method, task, teacher_task, teacher, pretrained, settings, student_of(0), out, runtime)

    if own_pretrained:
        _finished(pretrain(task, teacher_steps, pretrained, batch_size=sizes.batch_size,
                           **options("teacher, pretraining"))[1])
        _save(pretrained, task, out / "pretrained")
        teacher = classifier_from(pretrained, task.label_names)
    if own_teacher:
        stage = soft_targets.no_teacher(teacher_steps, batch_size=sizes.batch_size,
                                        learning_rate=sizes.teacher_learning_rate)
        _finished(distill(teacher, None, train, stage, **options("teacher")))
        _save(teacher, task, out / "teacher")
    if runtime.shard_teacher:
        distributed.shard(teacher, layers_of(teacher))
    teacher_logits = metrics.predict(teacher, theirs["test"])
    if not own_teacher and not task.is_regression:
        check_labels(teacher_logits, test["label"][:], task.label_names, trust_label_order)
    rows = {"teacher": [metrics.evaluate(teacher, theirs["test"])], "student, no teacher": [],
            "student, with teacher": []}

    own_tokens = {"teacher_data": theirs["train"]} if teacher_task is not None else {}
    runs, kept = {}, None
    for seed in range(sizes.seeds):
        guided, alone = (f"{name}, seed {seed}" for name in ("student, with teacher", "student, no teacher"))
        keeps = Checkpoint if method is soft_targets else _OneOfEach
        student, run = method.recipe(task, teacher, pretrained, settings, seed, student_of(seed), tell,
                                     **options(guided, keeps), **own_tokens)
        run = _finished(run)
        if kept is None:
            kept = student
            _save(kept, task, out / "student")      # whatever happens to the report
        rows["student, with teacher"].append(metrics.evaluate(student, test, teacher_logits))
        stage = soft_targets.no_teacher(run.steps, batch_size=sizes.batch_size,
                                        learning_rate=sizes.student_learning_rate)
        student = student_alone(seed)
        runs[alone] = _finished(distill(student, None, train, stage, seed=seed, **options(alone))).report.as_dict()
        runs[guided] = run.report.as_dict()
        rows["student, no teacher"].append(metrics.evaluate(student, test, teacher_logits))

    report = {"task": task.name, "labels": list(task.label_names), "train_rows": len(train),
              "test_rows": len(test), "sizes": asdict(sizes), "tokens_for_cost": length,
              "scores": {name: _summary(scores) for name, scores in rows.items()}, "costs": costs,
              "runs": runs, "seconds": time.perf_counter() - began, "processes": distributed.world_size(),
              "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
              "recipe": recipe, "paper": paper, "settings": settings}
    if distributed.is_main():
        write_text(out / "report.json", json.dumps(report, indent=1))
        write_text(out / "report.txt", table(report))
    _save(kept, task, out / "student", model_card(report, kept))
    if distributed.is_main():
        shutil.rmtree(out / "progress")
    distributed.barrier()
    return report


class _OneOfEach(Checkpoint):
    """A checkpoint for a recipe that calls `distill` more than once: a folder for each run, named by its identity."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, every)
        self.root = folder

    def open(self, identity: str) -> None:
        self.folder = self.root / identity[:16]
        super().open(identity)


def _try(method: ModuleType, task: Task, teacher_task: Task | None, teacher: PreTrainedModel,
         pretrained: PreTrainedModel | None, settings: dict[str, Any], student: PreTrainedModel, out: Path,
         runtime: Runtime) -> None:
    """The recipe from end to end, a step a stage, on a few rows; then scoring and saving. What cannot be right raises
    here, before the first training."""
    if runtime.shard_teacher:       # such a teacher may not fit into one process
        return
    few = {name: split.select(range(min(TRIED, len(split)))) for name, split in task.splits.items()}
    small = replace(task, splits=few)
    brief = settings | {name: phase | {"steps": 1, "batch_size": TRIED} for name, phase in phases(settings).items()}
    own_tokens = {} if teacher_task is None else {"teacher_data": teacher_task["train"].select(
        range(len(few["train"])))}
    student, _ = method.recipe(small, teacher, pretrained, brief, 0, student, lambda words: None,
                               runtime=Runtime(progress=False), **own_tokens)
    metrics.evaluate(student, few["test"], metrics.predict(teacher, (teacher_task or task)["test"].select(
        range(len(few["test"])))))
    _save(student, task, out / "tried")
    if distributed.is_main():
        shutil.rmtree(out / "tried")
    distributed.barrier()


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
    if report["recipe"] != "soft-targets" or report["paper"]:
        steps = report["runs"]["student, with teacher, seed 0"]["steps"]
        whose = "the paper's" if report["paper"] else "the miniature's"
        lines.append(f"\nrecipe: {report['recipe']}, {whose} settings; {steps:,} steps with and without teacher")
    lines.append(f"\n{report['train_rows']:,} training and {report['test_rows']:,} test rows; students: mean +- "
                 f"standard deviation of {seeds} seed{'s' if seeds > 1 else ''}; FLOPs and latency of one text of "
                 f"{report['tokens_for_cost']} tokens; {report['seconds'] / 60:.1f} minutes on {report['machine']}.")
    return "\n".join(lines) + "\n"


def _save(model: PreTrainedModel, task: Task, folder: Path, card: str = "") -> None:
    if distributed.is_main():
        save(model, task.tokenizer, folder, card)
    distributed.barrier()


def _costs(model: PreTrainedModel, length: int, move: bool = True) -> dict[str, float]:
    model = model.to(distributed.device()) if move else model
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
