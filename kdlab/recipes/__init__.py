"""Recipes: one file a paper, in the paper's own order, with the paper's own settings and those of the miniature.

Each file has `PAPER` and `MINIATURE`, dictionaries of settings; the objective; `stages(...)`; and two functions that
all recipes call alike:

    student_for(task, teacher, pretrained, settings, seed) -> student      the model that the recipe starts with
    recipe(task, teacher, pretrained, settings, seed, student, say, **options) -> (student, Run)

`recipe` runs the paper from end to end. task: encoded splits; teacher: the fine-tuned classifier; pretrained: the
pretrained teacher with its language head; student: another one than `student_for`'s; say: who is told what is left
out; `options` go to `distill`. The student is a classifier, unless the run was interrupted before it became one.

To add a paper is one new file and one line here.
"""

from importlib import import_module
from types import ModuleType

RECIPES = {      # name on the command line -> its file; nothing is loaded until a recipe is asked for
    "soft-targets": "soft_targets",
    "distilbert": "distilbert",
    "tinybert": "tinybert",
    "mobilebert": "mobilebert",
    "minilmv2": "minilmv2",
}
__all__ = ["RECIPES", "named", "teacher", *RECIPES.values()]


def named(name: str) -> ModuleType:
    """The recipe of this name. Raises `KdlabError` for one that is not there."""
    from ..errors import KdlabError

    if name not in RECIPES:
        raise KdlabError(f"there is no recipe '{name}'; take one of {', '.join(RECIPES)}")
    return import_module(f".{RECIPES[name]}", __name__)


def __getattr__(name: str) -> ModuleType:
    if name not in (*RECIPES.values(), "teacher"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_module(f".{name}", __name__)
