"""What an experiment builds and how long it trains: the defaults of `kdlab.study.experiment` and its command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..errors import KdlabError


def _setting(default: float, meaning: str):
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Sizes:
    """The defaults fit 67,000 short texts into 15 minutes on two cores.

    Raises `KdlabError` for a number that is not above 0.
    """

    teacher_layers: int = _setting(3, "layers of the teacher")
    teacher_width: int = _setting(192, "width of the teacher")
    student_layers: int = _setting(2, "layers of the student")
    student_width: int = _setting(64, "width of the student")
    teacher_epochs: float = _setting(2.0, "passes over the training file")
    student_epochs: float = _setting(2.0, "passes over the training file, with and without teacher")
    batch_size: int = _setting(64, "texts a step")
    teacher_learning_rate: float = _setting(5e-4, "peak of the warm-up")
    student_learning_rate: float = _setting(1e-3, "peak of the warm-up, with and without teacher")
    T: float = _setting(2.0, "temperature of the soft targets")
    seeds: int = _setting(3, "students of each kind, for the spread")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not value > 0:
                raise KdlabError(f"{setting.name.replace('_', '-')} is {value} ({setting.metadata['help']}); give a "
                                 "number above 0")
