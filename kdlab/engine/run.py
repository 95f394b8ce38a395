"""A run as data: the stages that are asked for, how they are computed, and the record of what happened.

A run is a list of stages; a stage is an objective, and how long and how fast to follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from ..models.tracing import Batch, can_choose_places, places_of
from ..terms import Objective


@dataclass
class Stage:
    """One phase of a run: what is minimised, for how many steps, and by which steps.

    AdamW with linear warm-up over the fraction `warmup` of the steps, then linear decay to zero, or none. Weight decay
    is for matrices: biases and the gains of norms are exempt, as in the papers' scripts. `transform` changes a batch
    before the models see it (`kdlab.data.masking.Masking`). `rates` gives parts of the student a factor on the
    learning rate: pairs of the beginning of a parameter's name and its factor, the first that fits counts, and what
    fits none keeps 1. A factor of 0 leaves the part out, whatever the optimiser. `attention_dropout` false turns the
    student's dropout of attention probabilities off while the stage runs.
    """

    objective: Objective
    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: bool = True
    rates: tuple[tuple[str, float], ...] = ()
    transform: Callable[[Batch], Batch] | None = None
    attention_dropout: bool = True
    name: str = "distillation"

    def parameter_groups(self, student: nn.Module) -> list[dict]:
        """What an optimiser is to train, student and the objective's own, with each part's rate and weight decay."""
        parts: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in [*((None, own) for own in self.objective.parameters()), *student.named_parameters()]:
            factor = 1.0 if name is None else next((f for start, f in self.rates if name.startswith(start)), 1.0)
            parts.setdefault((factor, self.weight_decay if parameter.dim() > 1 else 0.0), []).append(parameter)
        return [{"params": part, "lr": factor * self.learning_rate, "initial_lr": factor * self.learning_rate,
                 "weight_decay": decay} for (factor, decay), part in sorted(parts.items()) if factor > 0]

    def optimizer(self, student: nn.Module, done: int = 0) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """AdamW and its schedule, with `done` steps of the stage behind them."""
        optimizer = torch.optim.AdamW(self.parameter_groups(student), betas=self.betas, eps=self.eps, fused=True)
        warmup = round(self.warmup * self.steps)
        if self.decay:
            return optimizer, get_linear_schedule_with_warmup(optimizer, warmup, self.steps, last_epoch=done - 1)
        return optimizer, get_constant_schedule_with_warmup(optimizer, warmup, last_epoch=done - 1)

    def prepared(self, batch: Batch, student: nn.Module) -> Batch:
        """The batch as the stage changes it, and with the positions where a language model's logits are read."""
        if self.transform:
            batch = self.transform(batch)
        places = places_of(self.objective.logits_at, batch) if can_choose_places(student) else None
        return batch if places is None else {**batch, "places": places}


@dataclass(frozen=True)
class Runtime:
    """How a run is computed. It changes no result but by rounding.

    precision   "no" (float32), "bf16" (autocast), or "auto": for each model what is faster here, by a short
                measurement, so that two machines may differ; losses are in float32 in any case
    accumulate  into how many slices a process cuts a batch that takes too much memory; it computes them in turn
    shard_teacher  with several processes: each holds a part of the teacher's weights (FSDP)
    progress    whether a bar is shown
    """

    precision: str = "no"
    accumulate: int = 1
    shard_teacher: bool = False
    progress: bool = True


QUIET = Runtime(progress=False)


@dataclass(frozen=True)
class TeacherUse:
    """Where the teacher's outputs came from: "none", "live" or "cache".

    layers   live: how many of its layers were run, where not all
    folder, found  cache: where it lies, and whether it was there or had to be filled
    likeliest, drawn, mass, T  cache, of a language model's distributions at temperature T: how many tokens are kept,
             and what part of the probability the likeliest hold; likeliest None: all of them
    why_live  why a cache that was given is not used
    """

    source: str = "none"
    layers: int | None = None
    folder: str = ""
    found: bool = False
    likeliest: int | None = None
    drawn: int = 0
    mass: float = 1.0
    T: float | None = None
    why_live: str = ""

    def __str__(self) -> str:
        if self.source == "cache":
            said = f"cache, {'found' if self.found else 'filled'} in {self.folder}"
            if self.T is None:
                return said
            if self.likeliest is None:
                return f"{said}; distributions in whole"
            return (f"{said}; of each distribution the {self.likeliest} likeliest tokens ({self.mass:.1%} of it at T = "
                    f"{self.T:g}) and {self.drawn} drawn from the others")
        layers = "" if self.layers is None else f", its first {self.layers} layers"
        return f"{self.source}{layers}" + (f"; {self.why_live}" if self.why_live else "")


@dataclass
class Report:
    """What a run did and what it took, in numbers; as a string it speaks.

    steps of the run in all; seconds and steps_per_second of this call; rows; padded_fraction, the part of the tokens in
    a batch that is padding; precision of each model, "no" or "bf16"; world_size, the number of processes.
    """

    steps: int = 0
    seconds: float = 0.0
    steps_per_second: float = 0.0
    rows: int = 0
    padded_fraction: float = 0.0
    precision: dict[str, str] = field(default_factory=dict)
    teacher: TeacherUse = TeacherUse()
    world_size: int = 1

    def __str__(self) -> str:
        return (f"{self.steps} steps on {self.rows:,} rows in {self.seconds:.1f} s ({self.steps_per_second:.1f} a "
                f"second), {self.padded_fraction:.0%} padding; teacher: {self.teacher}")

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return {**asdict(self), "teacher_said": str(self.teacher)}


@dataclass(repr=False)
class Run:
    """What happened: the history of every loss, what the probes showed, and a report in numbers.

    history      "step", "stage", "loss" and each term's name -> one value a step; None where the
                 stage lacks the term
    probe_steps  the steps after which the probes were looked at, 0 (before training) first
    probe_logits one tensor (probes, C) for each of them
    precision    "no" or "bf16", as used for "student" and "teacher"
    weights      the student's weights at each of them, where `Probes` kept them: not in checkpoints
    """

    history: dict[str, list] = field(default_factory=lambda: {"step": [], "stage": [], "loss": []})
    probe_steps: list[int] = field(default_factory=list)
    probe_logits: list[Tensor] = field(default_factory=list)
    precision: dict[str, str] = field(default_factory=dict)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return len(self.history["step"])

    def __repr__(self) -> str:
        """One line: a notebook shows it wherever a cell ends in `distill(...)`."""
        loss = [f"{self.history['loss'][i]:.3f}" for i in (0, -1) if self.steps]
        done = f"{self.report.seconds:.1f} s, teacher: {self.report.teacher}" if self.report.seconds else ""
        said = [f"{self.steps} steps", f"loss {' -> '.join(loss)}" if loss else "", "interrupted" * self.interrupted,
                done]
        return f"Run({', '.join(filter(None, said))})"

    def record(self, stage: str, values: dict[str, float]) -> None:
        for name in values:
            self.history.setdefault(name, [None] * self.steps)
        for name, column in self.history.items():
            column.append(values.get(name))
        self.history["stage"][-1] = stage
        self.history["step"][-1] = self.steps

    def last_losses(self) -> dict[str, float]:
        """The last step's losses by name, "loss" among them."""
        return {name: column[-1] for name, column in self.history.items()
                if name not in ("step", "stage") and column[-1] is not None}
