"""Eight students at once in one process (`stacked.py`), against one run of `distill` after another.

Honest comparison costs seeds; how much? 2 x 64 students of the restaurant teacher's soft targets, from its cache. One
run (float32, which is the faster for one student of this size), the eight at once, and the eight at once in bfloat16
take turns, A B C A B C; `time_ratio_8_seeds` is the time of the faster eight over the time of one. All three are the
same experiment: the accuracies of the eight seeds, after enough steps to have learnt something, are printed for each,
with the difference of the means from one after another and its standard error.

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

from kdlab.data.batches import Rows
from kdlab.data.tasks import Task, builtin_task
from kdlab.engine.run import QUIET
from kdlab.loop import distill
from kdlab.models import load_classifier, new_classifier
from kdlab.recipes.soft_targets import with_teacher
from kdlab.study import metrics
from kdlab.teacher.cache import TeacherCache

SEEDS, UNLABELLED = 8, 20_000
STEPS, ROUNDS = {True: 100, False: 300}, {True: 3, False: 5}      # of --quick, and in full
LEARNING = 600                  # steps after which students are compared: at 100 they know nothing yet
PRECISIONS = {"at once": "no", "at once, bfloat16": "bf16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    steps, task = STEPS[options.quick], builtin_task("restaurant", unlabelled=UNLABELLED)
    teacher, _ = load_classifier("restaurant-teacher")
    data = task["transfer"]
    with tempfile.TemporaryDirectory() as folder:
        readings = with_teacher(1).objective.reads_teacher()
        known, _ = TeacherCache(folder).open(teacher, Rows(data, 0), readings)

        def alone(seed: int, steps: int) -> PreTrainedModel:
            model = student(task, seed)
            distill(model, teacher, data, with_teacher(steps), seed=seed, cache=folder, runtime=QUIET)
            return model

        def together(precision: str, steps: int) -> list[PreTrainedModel]:
            models = [student(task, seed) for seed in range(SEEDS)]
            train(models, data, known, steps, precision=precision)
            return models

        alone(0, 20), together("no", 20), together("bf16", 20)       # to warm up
        one, eight = [], {name: [] for name in PRECISIONS}
        for number in range(ROUNDS[options.quick]):
            one.append(seconds(alone, number, steps))
            for name, precision in PRECISIONS.items():
                eight[name].append(seconds(together, precision, steps))
        accuracies = {"one after another": [score(alone(seed, LEARNING), task) for seed in range(SEEDS)]}
        for name, precision in PRECISIONS.items():
            accuracies[name] = [score(model, task) for model in together(precision, LEARNING)]
    figures: dict[str, float] = {}
    print(f"one: {statistics.median(one):.2f} s for {steps} steps of 64")
    for name, times in eight.items():
        ratios = [b / a for a, b in zip(one, times, strict=True)]
        figures[f"time_ratio_8_seeds {name}"] = statistics.median(ratios)
        print(f"eight {name}: {statistics.median(times):.2f} s, ratio {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")
    figures["time_ratio_8_seeds"] = min(figures.values())
    base = accuracies["one after another"]
    print(f"accuracy after {LEARNING} steps, mean and standard deviation of {SEEDS} seeds:")
    for name, values in accuracies.items():
        difference = statistics.fmean(values) - statistics.fmean(base)
        error = ((statistics.variance(base) + statistics.variance(values)) / SEEDS) ** 0.5
        figures |= {f"accuracy {name}": statistics.fmean(values), f"accuracy_sd {name}": statistics.stdev(values)}
        print(f"{name:<20}{statistics.fmean(values):.4f}  {statistics.stdev(values):.4f}"
              + (f"   difference {difference:+.4f}, standard error {error:.4f}" if values is not base else ""))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def student(task: Task, seed: int) -> PreTrainedModel:
    return new_classifier(task.tokenizer, task.label_names, layers=2, width=64, seed=seed)


def score(model: PreTrainedModel, task: Task) -> float:
    return metrics.evaluate(model, task["test"])["accuracy"]


def seconds(work: Callable, *given) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
