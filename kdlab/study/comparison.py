"""Methods against each other, and against what could make them superfluous.

A method is a function from a `Setup` to what its student is to do:

    def mine(setup):
        return setup.stage(SoftTargets(), Custom(my_loss, weight=2.0))

`compare([mine], task, teacher, seeds=8, budget=400)` adds the two baselines that every claim needs, no teacher and soft
targets, gives each seed of every method the same initial weights, as many steps and, to all that learn from one split,
the same order of texts, and says in words what the differences between them are worth.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from ..data.batches import Rows
from ..data.tasks import Task
from ..engine import preflight
from ..engine.run import Runtime, Stage
from ..errors import KdlabError
from ..files import new_folder, write_text
from ..loop import distill
from ..models.building import new_classifier
from ..terms import HardLabels, Objective, SoftTargets, Term
from . import metrics
from .code import code_of, code_of_kdlab
from .report import NO_TEACHER, SOFT_TARGETS, Comparison

FOLDER = "runs/compare"


@dataclass(frozen=True)
class Setup:
    """What a method may look at: the student of a seed, the teacher, and what it may spend.

    steps: of the whole run, of batch_size texts each. settings: fields of `Stage` that all methods share.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel
    steps: int
    settings: Mapping[str, object] = field(default_factory=dict)

    def stage(self, *terms: Term, steps: int | None = None, **settings) -> Stage:
        """A stage of these terms; unless told otherwise, all the steps with the settings that everybody has."""
        return Stage(Objective(terms), steps or self.steps, **{**self.settings, **settings})


Method = Callable[[Setup], Stage | Sequence[Stage]]


def compare(methods: Sequence[Method] | Mapping[str, Method], task: Task, teacher: PreTrainedModel, *,
            seeds: int | Sequence[int] = 8, budget: int = 400, data: str | None = None,
            new_student: Callable[[int], PreTrainedModel] | None = None, split: str = "test",
            folder: str | Path = FOLDER, workers: int | None = None, progress: bool = True,
            **settings) -> Comparison:
    """Run every method, and the baselines, with every seed; score the students on `task[split]`.

    methods     a list, named by their functions' names, or name -> method
    seeds       how many, from 0, or which
    budget      optimisation steps of a run; a method that asks for more is refused
    data        the split to learn from (default: the unlabelled one, transfer, where there is one); a method with
                a term that reads labels learns from train, as the baseline without a teacher does
    new_student  seed -> student (default: 2 layers, 64 wide)
    folder      finished runs are kept here by content: the code of method and kdlab, weights, texts, settings. So a
                second call runs what is new, and one that was stopped goes on
    workers     processes that run side by side, each on a core of its own (default: as many as there are cores and
                two runs for each; one where there is a GPU)
    settings    of `Stage`, for all: learning_rate, batch_size, ...

    Raises `KdlabError` for what cannot be compared, and names method and seed where a run goes wrong; finished runs are
    kept then, too, and where it is interrupted.
    """
    named = _named(methods)
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seeds or budget < 1:
        raise KdlabError(f"there are {len(seeds)} seeds and a budget of {budget} steps; give at least 1 of each")
    bench = Bench.of(task, teacher, split, data, budget, folder, settings, new_student)
    everybody = {NO_TEACHER: _no_teacher, SOFT_TARGETS: _soft_targets} | named
    jobs = [(name, method, seed) for seed in seeds for name, method in everybody.items()]
    runs = _all_runs(bench, jobs, workers, progress)
    example = bench.new_student(seeds[0])
    length = task.tokenizer.model_max_length
    costs = {who: {"parameters": metrics.parameters(model), "MFLOPs": metrics.flops(model, length) / 1e6,
                   "latency_ms": metrics.latency(model, length)}
             for who, model in (("teacher", teacher), ("student", example))}
    return Comparison(task.name, split, len(task[split]), budget, tuple(everybody), runs, bench.teacher_scores, costs)


