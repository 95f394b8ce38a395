"""What do batches of like length cost a student?

kdlab sorts by length within pools of 64 batches, which leaves little padding, but makes a batch's texts more alike than
chance would. The same distillation with and without: soft targets, the students of `speed.py`, several seeds each, at
a constant learning rate without clipping (as there) and as kdlab's stages have it; how often a student answers as its
teacher does on 4,000 held-out sentences, and the part of an epoch that is padding.

    python benchmarks/shuffling.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

from speed import BATCH, EPOCHS, HEADS, RATE, held_out, sst2, teacher_of  # first: it finds kdlab
from torch import Tensor

from kdlab.data import batches
from kdlab.data.batches import Rows, padded_fraction
from kdlab.engine.run import QUIET
from kdlab.loop import Stage, distill
from kdlab.models import new_classifier
from kdlab.study import metrics
from kdlab.teacher.cache import TeacherCache
from kdlab.terms import Objective, SoftTargets

TEXTS, SEEDS = {True: (1_000, 3_000), False: (1_000, 3_000, 6_000)}, {True: 6, False: 12}
SETTINGS = {"constant": {"warmup": 0.0, "decay": False, "clip": math.inf}, "kdlab's": {}}
POOLS = {"by length": batches.POOL, "by chance": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    seeds, figures = range(SEEDS[options.quick]), {}
    print(f"{'texts':>6}{'rate':>10}{'by length':>12}{'by chance':>12}{'difference':>13}{'s.e.':>8}{'padding':>16}")
    with tempfile.TemporaryDirectory() as folder:
        kept = TeacherCache(folder)
        for texts in TEXTS[options.quick]:
            padding = {name: padding_of(texts, pool) for name, pool in POOLS.items()}
            for rate in SETTINGS:
                found = {name: [agreement(texts, rate, pool, seed, kept) for seed in seeds]
                         for name, pool in POOLS.items()}
                differences = [a - b for a, b in zip(*found.values(), strict=True)]
                means = [statistics.fmean(values) for values in (*found.values(), differences)]
                error = statistics.stdev(differences) / len(seeds) ** 0.5
                print(f"{texts:>6}{rate:>10}{means[0]:>12.4f}{means[1]:>12.4f}{means[2]:>+13.4f}{error:>8.4f}"
                      f"{padding['by length']:>9.0%}{padding['by chance']:>7.0%}", flush=True)
                figures |= {f"difference_{texts}_{rate}": means[2], f"standard_error_{texts}_{rate}": error}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def padding_of(texts: int, pool: int) -> float:
    with mock.patch.object(batches, "POOL", pool):
        return padded_fraction(Rows(sst2()["train"].select(range(texts)), 0), BATCH, 0)


def agreement(texts: int, rate: str, pool: int, seed: int, kept: TeacherCache) -> float:
    """Of a student and its teacher, on held-out sentences."""
    task, teacher = sst2(), teacher_of("soft_targets", quick=True)
    student = new_classifier(task.tokenizer, task.label_names, 2, teacher.config.hidden_size // 2, HEADS, seed=seed)
    stage = Stage(Objective([SoftTargets()]), EPOCHS * math.ceil(texts / BATCH), BATCH, RATE, **SETTINGS[rate])
    with mock.patch.object(batches, "POOL", pool):
        distill(student, teacher, task["train"].select(range(texts)), stage, seed=seed, cache=kept, runtime=QUIET)
    return metrics.fidelity(metrics.predict(student, held_out(quick=False)), answers())


@cache
def answers() -> Tensor:
    """The teacher's on the held-out sentences."""
    return metrics.predict(teacher_of("soft_targets", quick=True), held_out(quick=False))


if __name__ == "__main__":
    main()
