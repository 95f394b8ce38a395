"""How batches meet the teacher: from a cache where that can serve all stages, else live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from ..data.batches import Rows
from ..engine.fast_path import depth_of, shortcut
from ..engine.precision import autocast
from ..engine.run import Stage
from ..models.sparse import DistributionReading
from ..models.tracing import WHERE, Batch, Reading, Trace, can_choose_places, trace_teacher
from .cache import TeacherCache

TeacherReader = Callable[[Batch, Collection[str]], Trace | None]


@dataclass(frozen=True)
class Plan:
    """What a run reads of its teacher, and from where.

    cache         None: live
    distribution  how a language model's logits are read, if a cache can keep them
    why           why a cache that was given is not used, for the report
    """

    readings: frozenset[Reading]
    cache: TeacherCache | None = None
    distribution: DistributionReading | None = None
    why: str = ""

    def identity(self) -> str:
        """What of this decides a run's numbers: that a cache keeps but some tokens of a distribution."""
        if self.cache is None or self.distribution is None:
            return ""
        return f"{self.cache.likeliest} + {self.cache.drawn} tokens"


def plan(student: PreTrainedModel, teacher: PreTrainedModel | None, rows: Rows, stages: Sequence[Stage],
         cache: str | Path | TeacherCache | None) -> Plan:
    """rows: as the teacher reads them."""
    readings = frozenset().union(*(stage.objective.reads_teacher() for stage in stages))
    if teacher is None or not readings or cache is None:
        return Plan(readings)
    if any(stage.transform for stage in stages):
        return Plan(readings, why="; a cache is of no use, since the texts are changed every time")
    distribution = None
    if ("logits", None) in readings and teacher.get_output_embeddings() is not None:
        distribution = _distribution(stages)
        if distribution is None:
            return Plan(readings, why="; of a language model's logits a cache keeps distributions at one temperature, "
                                      "and more of them is read")
        if not (can_choose_places(student) and can_choose_places(teacher)):
            return Plan(readings, why="; a cache keeps the logits of some families of language models, and student or "
                                      "teacher is of another (kdlab.models.tracing.HEADS)")
    cache = cache if isinstance(cache, TeacherCache) else TeacherCache(cache)
    if not cache.fits(teacher, rows, readings, distribution):
        return Plan(readings, why=f"; a cache would take more than its {cache.limit:g} GiB")
    return Plan(readings, cache, distribution)


def _distribution(stages: Sequence[Stage]) -> DistributionReading | None:
    """How the stages read a language model's logits, if that is as distributions at one temperature, not everywhere."""
    asked = [stage.objective for stage in stages if "logits" in stage.objective.teacher_needs]
    where = max((objective.logits_at for objective in asked), key=WHERE.index)
    temperatures = {T for objective in asked for T in objective.temperatures or {None}}
    if where == "everywhere" or None in temperatures or len(temperatures) > 1:
        return None
    return DistributionReading(where, *temperatures)


def reader(planned: Plan, teacher: PreTrainedModel | None, rows: Rows, precision: str,
           own_tokens: bool = False) -> tuple[TeacherReader, str]:
    """A function from a batch to what is read of it, and the same in words for the report.

    rows: as the teacher reads them; own_tokens: whether that is by a tokenizer of its own.
    """
    if teacher is None or not planned.readings:
        return (lambda batch, needs: None), "none"
    if planned.cache is not None:
        stored, found = planned.cache.open(teacher, rows, planned.readings, precision, planned.distribution)
        return stored, f"cache, {'found' if found else 'filled'} in {planned.cache.root}{stored.told()}"
    body, depth = shortcut(teacher, planned.readings), depth_of(planned.readings)
    part = "" if body is teacher or depth is None else f", its first {depth} layers"

    def live(batch: Batch, needs: Collection[str]) -> Trace | None:
        if own_tokens:
            device = batch["row"].device
            batch = {name: values.to(device) for name, values in rows.batch(batch["row"].cpu().numpy()).items()}
        with autocast(batch["row"].device, precision):
            return trace_teacher(body, batch, needs) if needs else None
    return live, f"live{part}{planned.why}"
