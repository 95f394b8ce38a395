"""Terms that read what the models answer: soft targets, hard labels, masked words, and a loss of your own."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from .. import losses
from ..errors import KdlabError
from ..models.sparse import SparseTargets
from ..models.tracing import Batch, Trace, places_of
from .term import Reads, Term


def at_places(values: Tensor, batch: Batch) -> Tensor:
    """Of `values`, (B, L), those that the computed logits belong to: (N,), or all where logits are (B, L, V)."""
    return values[batch["places"]] if "places" in batch else values


class SoftTargets(Term):
    """`losses.soft_targets`: the teacher's distribution at temperature `T` (Hinton et al. 2015).

    Of language models, logits (B, L, V), it reads the real tokens, or with `only_masked` the masked ones. Of a
    regression, logits (B, 1), there is no distribution: it is then `losses.squared_error`, without T.
    """

    def __init__(self, weight: float = 1.0, T: float = 2.0, only_masked: bool = False) -> None:
        if T <= 0:
            raise KdlabError(f"the temperature is {T:g}; it must be above 0 (2 is a good start)")
        super().__init__("soft targets", weight, Reads(
            teacher=("logits",), batch=("mlm_labels",) if only_masked else (),
            logits_at="masked words" if only_masked else "tokens", temperatures=(T,)))
        self.T, self.only_masked = T, only_masked

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        if student.logits.shape[-1] == 1:
            return losses.squared_error(student.logits, teacher.logits.squeeze(-1))
        of_tokens = student.logits.dim() == 3 or "places" in batch
        mask = at_places(places_of(self.reads.logits_at, batch), batch) if of_tokens else None
        if isinstance(known := teacher.logits, SparseTargets):
            return losses.sparse_soft_targets(student.logits, known.classes, known.weights, known.entropy, self.T, mask)
        return losses.soft_targets(student.logits, teacher.logits, self.T, mask)


class HardLabels(Term):
    """`losses.hard_labels`: cross-entropy with the labels of the data, optionally smoothed. Of a regression, logits
    (B, 1), it is `losses.squared_error`."""

    def __init__(self, weight: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__("hard labels", weight, Reads(batch=("labels",)))
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
        super().__init__(name or getattr(function, "__name__", "my loss").replace("_", " "), weight,
                         Reads(tuple(reads), tuple(reads), ("labels",) if labels else ()))
        self.function = function

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        try:
            loss = self.function(student, teacher, batch)
        except KeyError as error:
            if error.args != ("labels",) or "labels" in self.reads.batch:
                raise
            raise KdlabError(f"the loss '{self.name}' reads batch['labels'] without saying so; make it "
                             f"Custom({self.function.__name__}, labels=True)") from error
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

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__("masked LM", weight, Reads(batch=("mlm_labels",), logits_at="masked words"))

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return losses.hard_labels(student.logits, at_places(batch["mlm_labels"], batch))
