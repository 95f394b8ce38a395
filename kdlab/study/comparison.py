"""Methods against each other, and against what could make them superfluous.

A method is a function from a `Setup` to what its student is to do:

    def mine(setup):
        return setup.stage(SoftTargets(), Custom(my_loss, weight=2.0))

or, shorter, the term or the objective itself. `compare([mine], task, teacher, seeds=8, budget=400)` adds the two
baselines that every claim needs, no teacher and soft targets. It gives each seed of every method the same initial
weights, as many steps and, to all that learn from one split, the same order of texts, and says in words what the
differences between them are worth.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
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
from ..engine.run import QUIET, Stage
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


def compare(methods: Sequence[Method | Term | Objective] | Mapping[str, Method | Term | Objective], task: Task,
            teacher: PreTrainedModel, *, seeds: int | Sequence[int] = 8, budget: int = 400,
            learn_from: str | None = None, new_student: Callable[[int], PreTrainedModel] | None = None,
            score_on: str = "test", folder: str | Path = FOLDER, workers: int | None = None, progress: bool = True,
            **settings) -> Comparison:
    """Run every method, and the baselines, with every seed; score the students on `task[score_on]`.

    methods     a list, named by their functions' or terms' names, or name -> method; a `Term` or an `Objective` stands
                for the method that minimises it
    seeds       how many, from 0, or which
    budget      optimisation steps of a run; a method that asks for more is refused
    learn_from  the split to learn from (default: the unlabelled one, transfer, where there is one); a method with
                a term that reads labels learns from train, as the baseline without a teacher does
    score_on    the split to score on
    new_student  seed -> student (default: 2 layers, 64 wide)
    folder      finished runs are kept here by content: the code of method and kdlab, weights, texts, settings. So a
                second call runs what is new, and one that was stopped goes on
    workers     processes that run side by side, each on a core of its own (default: as many as there are cores and
                two runs for each; one where there is a GPU)
    settings    of `Stage`, for all: learning_rate, batch_size, ...

    Each method is tried on one batch before the first run. Raises `KdlabError` for what cannot be compared, and names
    method, seed and line where a run goes wrong; finished runs are kept then, too, and where it is interrupted.
    """
    named = _named(methods)
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seeds or budget < 1:
        raise KdlabError(f"there are {len(seeds)} seeds and a budget of {budget} steps; give at least 1 of each")
    bench = Bench.of(task, teacher, score_on, learn_from, budget, folder, settings, new_student)
    everybody = {NO_TEACHER: _no_teacher, SOFT_TARGETS: _soft_targets} | named
    jobs = [(name, method, seed) for seed in seeds for name, method in everybody.items()]
    for name, method in everybody.items():
        if any(read_record(bench.place(name, method, seed)) is None for seed in seeds):
            bench.rehearse(name, method, seeds[0])
    runs = _all_runs(bench, jobs, workers, progress)
    example = bench.new_student(seeds[0])
    length = task.tokenizer.model_max_length
    costs = {who: {"parameters": metrics.parameters(model), "MFLOPs": metrics.flops(model, length) / 1e6,
                   "latency_ms": metrics.latency(model, length)}
             for who, model in (("teacher", teacher), ("student", example))}
    return Comparison(task.name, score_on, len(task[score_on]), budget, tuple(everybody), runs, bench.teacher_scores,
                      costs)


@dataclass(frozen=True)
class Bench:
    """Where runs are done: the same for all of them."""

    task: Task
    teacher: PreTrainedModel
    score_on: str
    learn_from: str
    budget: int
    folder: Path
    settings: Mapping[str, object]
    new_student: Callable[[int], PreTrainedModel]

    @classmethod
    def of(cls, task: Task, teacher: PreTrainedModel, score_on: str, learn_from: str | None, budget: int,
           folder: str | Path, settings: Mapping[str, object],
           new_student: Callable[[int], PreTrainedModel] | None) -> Bench:
        """With what `compare` says of learn_from and new_student where they are not given; the folder is made."""
        task[score_on]      # refused here, before the first run
        new_folder(Path(folder))
        return cls(task, teacher, score_on, learn_from or ("transfer" if "transfer" in task.splits else "train"),
                   budget, Path(folder), settings, new_student or partial(_small, task))

    @cached_property
    def teacher_logits(self) -> Tensor:
        return metrics.predict(self.teacher, self.task[self.score_on])

    @cached_property
    def teacher_scores(self) -> dict[str, float]:
        return metrics.evaluate(self.teacher, self.task[self.score_on])

    @cached_property
    def _held_out(self) -> str:
        split = self.task[self.score_on]
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
        return student, list(stages), "train" if labelled else self.learn_from

    def place(self, name: str, method: Method, seed: int) -> Path:
        """Where the run is kept: named by its content."""
        student, stages, split = self.planned(name, method, seed)
        rows = Rows(self.task[split], student.config.pad_token_id or 0)
        parts = [preflight.identity(student, self.teacher, rows, stages, seed, "no"), self._held_out, self.score_on,
                 code_of(method, *(term for stage in stages for term in stage.objective.terms)), code_of_kdlab()]
        return self.folder / f"{sha256(' '.join(parts).encode()).hexdigest()[:32]}.json"

    def record(self, name: str, method: Method, seed: int) -> dict:
        """The run's record: the one that is kept, or that of the run, which is done then."""
        place = self.place(name, method, seed)
        return read_record(place) or self.run(name, method, seed, place)

    def rehearse(self, name: str, method: Method, seed: int) -> None:
        """Each stage of the method for one step on one batch: what fails at once fails before the first run."""
        with _named_errors(name, seed):
            student, stages, split = self.planned(name, method, seed)
            for stage in stages:
                rows = self.task[split].select(range(min(stage.batch_size, len(self.task[split]))))
                distill(student, self.teacher, rows, replace(stage, steps=1), seed=seed, runtime=QUIET)

    def run(self, name: str, method: Method, seed: int, place: Path) -> dict:
        """Train and score; the record is written to `place` when it is whole."""
        student, stages, split = self.planned(name, method, seed)
        with _named_errors(name, seed):
            run = distill(student, self.teacher, self.task[split], stages, seed=seed, cache=self.folder / "teacher",
                          runtime=QUIET)
        if run.interrupted:
            raise KeyboardInterrupt
        record = {"seed": seed, "scores": metrics.evaluate(student, self.task[self.score_on], self.teacher_logits),
                  "seconds": run.report.seconds, "steps": run.steps, "texts": len(self.task[split]),
                  "teacher": str(run.report.teacher), "loss": run.history["loss"][-1]}
        write_text(place, json.dumps(record))
        return record


