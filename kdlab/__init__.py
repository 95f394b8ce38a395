"""kdlab: knowledge distillation of language models, taught by doing it.

Rooms, each importing only from those above it:

    losses      one function per equation
    corpus      the built-in worlds and their exact posterior (words in `lexicon`)
    tasks       texts and labels, encoded (files through `table`)
    models      teachers and students
    trace       one forward pass, captured
    batches     which rows go together (`masking` hides words in them)
    objectives  loss terms and their weighted sum
    measure     accuracy, fidelity, calibration, size, FLOPs, latency
    cache       teacher logits on disk
    distill     the loop (with `preflight`, `checkpoint`, `interrupt`)
    recipes     one file per paper
    plots       draw(axes, state)
    widgets     controls around plots
    check       exercise checks with hints

`import kdlab` is light; a name below is imported from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "KdlabError": "errors", "World": "corpus",
    "Task": "tasks", "builtin_task": "tasks", "file_task": "tasks",
    "new_classifier": "models", "load_classifier": "models", "save": "models",
    "Objective": "objectives", "SoftTargets": "objectives", "HardLabels": "objectives",
    "MaskedLM": "objectives", "Stage": "distill", "distill": "distill", "Run": "distill",
    "evaluate": "measure", "check": "check", "setup_report": "environment",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'kdlab' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
