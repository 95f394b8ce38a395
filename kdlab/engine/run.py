"""A run as data: the stages that are asked for, and the record of what happened.

A run is a list of stages; a stage is an objective, and how long and how fast to follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..models.tracing import Batch
from ..terms.objective import Objective


@dataclass
class Stage:
    """One phase of a run: what is minimised, for how many steps, and by which steps.

    AdamW with linear warm-up over the fraction `warmup` of the steps, then linear decay to zero, or none.
    `transform` changes a batch before the models see it (`kdlab.data.masking.Masking`). `rates` gives parts of the
    student a factor on the learning rate: pairs of the beginning of a parameter's name and its factor, the first
    that fits counts, and what fits none keeps 1. A factor of 0 leaves the part out, whatever the optimiser.
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
    name: str = "distillation"

    def parameter_groups(self, student: nn.Module) -> list[dict]:
        """What an optimiser is to train, with the learning rate of each part: student and the objective's own."""
        parts: dict[float, list[nn.Parameter]] = {1.0: list(self.objective.parameters())}
        for name, parameter in student.named_parameters():
            factor = next((factor for start, factor in self.rates if name.startswith(start)), 1.0)
            parts.setdefault(factor, []).append(parameter)
        return [{"params": part, "lr": factor * self.learning_rate, "initial_lr": factor * self.learning_rate}
                for factor, part in sorted(parts.items()) if part and factor > 0]


@dataclass(repr=False)
class Run:
    """What happened: the history of every loss, what the probes showed, and a report in numbers.

    history      "step", "stage", "loss" and each term's name -> one value a step; None where the
                 stage lacks the term
    probe_steps  the steps after which the probes were looked at, 0 (before training) first
    probe_logits one tensor (probes, C) for each of them
    precision    "no" or "bf16", as used for "student" and "teacher"
    weights      the student's weights at each of them, where `distill` was told to keep them: not in checkpoints
    report       how it was done: seconds, steps_per_second, teacher, padded_fraction, ...; from the start of each stage
                 on, expected_peak_mib, the most memory that the process will hold (`kdlab.engine.memory`)
    """

    history: dict[str, list] = field(default_factory=lambda: {"step": [], "stage": [], "loss": []})
    probe_steps: list[int] = field(default_factory=list)
    probe_logits: list[Tensor] = field(default_factory=list)
    precision: dict[str, str] = field(default_factory=dict)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return len(self.history["step"])

    def __repr__(self) -> str:
        """One line: a notebook shows it wherever a cell ends in `distill(...)`."""
        loss = [f"{self.history['loss'][i]:.3f}" for i in (0, -1) if self.steps]
        done = f"{self.report['seconds']:.1f} s, teacher: {self.report['teacher']}" if "seconds" in self.report else ""
        told = [f"{self.steps} steps", f"loss {' -> '.join(loss)}" if loss else "", "interrupted" * self.interrupted,
                done]
        return f"Run({', '.join(filter(None, told))})"

    def record(self, stage: str, values: dict[str, float]) -> None:
        for name in values:
            self.history.setdefault(name, [None] * self.steps)
        for name, column in self.history.items():
            column.append(values.get(name))
        self.history["stage"][-1] = stage
        self.history["step"][-1] = self.steps
