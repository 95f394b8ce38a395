"""What does a language model's teacher cost if its answers are kept, and what is lost by it?

A cache can keep what a teacher says of masked texts if these are masked once, and of a distribution over 8,000 tokens
it keeps the likeliest and as many drawn from the others (`kdlab.models.sparse`). DistilBERT's three losses on SST-2
sentences, with the teacher and the student of `speed.py`, several seeds: seconds from a fresh student to a trained one,
filling the cache included, the cache's size, and how student and teacher overlap at the masked words of held-out
sentences, sum_v min(p_v, q_v).

    python benchmarks/masked_once.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from peers import Work
from speed import BATCH, RATE, agreement, every_third_layer, held_out, sst2, teacher_of  # first: it finds kdlab

from kdlab.data.batches import Rows
from kdlab.data.masking import Masking, mask_once
from kdlab.engine.run import Runtime
from kdlab.loop import Stage, distill
from kdlab.recipes.distilbert import triple_loss
from kdlab.teacher.cache import TeacherCache
from kdlab.terms import MaskedLM, Objective

TEXTS, EPOCHS, SEEDS = {True: 600, False: 3_000}, 6, 3


@dataclass(frozen=True)
class Way:
    copies: int = 0         # of each text, masked once; 0: masked anew every time
    kept: int = 0           # so many of the likeliest tokens, and so many others, in a cache; 0: without one
    taught: bool = True


WAYS = {"no teacher": Way(taught=False), "anew": Way(), "once": Way(1), "once, 128 + 128 kept": Way(1, 128),
        "once, 32 + 32 kept": Way(1, 32), "once, 8 + 8 kept": Way(1, 8), "3 copies, 32 + 32 kept": Way(3, 32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    found = {name: [] for name in WAYS}
    for seed in range(SEEDS):       # in turn, so that a slow minute of the machine meets all of them
        for name, way in WAYS.items():
            found[name].append(one(way, seed, options.quick))
    print(f"{'masked':<24}{'seconds':>9}{'MiB':>8}{'likeliest':>13}{'overlap':>10}{'s.d.':>8}")
    figures = {}
    for name, runs in found.items():
        seconds, size, kept, overlap = (statistics.fmean(column) for column in zip(*runs, strict=True))
        spread = statistics.stdev(run[-1] for run in runs)
        print(f"{name:<24}{seconds:>9.1f}{size:>8.1f}{kept:>13.1%}{overlap:>10.4f}{spread:>8.4f}")
        figures |= {f"{name}, {what}": value for what, value in
                    (("seconds", seconds), ("MiB", size), ("overlap", overlap), ("s.d.", spread))}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def one(way: Way, seed: int, quick: bool) -> tuple[float, float, float, float]:
    """Seconds, MiB of the cache, the part of the teacher's probability that the likeliest tokens have, overlap."""
    teacher, task = teacher_of("mlm", quick), sst2()
    data, student = task["train"].select(range(TEXTS[quick])), every_third_layer(teacher)
    masking = Masking(task.tokenizer, Rows(data, 0), smoothing=0.0)
    objective = triple_loss(student, teacher) if way.taught else Objective([MaskedLM()])
    stage = Stage(objective, EPOCHS * math.ceil(len(data) / BATCH), BATCH, RATE, transform=masking)
    work = Work("mlm", teacher, student, held_out(quick), task.tokenizer, EPOCHS, BATCH, RATE, seed)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache = TeacherCache(folder, likeliest=way.kept, drawn=way.kept) if way.kept else None
        if way.copies:
            data, stage = mask_once(data, masking, way.copies, seed), replace(stage, transform=None)
        run = distill(student, teacher, data, stage, seed=seed, cache=cache,
                      runtime=Runtime(precision="auto", progress=False))
        seconds = time.perf_counter() - began
        size = sum(entry.bytes for entry in cache.entries()) / 2**20 if cache else 0.0
    told = str(run.report.teacher)
    kept = float(told.split("tokens (")[1].split("%")[0]) / 100 if cache else 0.0
    return seconds, size, kept, agreement(work, None)


if __name__ == "__main__":
    main()