@dataclass(frozen=True)
class Bench:
    """Where runs are done: the same for all of them."""

    task: Task
    teacher: PreTrainedModel
    split: str
    data: str
    budget: int
    folder: Path
    settings: Mapping[str, object]
    new_student: Callable[[int], PreTrainedModel]

    @classmethod
    def of(cls, task: Task, teacher: PreTrainedModel, split: str, data: str | None, budget: int, folder: str | Path,
           settings: Mapping[str, object], new_student: Callable[[int], PreTrainedModel] | None) -> Bench:
        """With what `compare` says of data and new_student where they are not given; the folder is made."""
        task[split]         # refused here, before the first run
        new_folder(Path(folder))
        return cls(task, teacher, split, data or ("transfer" if "transfer" in task.splits else "train"), budget,
                   Path(folder), settings, new_student or partial(_small, task))

    @cached_property
    def teacher_logits(self) -> Tensor:
        return metrics.predict(self.teacher, self.task[self.split])

    @cached_property
    def teacher_scores(self) -> dict[str, float]:
        return metrics.evaluate(self.teacher, self.task[self.split])

    @cached_property
    def _held_out(self) -> str:
        split = self.task[self.split]
        return Rows(split, 0).fingerprint() + sha256(repr(split["label"][:]).encode()).hexdigest()

    def planned(self, name: str, method: Method, seed: int) -> tuple[PreTrainedModel, list[Stage], str]:
        """The student, what it is to do, and on which split."""
        student = self.new_student(seed)
        stages = method(Setup(student, self.teacher, self.budget, self.settings))
        stages = [stages] if isinstance(stages, Stage) else stages
        if not isinstance(stages, list | tuple) or not all(isinstance(stage, Stage) for stage in stages) or not stages:
            raise KdlabError(f"the method '{name}' returned {type(stages).__name__}, not what a student is to do; "
                             "return setup.stage(...), or a list of such stages")
        texts = sum(stage.steps * stage.batch_size for stage in stages)
        allowed = self.budget * self.settings.get("batch_size", Stage.batch_size)
        if texts > allowed:
            raise KdlabError(f"the method '{name}' reads {texts:,} texts and the budget is {allowed:,}; take fewer "
                             "steps, or raise the budget for all")
        labelled = any("labels" in stage.objective.batch_needs for stage in stages)
        return student, list(stages), "train" if labelled else self.data

    def place(self, name: str, method: Method, seed: int) -> Path:
        """Where the run is kept: named by its content."""
        student, stages, split = self.planned(name, method, seed)
        rows = Rows(self.task[split], student.config.pad_token_id or 0)
        parts = [preflight.identity(student, self.teacher, rows, stages, seed, "no"), self._held_out, self.split,
                 code_of(method, *(term for stage in stages for term in stage.objective.terms)), code_of_kdlab()]
        return self.folder / f"{sha256(' '.join(parts).encode()).hexdigest()[:32]}.json"

    def record(self, name: str, method: Method, seed: int) -> dict:
        """The run's record: the one that is kept, or that of the run, which is done then."""
        place = self.place(name, method, seed)
        return read_record(place) or self.run(name, method, seed, place)

    def run(self, name: str, method: Method, seed: int, place: Path) -> dict:
        """Train and score; the record is written to `place` when it is whole."""
        student, stages, split = self.planned(name, method, seed)
        began = time.perf_counter()
        try:
            run = distill(student, self.teacher, self.task[split], stages, seed=seed, cache=self.folder / "teacher",
                          runtime=Runtime(progress=False))
        except KdlabError as error:
            raise KdlabError(f"the method '{name}', seed {seed}: {error}") from None
        if run.interrupted:
            raise KeyboardInterrupt
        record = {"seed": seed, "scores": metrics.evaluate(student, self.task[self.split], self.teacher_logits),
                  "seconds": time.perf_counter() - began, "steps": run.steps, "texts": len(self.task[split]),
                  "teacher": str(run.report.teacher), "loss": run.history["loss"][-1]}
        write_text(place, json.dumps(record))
        return record


def _all_runs(bench: Bench, jobs: list[tuple[str, Method, int]], workers: int | None, progress: bool) -> list[dict]:
    """The records of all jobs, in their order; what is kept already is read and not run."""
    places = [bench.place(*job) for job in jobs]
    todo = [(job, place) for job, place in zip(jobs, places, strict=True) if read_record(place) is None]
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), disable=not progress, file=sys.stdout, ascii=True,
              ncols=100, desc="runs") as bar:
        try:
            for _ in _done(bench, todo, workers):
                bar.update()
        except KeyboardInterrupt:
            kept = sum(read_record(place) is not None for place in places)
            print(f"\ninterrupted: {kept} of {len(jobs)} runs are kept in {bench.folder}; the same call goes on from "
                  "there")
            raise
    return [{**read_record(place), "method": name} for place, (name, _, _) in zip(places, jobs, strict=True)]


def _done(bench: Bench, todo: list[tuple[tuple[str, Method, int], Path]], workers: int | None) -> Iterable[dict]:
    """Records as they are finished."""
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = 1 if torch.cuda.is_available() else min(cores, len(todo) // 2)
    if workers <= 1:
        for job, place in todo:
            yield bench.run(*job, place)
        return
    from concurrent.futures import as_completed

    from loky import ProcessPoolExecutor

    bench.teacher_logits                        # noqa: B018 computed once, and handed on
    pool = ProcessPoolExecutor(workers, initializer=_begin_work, initargs=(bench,))
    try:
        for _ in range(workers):
            pool.submit(_ready)                 # they load while
        first = next((item for item in todo if item[0][0] != NO_TEACHER), todo[0])
        yield bench.run(*first[0], first[1])    # this one fills the teacher cache, which they then find
        rest = [item for item in todo if item is not first]
        for future in as_completed([pool.submit(_work, job, place) for job, place in rest]):
            yield future.result()
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise


_bench: list[Bench] = []        # of this process, where it works for another


def _begin_work(bench: Bench) -> None:
    torch.set_num_threads(1)
    _bench[:] = [bench]


def _ready() -> None:
    """Nothing; but whoever does it is there."""


def _work(job: tuple[str, Method, int], place: Path) -> dict:
    return _bench[0].run(*job, place)


def _named(methods: Sequence[Method] | Mapping[str, Method]) -> dict[str, Method]:
    if not isinstance(methods, Mapping):
        names = [method.__name__.replace("_", " ") for method in methods]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise KdlabError(f"two methods are named '{twice}'; give them as {{name: method, ...}}")
        methods = dict(zip(names, methods, strict=True))
    for name in methods:
        if name in (NO_TEACHER, SOFT_TARGETS):
            raise KdlabError(f"'{name}' is the name of a baseline, which is always there; give your method another")
    return dict(methods)


def read_record(place: Path) -> dict | None:
    """A finished run; None where there is none, or none that is whole."""
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _small(task: Task, seed: int) -> PreTrainedModel:
    return new_classifier(task.tokenizer, task.label_names, layers=2, width=64, seed=seed)


def _no_teacher(setup: Setup) -> Stage:
    return setup.stage(HardLabels())


def _soft_targets(setup: Setup) -> Stage:
    return setup.stage(SoftTargets())
