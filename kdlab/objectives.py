"""Loss terms and their weighted sum.

A term is a loss together with what it reads: the outputs it needs of student and teacher, and the
columns it needs of the batch. The engine collects these declarations, asks the models for just that,
and refuses a run whose terms cannot be served before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedConfig

from . import losses
from .errors import KdlabError
from .trace import Batch, Trace


class Term(nn.Module):
    """A named, weighted loss. A module, so that a term may own parameters (a learned projection).

    A subclass sets what it reads and computes its loss in `forward(student, teacher, batch)`.
    """

    student_needs: frozenset[str] = frozenset({"logits"})
    teacher_needs: frozenset[str] = frozenset()
    batch_needs: frozenset[str] = frozenset()

    def __init__(self, name: str, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise KdlabError(f"the term '{name}' has the weight {weight:g}; a weight is 0 or more")
        self.name, self.weight = name, weight

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        raise NotImplementedError

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Raise `KdlabError` where the term cannot compare these two models; called before the first step."""

    def extra_repr(self) -> str:
        own = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "training"}
        return ", ".join(f"{k}={v!r}" for k, v in own.items())


class SoftTargets(Term):
    """`losses.soft_targets`: the teacher's distribution at temperature `T` (Hinton et al. 2015).

    Of language models, logits (B, L, V), it reads the real tokens, or with `only_masked` the masked ones.
    """

    teacher_needs = frozenset({"logits"})

    def __init__(self, weight: float = 1.0, T: float = 2.0, only_masked: bool = False) -> None:
        super().__init__("soft targets", weight)
        if T <= 0:
            raise KdlabError(f"the temperature is {T:g}; it must be above 0 (2 is a good start)")
        self.T, self.only_masked = T, only_masked
        if only_masked:
            self.batch_needs = frozenset({"mlm_labels"})

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        mask = None
        if self.only_masked:
            mask = batch["mlm_labels"] != losses.IGNORED
        elif student.logits.dim() == 3:
            mask = batch["attention_mask"]
        return losses.soft_targets(student.logits, teacher.logits, self.T, mask)


class HardLabels(Term):
    """`losses.hard_labels`: cross-entropy with the labels of the data, optionally smoothed."""

    batch_needs = frozenset({"labels"})

    def __init__(self, weight: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__("hard labels", weight)
        self.smoothing = smoothing

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return losses.hard_labels(student.logits, batch["labels"], self.smoothing)


class MaskedLM(Term):
    """Cross-entropy at the masked tokens: the objective of masked-word pretraining (BERT, section 3.1).

    Reads `mlm_labels`, (B, L), -100 everywhere but at the masked tokens.
    """

    batch_needs = frozenset({"mlm_labels"})

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__("masked LM", weight)

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return losses.hard_labels(student.logits, batch["mlm_labels"])


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

    @property
    def student_needs(self) -> frozenset[str]:
        return frozenset().union(*(term.student_needs for term in self.terms))

    @property
    def teacher_needs(self) -> frozenset[str]:
        return frozenset().union(*(term.teacher_needs for term in self.terms))

    @property
    def batch_needs(self) -> frozenset[str]:
        return frozenset().union(*(term.batch_needs for term in self.terms))

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> dict[str, Tensor]:
        """Each term's loss before weighting, by name, and "loss", the weighted sum."""
        parts = {term.name: term(student, teacher, batch) for term in self.terms}
        parts["loss"] = sum(term.weight * parts[term.name] for term in self.terms)
        return parts
