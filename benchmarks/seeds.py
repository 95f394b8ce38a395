"""Eight students at once in one process (`stacked.py`), against one run of `distill` after another.

Honest comparison costs seeds; how much? 2 x 64 students of the restaurant teacher's soft targets, from its cache. One
run and the eight at once take turns, A B A B; `time_ratio_8_seeds` is the time of the eight over the time of one. Both
ways are the same experiment: the accuracies over the eight seeds are printed for both, with the standard error of the
difference of their means.

    python benchmarks/seeds.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("GOMP_SPINCOUNT", "4000")     # as kdlab does, if it is imported before torch

from stacked import train
from transformers import PreTrainedModel

from kdlab import measure
from kdlab.batches import Rows
from kdlab.cache import TeacherCache
from kdlab.distill import distill
from kdlab.models import load_classifier, new_classifier
from kdlab.recipes.soft_targets import with_teacher
from kdlab.tasks import Task, builtin_task

SEEDS, UNLABELLED = 8, 20_000
STEPS, ROUNDS = {True: 100, False: 300}, {True: 3, False: 5}      # of --quick, and in full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    steps, task = STEPS[options.quick], builtin_task("restaurant", unlabelled=UNLABELLED)
    teacher, _ = load_classifier("restaurant-teacher")
    data, stage = task["transfer"], with_teacher(steps)
    with tempfile.TemporaryDirectory() as folder:
        readings = stage.objective.reads_teacher()
        known, _ = TeacherCache(folder).open(teacher, Rows(data, 0), readings)

        def alone(seed: int) -> PreTrainedModel:
            model = student(task, seed)
            distill(model, data, stage, teacher, seed=seed, cache=folder, progress=False)
            return model

        def together() -> list[PreTrainedModel]:
            models = [student(task, seed) for seed in range(SEEDS)]
            train(models, data, known, steps)
            return models

        alone(0), together()        # to warm up
        one, eight = [], []
        for number in range(ROUNDS[options.quick]):
            one.append(seconds(alone, number))
            eight.append(seconds(together))
        accuracies = {"one after another": [score(alone(seed), task) for seed in range(SEEDS)],
                      "at once": [score(model, task) for model in together()]}
    ratios = [b / a for a, b in zip(one, eight, strict=True)]
    print(f"one: {statistics.median(one):.1f} s; eight at once: {statistics.median(eight):.1f} s; ratio "
          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {steps} steps of 64")
    for name, values in accuracies.items():
        print(f"accuracy, {name:<18}{statistics.fmean(values):.4f}, standard deviation {statistics.stdev(values):.4f}")
    a, b = accuracies.values()
    error = ((statistics.variance(a) + statistics.variance(b)) / SEEDS) ** 0.5
    difference = statistics.fmean(b) - statistics.fmean(a)
    print(f"difference {difference:+.4f}, standard error {error:.4f}")
    if options.json:
        figures = {"time_ratio_8_seeds": statistics.median(ratios), "accuracy_difference": difference,
                   "accuracy_difference_se": error}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def student(task: Task, seed: int) -> PreTrainedModel:
    return new_classifier(task.tokenizer, task.label_names, layers=2, width=64, seed=seed)


def score(model: PreTrainedModel, task: Task) -> float:
    return measure.evaluate(model, task["test"])["accuracy"]


def seconds(work: Callable, *given) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