@contextmanager
def _named_errors(name: str, seed: int) -> Iterator[None]:
    """What goes wrong inside names the method, the seed and, of code that is not kdlab's, the line."""
    try:
        yield
    except KdlabError as error:
        raise KdlabError(f"the method '{name}', seed {seed}: {error}") from None
    except Exception as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "kdlab" not in Path(frame.filename).parts
               and "site-packages" not in frame.filename]
        where = f" (line {own[-1].lineno} of {own[-1].name})" if own else ""
        raise KdlabError(f"the method '{name}', seed {seed}, stopped with {type(error).__name__}: {error}{where}; try "
                         "it on one batch, or correct that line") from error


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


def _named(methods: Sequence[Method | Term | Objective] | Mapping[str, Method | Term | Objective]) -> dict[str, Method]:
    if not isinstance(methods, Mapping):
        names = [method.name if isinstance(method, Term) else " and ".join(term.name for term in method.terms)
                 if isinstance(method, Objective) else method.__name__.replace("_", " ") for method in methods]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise KdlabError(f"two methods are named '{twice}'; give them as {{name: method, ...}}")
        methods = dict(zip(names, methods, strict=True))
    for name in methods:
        if name in (NO_TEACHER, SOFT_TARGETS):
            raise KdlabError(f"'{name}' is the name of a baseline, which is always there; give your method another")
    return {name: partial(_minimise, method) if isinstance(method, Term | Objective) else method
            for name, method in methods.items()}


def _minimise(loss: Term | Objective, setup: Setup) -> Stage:
    """A stage on a copy of a term or an objective: what it has learned in one run is no start for the next."""
    loss = deepcopy(loss)
    return setup.stage(*(loss.terms if isinstance(loss, Objective) else [loss]))


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
