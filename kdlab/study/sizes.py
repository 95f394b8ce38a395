"""What an experiment builds and how long it trains: the defaults of `kdlab.study.experiment` and its command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import Any

from ..errors import KdlabError

EPOCHS, BATCH, RATE = 2.0, 64, 1e-3        # of students, in the miniature


def _setting(default: float | None, meaning: str, kind: type = int):
    return field(default=default, metadata={"help": meaning, "type": kind})


@dataclass(frozen=True)
class Sizes:
    """The defaults fit 67,000 short texts into 15 minutes on two cores. None is the recipe's own.

    Raises `KdlabError` for a number that is not above 0.
    """

    teacher_layers: int = _setting(3, "layers of the teacher")
    teacher_width: int = _setting(192, "width of the teacher")
    student_layers: int | None = _setting(None, "layers of the student")
    student_width: int | None = _setting(None, "width of the student")
    teacher_epochs: float = _setting(2.0, "passes over the training file; as many to pretrain a teacher", float)
    student_epochs: float | None = _setting(None, "passes over the training file, with and without teacher; of a "
                                            "recipe of several stages all together (default: 2)", float)
    batch_size: int | None = _setting(None, "texts a step (default: 64)")
    teacher_learning_rate: float = _setting(5e-4, "peak of the warm-up", float)
    student_learning_rate: float | None = _setting(None, "peak of the warm-up, with and without teacher", float)
    T: float | None = _setting(None, "temperature of the soft targets", float)
    seeds: int = _setting(3, "students of each kind, for the spread")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is not None and not value > 0:
                raise KdlabError(f"{setting.name.replace('_', '-')} is {value} ({setting.metadata['help']}); give a "
                                 "number above 0")

    def settings_of(self, recipe: ModuleType, rows: int, paper: bool = False) -> dict[str, Any]:
        """The recipe's settings with what these sizes say, for a training file of so many rows.

        Without `paper` the steps of the recipe's phases share `student_epochs` as those of its miniature do. Raises
        `KdlabError` for a size that is no setting of the recipe.
        """
        from ..recipes.common import phases

        settings = dict(recipe.PAPER if paper else recipe.MINIATURE)
        shares = {name: phase.get("steps", phase.get("epochs")) for name, phase in phases(recipe.MINIATURE).items()}
        epochs = self.student_epochs or (None if paper else EPOCHS)
        batch_size = self.batch_size or (None if paper else BATCH)
        for name, phase in phases(settings).items():
            changes = {"batch_size": batch_size, "learning_rate": self.student_learning_rate}
            phase = phase | {key: value for key, value in changes.items() if value}
            if epochs:
                share = shares[name] / sum(shares.values())
                phase["steps"] = max(1, math.ceil(epochs * share * rows / phase["batch_size"]))
            settings[name] = phase
        student = dict(settings["student"])
        for key in ("layers", "width"):
            if value := getattr(self, f"student_{key}"):
                self._refuse(key not in student, f"student-{key}", recipe)
                student[key] = value
        if self.student_width:
            student.pop("intermediate", None)       # four times the width, then
        settings["student"] = student
        if self.T:
            self._refuse("T" not in settings, "T", recipe)
            settings["T"] = self.T
        return settings

    def _refuse(self, wrong: bool, name: str, recipe: ModuleType) -> None:
        if wrong:
            raise KdlabError(f"{name} is no setting of the recipe {recipe.__name__.split('.')[-1]}; leave it out")

    def resolved(self, settings: dict[str, Any], paper: bool = False) -> Sizes:
        """These sizes with the recipe's own in place of None, where it has such a setting; for the report."""
        from ..recipes.common import phases

        *_, last = phases(settings).values()
        student = settings["student"]
        return replace(
            self, student_layers=student.get("layers"), student_width=student.get("width"), T=settings.get("T"),
            student_epochs=self.student_epochs or (None if paper else EPOCHS), batch_size=last["batch_size"],
            student_learning_rate=self.student_learning_rate or (last["learning_rate"] if paper else RATE))
