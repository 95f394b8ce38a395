"""Settings searched for with Optuna, on the validation split and on nothing else.

Needs the extra package of `pip install -e .[sweep]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from .compare import FOLDER, Bench, Method, default_student
from .errors import KdlabError
from .files import new_folder
from .tasks import Task

if TYPE_CHECKING:
    from optuna import Study, Trial

SEED = 99           # apart from those that are reported


def sweep(build: Callable[[Trial], Method], task: Task, teacher: PreTrainedModel, *, trials: int = 16,
          budget: int = 400, data: str | None = None, new_student: Callable[[int], PreTrainedModel] | None = None,
          folder: str | Path = FOLDER, **settings) -> Study:
    """Try settings of a method, `trials` times, each one run of `budget` steps; the study's `best_params` are the best.

    build: from a trial, which suggests values (`trial.suggest_float("weight", 0.1, 10, log=True)`), to a method, as in
    `kdlab.compare`. Students are scored on task["validation"] (`Task.with_validation` makes one); no other split's
    labels are looked at but those that are learnt from. The rest is as in `compare`: runs are kept in `folder` and not
    done twice, and the search is the same every time. Raises `KdlabError` where Optuna is missing, or there is
    no validation split.
    """
    if find_spec("optuna") is None:
        raise KdlabError("the search needs optuna, which this environment lacks; run pip install optuna")
    import optuna

    data = data or ("transfer" if "transfer" in task.splits else "train")
    task["validation"]      # refused here, before the first run
    bench = Bench(task, teacher, "validation", data, budget, Path(folder), settings,
                  new_student or partial(default_student, task))
    new_folder(bench.folder)
    score = "pearson" if task.is_regression else "accuracy"

    def objective(trial: Trial) -> float:
        method = build(trial)
        return bench.record("trial", method, SEED)["scores"][score]

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study
