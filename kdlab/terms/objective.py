"""Loss terms and their weighted sum.

A term is a loss together with what it reads: the outputs it needs of student and teacher, and the
columns it needs of the batch. The engine collects these declarations, asks the models for just that,
and refuses a run whose terms cannot be served before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn
from transformers import PreTrainedConfig

from .. import losses
from ..errors import KdlabError
from ..models.sparse import SparseTargets
from ..models.tracing import WHERE, Batch, Reading, Trace, places_of


class Term(nn.Module):
    """A named, weighted loss. A module, so that a term may own parameters (a learned projection).

    A subclass sets what it reads and computes its loss in `forward(student, teacher, batch)`. If it also says which
    layers it reads hidden states or attention of, no more of the models is run than that; if it says where it reads a
    language model's logits, and all terms do, they are computed there only, (N, V), and `at_places` picks what belongs
    to them; if it says at which `temperatures` it reads the teacher's distribution, and reads no more of its logits, a
    cache may hand it `SparseTargets`.
    """

    student_needs: frozenset[str] = frozenset({"logits"})
    teacher_needs: frozenset[str] = frozenset()
    student_layers: frozenset[int] | None = None        # None: any
    teacher_layers: frozenset[int] | None = None
    batch_needs: frozenset[str] = frozenset()
    logits_at: str = "everywhere"                       # of `kdlab.models.tracing.WHERE`
    temperatures: frozenset[float] | None = None        # of the teacher's distribution; None: its logits themselves

    def __init__(self, name: str, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise KdlabError(f"the term '{name}' has the weight {weight:g}; a weight is 0 or more")
        self.name, self.weight = name, weight

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        raise NotImplementedError

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Raise `KdlabError` where the term cannot compare these two models; called before the first step."""

    def reads_student(self) -> set[Reading]:
        return _readings(self.student_needs, self.student_layers)

    def reads_teacher(self) -> set[Reading]:
        return _readings(self.teacher_needs, self.teacher_layers)

    def extra_repr(self) -> str:
        own = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "training"}
        return ", ".join(f"{k}={v!r}" for k, v in own.items())


def _readings(needs: frozenset[str], layers: frozenset[int] | None) -> set[Reading]:
    return {(output, layer) for output in needs
            for layer in ([None] if output == "logits" or layers is None else layers)}


def at_places(values: Tensor, batch: Batch) -> Tensor:
    """Of `values`, (B, L), those that the computed logits belong to: (N,), or all where logits are (B, L, V)."""
    return values[batch["places"]] if "places" in batch else values


class SoftTargets(Term):
    """`losses.soft_targets`: the teacher's distribution at temperature `T` (Hinton et al. 2015).

    Of language models, logits (B, L, V), it reads the real tokens, or with `only_masked` the masked ones. Of a
    regression, logits (B, 1), there is no distribution: it is then `losses.squared_error`, without T.
    """

    teacher_needs = frozenset({"logits"})

    def __init__(self, weight: float = 1.0, T: float = 2.0, only_masked: bool = False) -> None:
        super().__init__("soft targets", weight)
        if T <= 0:
            raise KdlabError(f"the temperature is {T:g}; it must be above 0 (2 is a good start)")
        self.T, self.only_masked = T, only_masked
        if only_masked:
            self.batch_needs = frozenset({"mlm_labels"})

    @property
    def logits_at(self) -> str:
        return "masked words" if self.only_masked else "tokens"

    @property
    def temperatures(self) -> frozenset[float]:
        return frozenset({self.T})

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        if student.logits.shape[-1] == 1:
            return losses.squared_error(student.logits, teacher.logits.squeeze(-1))
        of_tokens = student.logits.dim() == 3 or "places" in batch
        mask = at_places(places_of(self.logits_at, batch), batch) if of_tokens else None
        if isinstance(known := teacher.logits, SparseTargets):
            return losses.sparse_soft_targets(student.logits, known.classes, known.weights, known.entropy, self.T, mask)
        return losses.soft_targets(student.logits, teacher.logits, self.T, mask)


class HardLabels(Term):
    """`losses.hard_labels`: cross-entropy with the labels of the data, optionally smoothed. Of a regression, logits
    (B, 1), it is `losses.squared_error`."""

    batch_needs = frozenset({"labels"})

    def __init__(self, weight: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__("hard labels", weight)
        self.smoothing = smoothing

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        if student.logits.shape[-1] == 1:
            return losses.squared_error(student.logits, batch["labels"])
        return losses.hard_labels(student.logits, batch["labels"], self.smoothing)


class Custom(Term):
    """A loss of your own: `function(student, teacher, batch)` of two `Trace`s and a batch to a scalar tensor.

    reads: the outputs it looks at, of student and teacher alike (`kdlab.models.tracing.OUTPUTS`); labels: whether it
    also looks
    at batch["labels"]. A loss that learns something of its own is better a `Term`.
    """

    def __init__(self, function: Callable[[Trace, Trace, Batch], Tensor], weight: float = 1.0,
                 reads: Collection[str] = ("logits",), labels: bool = False, name: str = "") -> None:
        super().__init__(name or function.__name__.replace("_", " "), weight)
        self.function = function
        self.student_needs = self.teacher_needs = frozenset(reads)
        self.batch_needs = frozenset({"labels"} if labels else ())

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        loss = self.function(student, teacher, batch)
        if not isinstance(loss, Tensor) or loss.dim() > 0:
            told = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
            raise KdlabError(f"the loss '{self.name}' returned {told}; it has to return one number as a tensor, such "
                             "as a mean over the batch")
        return loss

    def extra_repr(self) -> str:
        return f"{self.name}, weight={self.weight}"


class MaskedLM(Term):
    """Cross-entropy at the masked tokens: the objective of masked-word pretraining (BERT, section 3.1).

    Reads `mlm_labels`, (B, L), -100 everywhere but at the masked tokens.
    """

    batch_needs = frozenset({"mlm_labels"})
    logits_at = "masked words"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__("masked LM", weight)

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return losses.hard_labels(student.logits, at_places(batch["mlm_labels"], batch))


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

    def reads_student(self) -> set[Reading]:
        return set().union(*(term.reads_student() for term in self.terms))

    def reads_teacher(self) -> set[Reading]:
        return set().union(*(term.reads_teacher() for term in self.terms))

    @property
    def logits_at(self) -> str:
        """Where any term reads a language model's logits (of `kdlab.models.tracing.WHERE`)."""
        asked = [term.logits_at for term in self.terms if "logits" in term.student_needs | term.teacher_needs]
        return max(asked, key=WHERE.index, default="everywhere")

    @property
    def temperatures(self) -> frozenset[float] | None:
        """Those at which terms read the teacher's distribution; None: one of them reads its logits themselves."""
        asked = [term.temperatures for term in self.terms if "logits" in term.teacher_needs]
        return None if None in asked else frozenset().union(*asked)

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> dict[str, Tensor]:
        """Each term's loss before weighting, by name, and "loss", the weighted sum."""
        parts = {term.name: term(student, teacher, batch) for term in self.terms}
        parts["loss"] = sum(term.weight * parts[term.name] for term in self.terms)
        return parts
