"""What a loss term is, what it reads, and the weighted sum of several.

A term declares what it reads in one object, `Reads`. The engine collects these declarations, asks the models for just
that, and refuses a run whose terms cannot be served before the first step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..errors import KdlabError
from ..models.tracing import WHERE, Batch, Reading, Trace


@dataclass(frozen=True)
class Reads:
    """What a term reads: outputs of student and teacher (of `kdlab.models.tracing.OUTPUTS`), and columns of the batch.

    student, teacher  the outputs, such as ("logits",)
    batch             columns besides the texts: "labels", "mlm_labels"
    student_layers, teacher_layers  the layers whose hidden states or attention it reads; None: any of them. No layer
                      above the highest is run
    logits_at         where it reads a language model's logits (of `kdlab.models.tracing.WHERE`). Where all terms say
                      so, logits are computed there alone, (N, V), and `at_positions` picks what belongs to them
    temperatures      at which it reads the teacher's distribution, and nothing else of its logits, so that a cache may
                      hand it `SparseTargets`; None: it reads the logits themselves
    """

    student: Collection[str] = ("logits",)
    teacher: Collection[str] = ()
    batch: Collection[str] = ()
    student_layers: Collection[int] | None = None
    teacher_layers: Collection[int] | None = None
    logits_at: str = "everywhere"
    temperatures: Collection[float] | None = None

    def of_student(self) -> set[Reading]:
        return _readings(self.student, self.student_layers)

    def of_teacher(self) -> set[Reading]:
        return _readings(self.teacher, self.teacher_layers)


def _readings(outputs: Collection[str], layers: Collection[int] | None) -> set[Reading]:
    return {(output, layer) for output in outputs
            for layer in ([None] if output == "logits" or layers is None else layers)}


class Term(nn.Module):
    """A named, weighted loss. A module, so that a term may own parameters, such as a learned projection.

    A subclass says what it reads and computes its loss in `forward(student, teacher, batch)`, one number as a tensor.
    """

    def __init__(self, name: str, weight: float = 1.0, reads: Reads = Reads()) -> None:
        super().__init__()
        if weight < 0:
            raise KdlabError(f"the term '{name}' has the weight {weight:g}; a weight is 0 or more")
        self.name, self.weight, self.reads = name, weight, reads

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        raise NotImplementedError

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Raise `KdlabError` where the term cannot compare these two models; called before the first step."""

    def extra_repr(self) -> str:
        own = {k: v for k, v in vars(self).items() if not k.startswith("_") and k not in ("training", "reads")}
        return ", ".join(f"{k}={v!r}" for k, v in own.items())


class Objective(nn.Module):
    """A weighted sum of terms: sum_i weight_i * loss_i."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        if not terms:
            raise KdlabError("an objective needs at least one term; add one, such as SoftTargets()")
        names = [term.name for term in terms]
        if len(set(names)) < len(names):
            raise KdlabError(f"two terms share a name in {names}; give each its own")
        self.terms = nn.ModuleList(terms)

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> dict[str, Tensor]:
        """Each term's loss before weighting, by name, and "loss", the weighted sum."""
        parts = {term.name: term(student, teacher, batch) for term in self.terms}
        parts["loss"] = sum(term.weight * parts[term.name] for term in self.terms)
        return parts

    @property
    def student_needs(self) -> frozenset[str]:
        """The outputs of the student that any term reads."""
        return frozenset().union(*(term.reads.student for term in self.terms))

    @property
    def teacher_needs(self) -> frozenset[str]:
        return frozenset().union(*(term.reads.teacher for term in self.terms))

    @property
    def batch_needs(self) -> frozenset[str]:
        return frozenset().union(*(term.reads.batch for term in self.terms))

    def reads_student(self) -> set[Reading]:
        """The same, layer by layer."""
        return set().union(*(term.reads.of_student() for term in self.terms))

    def reads_teacher(self) -> set[Reading]:
        return set().union(*(term.reads.of_teacher() for term in self.terms))

    @property
    def logits_at(self) -> str:
        """Where any term reads a language model's logits (of `kdlab.models.tracing.WHERE`)."""
        asked = [term.reads.logits_at for term in self.terms
                 if "logits" in (*term.reads.student, *term.reads.teacher)]
        return max(asked, key=WHERE.index, default="everywhere")

    @property
    def temperatures(self) -> frozenset[float] | None:
        """Those at which terms read the teacher's distribution; None: one of them reads its logits themselves."""
        asked = [term.reads.temperatures for term in self.terms if "logits" in term.reads.teacher]
        return None if None in asked else frozenset().union(*asked)
