"""What does a distillation cost as it grows: in texts, in their length, in layers, in width, in seeds at once? And
without training, how many tokens should be computed at once?

One size is changed at a time, the others stay (32 texts a step, soft targets from a teacher of 1 x 64, which costs next
to nothing beside the student). Each table ends with the exponent of a power law fitted to it, by least squares of log
seconds on log size.

  texts    from 1,000 to 1,000,000 on disk, each in a process of its own: seconds to begin, milliseconds a step, and
           memory beyond what the smallest takes; and seconds to fill the teacher's cache
  length   tokens of a text, 8 to 256        layers   of the student, 1 to 8        width   of the student, 64 to 512
  seeds    students at once in one process (`stacked.py`), seconds of all
  at once  tokens in a batch of predictions, 256 to 16,384, by a 12 x 768 model: texts a second, without an exponent

    python benchmarks/scaling.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import kdlab  # noqa: F401, I001 before torch

import numpy as np
import pyarrow as pa
from datasets import Dataset
from stacked import train
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedModel

from kdlab.engine.run import QUIET
from kdlab.data import batches
from kdlab.study import metrics
from kdlab.data.batches import Rows
from kdlab.teacher.cache import TeacherCache
from kdlab.loop import distill
from kdlab.models import new_model
from kdlab.recipes.soft_targets import with_teacher

VOCABULARY, LABELS, BATCH = 8_000, 5, 32
TEXTS = (1_000, 10_000, 100_000, 1_000_000)
SIZES = {"length": (8, 16, 32, 64, 128, 256), "layers": (1, 2, 4, 8), "width": (64, 128, 256, 512)}
BASE = {"length": 32, "layers": 2, "width": 128}
SEEDS = (2, 4, 8, 16)
AT_ONCE = (256, 1_024, 4_096, 16_384)
STEPS = {True: 12, False: 40}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)      # a table of texts, in a process of its own
    options = parser.parse_args()
    if options.one:
        print(json.dumps(of_texts(Path(options.one[0]), int(options.one[1]))))
        return
    steps, figures = STEPS[options.quick], {}
    figures |= texts_table(steps)
    for name, sizes in SIZES.items():
        seconds = [step_seconds(steps, **{**BASE, name: size}) for size in sizes]
        figures |= table(name, sizes, seconds, "ms a step")
    figures |= table("seeds", SEEDS, [seeds_seconds(count, steps) for count in SEEDS], "ms a step of all")
    figures |= at_once_table()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def table(name: str, sizes: Sequence[int], seconds: Sequence[float], unit: str) -> dict[str, float]:
    print(f"\n{name:<10}" + "".join(f"{size:>10,}" for size in sizes))
    print(f"{unit:<10}"[:18] + "".join(f"{1e3 * value:>10.1f}" for value in seconds)
          + f"     exponent {exponent(sizes, seconds):.2f}; of the upper half {exponent(sizes[-2:], seconds[-2:]):.2f}",
          flush=True)
    return {f"{name}_exponent": exponent(sizes, seconds),
            f"{name}_exponent_of_the_upper_half": exponent(sizes[-2:], seconds[-2:]),
            **{f"{name}_{size}_ms": 1e3 * value for size, value in zip(sizes, seconds, strict=True)}}


def texts_table(steps: int) -> dict[str, float]:
    figures, found = {}, []
    print(f"{'texts':<10}{'begins, s':>12}{'ms a step':>12}{'memory, MiB':>14}{'cache filled, s':>18}"
          f"{'MiB on disk':>14}")
    for count in TEXTS:
        with tempfile.TemporaryDirectory() as folder:
            write_texts(Path(folder) / "texts.arrow", count)
            done = subprocess.run([sys.executable, __file__, "--one", folder, str(steps)], capture_output=True,
                                  text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        one = found[-1]
        one["memory"] = one["held"] - found[0]["held"]
        print(f"{count:<10,}{one['begins']:>12.2f}{1e3 * one['step']:>12.1f}{one['memory']:>14.0f}"
              f"{one['fill']:>18.1f}{one['disk']:>14.0f}", flush=True)
        figures |= {f"texts_{count}_{key}": value for key, value in one.items()}
    for key, what in (("step", "milliseconds a step"), ("fill", "seconds to fill the cache")):
        figures[f"texts_exponent_{key}"] = exponent(TEXTS, [one[key] for one in found])
        print(f"exponent of {what}: {figures[f'texts_exponent_{key}']:.2f}")
    figures["bytes_a_text"] = found[-1]["memory"] * 2**20 / TEXTS[-1]
    print(f"memory: {figures['bytes_a_text']:.0f} bytes a text")
    return figures


def of_texts(folder: Path, steps: int) -> dict[str, float]:
    """Of the table in `folder`: seconds to begin and of a step, MiB held, seconds to fill the cache, its MiB."""
    data = Dataset.from_file(str(folder / "texts.arrow"))
    student, teacher = model(**{k: BASE[k] for k in ("layers", "width")}), model(1, 64)
    moments: list[float] = []
    began = time.perf_counter()
    distill(student, teacher, data, with_teacher(steps, batch_size=BATCH),
            callbacks=[lambda run: moments.append(time.perf_counter())], runtime=QUIET)
    held = next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("RssAnon"))
    fill = time.perf_counter()
    cache = TeacherCache(folder / "cache")
    cache.open(teacher, Rows(data, 0), {("logits", None)})
    return {"begins": moments[0] - began, "step": statistics.median(np.diff(moments)), "held": held,
            "fill": time.perf_counter() - fill, "disk": cache.entries()[0].bytes / 2**20}


def step_seconds(steps: int, length: int, layers: int, width: int) -> float:
    """Of one step, the median, all texts of one length."""
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (4 * BATCH, length))
    moments: list[float] = []
    distill(model(layers, width), model(1, 64), Dataset.from_dict({"input_ids": ids}),
            with_teacher(steps, batch_size=BATCH), callbacks=[lambda run: moments.append(time.perf_counter())],
            runtime=QUIET)
    return statistics.median(np.diff(moments))


def seeds_seconds(count: int, steps: int) -> float:
    """Of one step of `count` students of 2 x 64 at once."""
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (512, 16))
    data, teacher = Dataset.from_dict({"input_ids": ids}), model(1, 64)
    with tempfile.TemporaryDirectory() as folder:
        known, _ = TeacherCache(folder).open(teacher, Rows(data, 0), {("logits", None)})
        students = [model(2, 64, seed) for seed in range(count)]
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            train(students, data, known, steps)
            seconds.append((time.perf_counter() - began) / steps)
    return min(seconds)


def at_once_table() -> dict[str, float]:
    """Texts as long as SST-2's; the better of two rounds."""
    large = model(12, 768)
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder) / "texts.arrow", 1_000)
        data = Dataset.from_file(str(Path(folder) / "texts.arrow")).select(range(400))
        found = {}
        for tokens in AT_ONCE * 2:
            began = time.perf_counter()
            with mock.patch.object(batches, "ON_CPU", tokens * large.config.hidden_size):
                metrics.predict(large, data)
            found[tokens] = max(found.get(tokens, 0.0), len(data) / (time.perf_counter() - began))
    print("\nat once   " + "".join(f"{tokens:>10,}" for tokens in found))
    print("texts/s   " + "".join(f"{speed:>10.0f}" for speed in found.values()))
    return {f"at_once_{tokens}_texts_per_second": speed for tokens, speed in found.items()}


def model(layers: int, width: int, seed: int = 0) -> PreTrainedModel:
    config = BertConfig(vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, type_vocab_size=1,
                        num_attention_heads=max(1, width // 32), intermediate_size=4 * width, num_labels=LABELS,
                        max_position_embeddings=256)
    return new_model(config, AutoModelForSequenceClassification, seed)


def write_texts(path: Path, count: int) -> None:
    """Random tokens, texts as long as SST-2's sentences are, a thousand to a chunk as `datasets` writes them."""
    rng = np.random.default_rng(0)
    schema = pa.schema({"input_ids": pa.list_(pa.int64())})
    with pa.ipc.new_stream(str(path), schema) as writer:
        for _ in range(count // 1_000):
            lengths = np.clip(np.exp(rng.normal(np.log(7), 0.77, 1_000)).astype(int) + 2, 3, 64)
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
            values = pa.array(rng.integers(5, VOCABULARY, int(lengths.sum())))
            writer.write_batch(pa.record_batch([pa.ListArray.from_arrays(offsets, values)], schema=schema))


if __name__ == "__main__":
    main()
