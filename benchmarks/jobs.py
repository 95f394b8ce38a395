"""Many short trainings over the cores of a machine, each result kept as soon as it is there.

A job is a plain dict of settings. Its result is stored in a .jsonl file beside those settings, so that an
interrupted benchmark goes on where it stopped, and adding a row runs only that row.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
RUNS = Path(__file__).resolve().parent.parent / "runs"      # what can be made again, and is not committed


def store_of(benchmark: str, quick: bool = False) -> Path:
    """Where a benchmark's results are kept; a quick one begins anew each time."""
    if not quick:
        return RESULTS / f"{benchmark}.jsonl"
    store = RUNS / f"{benchmark}-quick.jsonl"
    store.unlink(missing_ok=True)
    return store


def run_all(work: Callable[[dict], dict], jobs: Sequence[dict], store: Path) -> dict[str, dict]:
    """The result of every job by its `key`: those in `store`, and the rest from as many processes as cores."""
    done = read(store)
    wanted = [job for job in jobs if key(job) not in done]
    began = time.perf_counter()
    if wanted:
        store.parent.mkdir(exist_ok=True)
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(len(wanted), len(os.sched_getaffinity(0))), _one_thread) as pool, store.open("a") as file:
            for count, (job, result) in enumerate(pool.imap_unordered(_Work(work), wanted), start=1):
                done[key(job)] = result
                file.write(json.dumps({"job": job, "result": result}) + "\n")
                file.flush()
                left = (time.perf_counter() - began) / count * (len(wanted) - count)
                print(f"{count}/{len(wanted)}  {job}  accuracy {result['accuracy']:.4f}  "
                      f"{result['seconds']:.0f} s; about {left / 60:.0f} minutes left", flush=True)
    return {key(job): done[key(job)] for job in jobs}


def read(store: Path) -> dict[str, dict]:
    """What is stored so far."""
    if not store.exists():
        return {}
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    return {key(line["job"]): line["result"] for line in lines}


def key(job: dict) -> str:
    return json.dumps(job, sort_keys=True)


def mean_and_se(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def _one_thread() -> None:
    import torch
    torch.set_num_threads(1)


class _Work:
    """Picklable: the job with its result and its time."""

    def __init__(self, work: Callable[[dict], dict]) -> None:
        self.work = work

    def __call__(self, job: dict) -> tuple[dict, dict]:
        began = time.perf_counter()
        return job, {**self.work(job), "seconds": round(time.perf_counter() - began, 1)}
