"""What part of the machine's arithmetic does a training step of kdlab reach, and where does the rest go?

The roof is measured in the same run: the matrix products of the step (forward, and the two of each backward), of the
same shapes, by themselves. `fraction` is the time that these take by themselves, for the real tokens, over the time
that the step takes. The gap is split by the profiler's account of the step's operations:

  products      the step's own matrix products; more than the roof's time is their surroundings' doing
  padding       the part of `products` that is spent on padding
  attention     scores, softmax and averages
  norms         layer norms
  pointwise     GELU, dropout, residual sums, biases' gradients and other passes over the data
  loss          softmax and KL of the logits, and the clipping of gradients
  optimiser     AdamW
  data          gathering and padding a batch, looking up the teacher
  Python        what is left: the interpreter, torch's dispatch, autograd's bookkeeping

    python benchmarks/roofline.py [--quick] [--json FILE]

Soft targets from the teacher cache, float32, batches of 64 by length, on texts as long as SST-2's sentences. And would
`torch.compile` help? For the 2 x 128 student, what it saves a step, and after how many steps it has paid for itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("GOMP_SPINCOUNT", "4000")     # as kdlab does, if it is imported before torch

import numpy as np
import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification

from kdlab.data.batches import Rows, padded_fraction, shuffled
from kdlab.engine.run import QUIET
from kdlab.loop import Stage, distill
from kdlab.teacher.cache import TeacherCache
from kdlab.terms import Objective, SoftTargets

SIZES = {"2x64": (2, 64), "2x128": (2, 128), "4x256": (4, 256)}
TEXTS, BATCH, VOCABULARY = 4_096, 64, 8_000
STEPS = {True: 20, False: 60}
# Words of an SST-2 sentence plus [CLS] and [SEP]: a log-normal with the training file's median of 7 and mean of 9.4
LENGTHS = {"mean": math.log(7), "sigma": 0.77, "longest": 64}
GROUPS = {
    "products": ("aten::addmm", "aten::mm", "aten::linear", "mkldnn"),
    "attention": ("attention", "aten::bmm", "aten::baddbmm", "aten::softmax", "aten::_softmax"),
    "norms": ("layer_norm",),
    "optimiser": ("adam", "Optimizer"),
    "loss": ("log_softmax", "linalg_vector_norm", "_foreach_norm", "aten::where", "aten::exp"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures, parts = {}, None
    for name, size in SIZES.items():
        found = roofline(*size, STEPS[options.quick])
        figures |= {f"fraction_{name}": found["fraction"], f"gflops_{name}": found["gflops"],
                    f"roof_gflops_{name}": found["roof_gflops"]} | \
            {f"{part}_{name}": share for part, share in found["parts"].items()}
        if parts is None:
            parts = list(found["parts"])
            print(f"{'student':<9}{'step ms':>9}{'GFLOP/s':>9}{'roof':>7}{'fraction':>10}"
                  + "".join(f"{part:>11}" for part in parts))
        print(f"{name:<9}{found['ms']:>9.1f}{found['gflops']:>9.1f}{found['roof_gflops']:>7.0f}{found['fraction']:>10.0%}"
              + "".join(f"{found['parts'][part]:>11.0%}" for part in parts), flush=True)
    print(f"shares of the step's time; {torch.get_num_threads()} threads, torch {torch.__version__}")
    figures |= compiled()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def texts() -> Dataset:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(LENGTHS["mean"], LENGTHS["sigma"], TEXTS).round() + 2, 3, LENGTHS["longest"])
    return Dataset.from_dict({"input_ids": [rng.integers(5, VOCABULARY, int(n)).tolist() for n in lengths]})


def model(layers: int, width: int) -> BertForSequenceClassification:
    return BertForSequenceClassification(BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 32,
        intermediate_size=4 * width, max_position_embeddings=64, type_vocab_size=1))


def roofline(layers: int, width: int, steps: int) -> dict:
    """Step time, achieved and possible FLOP/s of the products on real tokens, their ratio, and where the time goes."""
    torch.manual_seed(0)
    student, data = model(layers, width), texts()
    rows = Rows(data, 0)
    stage = Stage(Objective([SoftTargets()]), steps, BATCH, 1e-4, warmup=0.0, decay=False)
    with tempfile.TemporaryDirectory() as folder:
        guide = model(1, 32)
        TeacherCache(folder).open(guide, rows, stage.objective.reads_teacher())
        distill(student, guide, data, stage, cache=folder, runtime=QUIET)          # to warm up
        times = []
        for _ in range(3):
            run = distill(student, guide, data, stage, cache=folder, runtime=QUIET)
            times.append(1 / run.report.steps_per_second)
        seconds = statistics.median(times)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            distill(student, guide, data, stage, cache=folder, runtime=QUIET)
    flops, roof = products(layers, width, round(rows.lengths.mean() * BATCH))
    shares = {part: spent / steps / 1e6 / seconds for part, spent in account(profiler).items()}
    shares["data"] = fetching(rows, steps) / seconds
    shares["padding"] = shares["products"] * padded_fraction(rows, BATCH, 0)
    shares["products"] -= shares["padding"]
    shares["Python"] = 1 - sum(shares.values())
    return {"ms": 1e3 * seconds, "gflops": flops / seconds / 1e9, "roof_gflops": flops / roof / 1e9,
            "fraction": roof / seconds, "parts": shares}


def products(layers: int, width: int, tokens: int) -> tuple[int, float]:
    """FLOPs of a step's products on `tokens` tokens, and the seconds that these take by themselves."""
    square, wide = [(width, width)], [(width, 4 * width), (4 * width, width)]
    shapes = [(tokens, *shape) for shape in (square * 4 + wide) * (layers - 1)]
    # Of the last layer keys and values of all tokens; the rest at each text's first token alone
    # (`kdlab.engine.fast_path`)
    shapes += [(tokens, *shape) for shape in square * 2] + [(BATCH, *shape) for shape in square * 2 + wide]
    work = [(torch.randn(n, a), torch.randn(b, a), torch.randn(n, b)) for n, a, b in shapes]

    def step() -> None:
        for x, weight, gradient in work:
            x @ weight.T                # forward
            gradient @ weight           # gradient of the input
            gradient.T @ x              # gradient of the weight
    times = []
    for _ in range(20):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return sum(6 * n * a * b for n, a, b in shapes), statistics.median(times)


