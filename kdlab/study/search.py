"""Settings searched for with Optuna, on the validation split and on nothing else.

Needs the extra package of `pip install -e .[sweep]`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from ..data.tasks import Task
from ..errors import require
from .comparison import FOLDER, Bench, Method
from .metrics import headline

if TYPE_CHECKING:
    from optuna import Study, Trial

SEED = 99           # apart from those that are reported


def sweep(build: Callable[[Trial], Method], task: Task, teacher: PreTrainedModel, *, trials: int = 16,
          budget: int = 400, learn_from: str | None = None, new_student: Callable[[int], PreTrainedModel] | None = None,
          folder: str | Path = FOLDER, **settings) -> Study:
    """Try settings of a method, `trials` times, each one run of `budget` steps; the study's `best_params` are the best.

    build: from a trial, which suggests values (`trial.suggest_float("weight", 0.1, 10, log=True)`), to a method, as in
    `kdlab.study.comparison`. Students are scored on task["validation"] (`Task.with_validation` makes one); no other
    split's
    labels are looked at but those that are learnt from. The rest is as in `compare`: runs are kept in `folder` and not
    done twice, and the search is the same every time. Raises `KdlabError` where Optuna is missing, or there is
    no validation split.
    """
    require("the search", "optuna")
    import optuna

    bench = Bench.of(task, teacher, "validation", learn_from, budget, folder, settings, new_student)

    def objective(trial: Trial) -> float:
        scores = bench.record("trial", build(trial), SEED)["scores"]
        return scores[headline(scores)]

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study
