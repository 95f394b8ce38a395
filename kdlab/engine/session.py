"""One run of the loop on this machine: devices and precision, seeds, where it goes on, who looks on, how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.batches import Rows, padded_fraction, training_batches, typical_batch
from ..errors import KdlabError
from ..models import layers_of
from ..models.tracing import Batch
from . import distributed, precision
from .callbacks import Callback, ProgressBar, Watch
from .checkpoint import Checkpoint
from .interrupt import Interruptible
from .preflight import identity, stop_unless_finite
from .run import Report, Run, Runtime, Stage


class Session:
    """What `kdlab.loop.distill` leans on. As a context it yields the run, from the checkpoint where there is one.

    kept: what decides a run's numbers besides its models, data, stages, seed and precision (of a teacher's cache).
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, rows: Rows, teacher_rows: Rows | None,
                 stages: Sequence[Stage], seed: int, callbacks: Sequence[Callback | Callable], runtime: Runtime,
                 kept: str = "") -> None:
        precision.check(runtime.precision)
        if runtime.accumulate < 1:
            raise KdlabError(f"accumulate is {runtime.accumulate}; it must be 1 or more")
        self.student, self.rows, self.stages, self.seed = student, rows, stages, seed
        self.total = sum(stage.steps for stage in stages)
        callbacks = [one if isinstance(one, Callback) else Watch(one) for one in callbacks]
        self.saved = next((one for one in callbacks if isinstance(one, Checkpoint)), Checkpoint(None))
        self.saved.open(identity(student, teacher, rows, stages, seed, runtime.precision, teacher_rows, kept)
                        if self.saved.folder else "")
        self.callbacks = [*([ProgressBar()] if runtime.progress else []),
                          *(one for one in callbacks if not isinstance(one, Checkpoint))]
        self.run = self.saved.run()
        self.device = distributed.device()
        models = {"student": student.to(self.device)} | ({} if teacher is None else {"teacher": teacher})
        if teacher is not None and runtime.shard_teacher:
            distributed.shard(teacher, layers_of(teacher))
        elif teacher is not None:
            teacher.to(self.device)
        self.of_slices = runtime.accumulate * distributed.world_size()
        self.own_slices = range(runtime.accumulate * distributed.rank(), runtime.accumulate * (distributed.rank() + 1))
        if runtime.precision != "auto":
            self.run.precision = dict.fromkeys(models, runtime.precision)
        elif not self.run.precision:
            example = rows.batch(typical_batch(rows, stages[0].batch_size, seed)[::self.of_slices])
            self.run.precision = distributed.broadcast(precision.faster_of(models, example, stages, teacher_rows))

    def __enter__(self) -> Run:
        self.began, self.began_at, self.was_training = time.perf_counter(), self.run.steps, self.student.training
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            self.interrupt = stack.enter_context(Interruptible())
            torch.manual_seed(self.seed + 1_000_003 * distributed.rank())
            self.saved.restore_weights(self.student)
            stack.callback(self.student.train, self.was_training)
            for callback in self.callbacks:
                callback.begin(self)
                stack.callback(callback.end, self)
            self.stack = stack.pop_all()
        return self.run

    def __exit__(self, kind: type | None, *error) -> None:
        self.stack.__exit__(kind, *error)
        if kind is not None:
            return
        run, seconds = self.run, time.perf_counter() - self.began
        run.report = Report(run.steps, seconds, (run.steps - self.began_at) / seconds, len(self.rows),
                            padded_fraction(self.rows, self.stages[0].batch_size, self.seed), run.precision,
                            run.report.teacher, distributed.world_size())
        if self.interrupt.requested and distributed.is_main():
            print(f"interrupted after step {run.steps} of {self.total}; the student and the history are as of then")

    def remaining_stages(self) -> Iterator[tuple[Stage, int]]:
        """The stages that are not finished, each with the number of its steps that are done."""
        for number in range(self.saved.stage, len(self.stages)):
            self.number = number
            yield self.stages[number], self.saved.step if number == self.saved.stage else 0

    @contextmanager
    def stage(self, stage: Stage, done: int, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """While a stage is under way: the student trains, with the optimiser where a checkpoint left it."""
        self.objective, self.optimizer, self.stage_steps, self.done = stage.objective, optimizer, stage.steps, done
        self.learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.number == self.saved.stage:
            self.saved.restore_stage(stage.objective, optimizer)
        self.student.train()
        with ExitStack() as stack:
            if not stage.attention_dropout:
                stack.enter_context(_no_attention_dropout(self.student))
            yield

    def batches(self, stage: Stage, done: int) -> Iterator[list[tuple[float, Batch]]]:
        """The batches of the steps that remain, each as this process's slices with their share of the batch."""
        batches = training_batches(self.rows, stage.batch_size, self.seed + self.number, done, self.own_slices,
                                   self.of_slices)
        for _, slices in zip(range(done, stage.steps), batches, strict=False):
            self.seen: Tensor | float = 0.0
            yield [(share, {name: values.to(self.device) for name, values in batch.items()})
                   for share, batch in slices]

    def add(self, share: float, losses: dict[str, Tensor]) -> None:
        """Take a slice's losses into those of the step."""
        self.names = tuple(losses)
        self.seen = self.seen + share * torch.stack(list(losses.values())).detach()

    def gather(self) -> dict[str, float]:
        """The step's losses and, in place, its gradients, summed over all slices and processes. Raises `KdlabError`
        naming the term that is not finite."""
        values = dict(zip(self.names, distributed.all_reduce(self.seen).tolist(), strict=True))
        stop_unless_finite(values, self.run.steps + 1)
        distributed.all_reduce_gradients(self.learning)
        return values

    def clip(self, norm: float) -> None:
        """Shorten the gradient to this norm; raises `KdlabError` where it is not finite."""
        length = nn.utils.clip_grad_norm_(self.learning, norm)
        stop_unless_finite({"gradient": length.item()}, self.run.steps + 1)

    def step(self) -> bool:
        """After a step: callbacks, and the checkpoint where it is due. Whether the run is to end here."""
        self.done += 1
        asked = [bool(callback.step(self)) for callback in self.callbacks]
        self.run.interrupted = distributed.any_of(any(asked) or self.interrupt.requested)
        if self.done % self.saved.every == 0 or self.done == self.stage_steps or self.run.interrupted:
            self.saved.save(self.student, self.objective, self.optimizer, self.run, self.number, self.done)
        return self.run.interrupted

    @property
    def only_term_weighs_1(self) -> bool:
        return len(self.objective.terms) == 1 and self.objective.terms[0].weight == 1

    def autocast(self) -> torch.autocast:
        """The precision of the student's forward pass."""
        return precision.autocast(self.device, self.run.precision["student"])


@contextmanager
def _no_attention_dropout(student: nn.Module) -> Iterator[None]:
    drops = [module for name, module in student.named_modules()
             if isinstance(module, nn.Dropout) and name.endswith(("attention.self.dropout", "attention.dropout"))]
    before = [module.p for module in drops]
    for module in drops:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in zip(drops, before, strict=True):
            module.p = p