def compiled() -> dict[str, float]:
    student, rows = model(*SIZES["2x128"]), Rows(texts(), 0)
    optimizer = torch.optim.AdamW(student.train().parameters(), fused=True)

    def step_seconds(run: torch.nn.Module) -> tuple[float, float]:
        """Of the first step, and of a later one."""
        times = []
        for batch in islice(shuffled(rows, BATCH, 0), 60):
            began = time.perf_counter()
            run(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - began)
        return times[0], statistics.median(times)

    _, plain = step_seconds(student)
    first, fast = step_seconds(torch.compile(student, dynamic=True))
    pays = first / (plain - fast) if fast < plain else math.inf
    print(f"torch.compile: {first:.0f} s for the first step, then {1e3 * fast:.1f} ms a step and not "
          f"{1e3 * plain:.1f}: pays back after {pays:,.0f} steps")
    return {"compile_s": first, "compiled_ms": 1e3 * fast, "plain_ms": 1e3 * plain, "compile_pays_after_steps": pays}


def account(profiler: profile) -> dict[str, float]:
    """Microseconds of the run's operations by `GROUPS`; operations of no group are "pointwise"."""
    spent = dict.fromkeys([*GROUPS, "pointwise"], 0.0)
    for event in profiler.key_averages():
        if event.key.startswith("aten::") or "adam" in event.key.lower():
            group = next((group for group, names in GROUPS.items() if any(name in event.key for name in names)),
                         "pointwise")
            spent[group] += event.self_cpu_time_total
    return spent


def fetching(rows: Rows, steps: int) -> float:
    """Seconds for one batch out of the loader."""
    batches = shuffled(rows, BATCH, 0)
    next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main()
