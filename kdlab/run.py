"""A run as data: the stages that are asked for, and the record of what happened.

A run is a list of stages; a stage is an objective, and how long and how fast to follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .objectives import Objective
from .trace import Batch


@dataclass
class Stage:
    """One phase of a run: what is minimised, for how many steps, and by which steps.

    AdamW with linear warm-up over the fraction `warmup` of the steps, then linear decay to zero.
    `transform` changes a batch before the models see it (`kdlab.masking.Masking`).
    """

    objective: Objective
    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    transform: Callable[[Batch], Batch] | None = None
    name: str = "distillation"


@dataclass
class Run:
    """What happened: the history of every loss, what the probes showed, and a report in numbers.

    history      "step", "stage", "loss" and each term's name -> one value a step; None where the
                 stage lacks the term
    probe_steps  the steps after which the probes were looked at, 0 (before training) first
    probe_logits one tensor (probes, C) for each of them
    report       how it was done: seconds, steps_per_second, teacher, padded_fraction, ...
    """

    history: dict[str, list] = field(default_factory=lambda: {"step": [], "stage": [], "loss": []})
    probe_steps: list[int] = field(default_factory=list)
    probe_logits: list[Tensor] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return len(self.history["step"])

    def record(self, stage: str, values: dict[str, float]) -> None:
        for name in values:
            self.history.setdefault(name, [None] * self.steps)
        for name, column in self.history.items():
            column.append(values.get(name))
        self.history["stage"][-1] = stage
        self.history["step"][-1] = self.steps
