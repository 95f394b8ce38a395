"""How batches meet the teacher: from a cache where that can serve all stages, else live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ..data.batches import Rows
from ..engine.fast_path import depth_of, fast_path
from ..engine.precision import autocast
from ..engine.run import Run, Stage, TeacherUse
from ..models.sparse import DistributionReading
from ..models.tracing import WHERE, Batch, Trace, can_choose_places, trace_teacher
from .cache import TeacherCache

AskTeacher = Callable[[Batch, Collection[str]], Trace | None]     # of a batch, the outputs named


class TeacherSource:
    """What a run's stages read of its teacher, and from where.

    rows as the student reads them; teacher_rows as the teacher does, where it has a tokenizer of its own.
    `kept` says what a cache keeps of a language model's distributions, which decides a run's numbers.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, rows: Rows, stages: Sequence[Stage],
                 cache: str | Path | TeacherCache | None = None, teacher_rows: Rows | None = None) -> None:
        self.teacher, self.rows, self.own_tokens = teacher, teacher_rows or rows, teacher_rows is not None
        self.readings = frozenset().union(*(stage.objective.reads_teacher() for stage in stages))
        self.cache: TeacherCache | None = None
        self.distribution: DistributionReading | None = None
        self.why_live = "" if teacher is None or not self.readings or cache is None else self._plan(
            student, stages, cache if isinstance(cache, TeacherCache) else TeacherCache(cache))

    def _plan(self, student: PreTrainedModel, stages: Sequence[Stage], cache: TeacherCache) -> str:
        """Take the cache if it can serve all stages; returns why not."""
        if any(stage.transform for stage in stages):
            return "a cache is of no use, since the texts are changed every time"
        distribution = None
        if ("logits", None) in self.readings and self.teacher.get_output_embeddings() is not None:
            distribution = _distribution(stages)
            if distribution is None:
                return ("of a language model's logits a cache keeps distributions at one temperature, and more of them "
                        "is read")
            if not (can_choose_places(student) and can_choose_places(self.teacher)):
                return ("a cache keeps the logits of some families of language models, and student or teacher is of "
                        "another (kdlab.models.tracing.HEADS)")
        if not cache.fits(self.teacher, self.rows, self.readings, distribution):
            return f"a cache would take more than its {cache.limit:g} GiB"
        self.cache, self.distribution = cache, distribution
        return ""

    @property
    def kept(self) -> str:
        if self.cache is None or self.distribution is None:
            return ""
        return f"{self.cache.likeliest} + {self.cache.drawn} tokens"

    def open(self, run: Run) -> AskTeacher:
        """A function from a batch to what is read of it, in the run's precision; fills the cache. The run's report is
        told where the outputs come from."""
        precision = run.precision.get("teacher", "")
        if self.teacher is None or not self.readings:
            return lambda batch, needs: None
        if self.cache is not None:
            stored, found = self.cache.open(self.teacher, self.rows, self.readings, precision, self.distribution)
            run.report.teacher = TeacherUse("cache", folder=str(self.cache.root), found=found, **stored.kept_tokens())
            return stored
        body, depth = fast_path(self.teacher, self.readings), depth_of(self.readings)
        run.report.teacher = TeacherUse("live", layers=None if body is self.teacher else depth, why_live=self.why_live)

        def live(batch: Batch, needs: Collection[str]) -> Trace | None:
            if self.own_tokens:
                device = batch["row"].device
                own = self.rows.batch(batch["row"].cpu().numpy())
                batch = {name: values.to(device) for name, values in own.items()}
            with autocast(batch["row"].device, precision):
                return trace_teacher(body, batch, needs) if needs else None
        return live


def _distribution(stages: Sequence[Stage]) -> DistributionReading | None:
    """How the stages read a language model's logits, if that is as distributions at one temperature, not everywhere."""
    asked = [stage.objective for stage in stages if "logits" in stage.objective.teacher_needs]
    where = max((objective.logits_at for objective in asked), key=WHERE.index)
    temperatures = {T for objective in asked for T in objective.temperatures or {None}}
    if where == "everywhere" or None in temperatures or len(temperatures) > 1:
        return None
    return DistributionReading(where, *temperatures)
