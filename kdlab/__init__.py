"""kdlab: knowledge distillation of language models, taught by doing it.

The house, in the order of its arrows: each entry imports only from those above it.

    errors     what a user can mend, in one sentence
    files      where the kit's own files lie; writing whole or not at all
    losses     one pure function per equation
    worlds     lexicon, grammar, corpus: text whose truth is known
    models     build, load, architectures, layer-drop, layer maps, one traced pass
    data       tasks, tables, batches, masking, augmentation
    terms      a loss with what it reads, and the weighted sum of several
    engine     what the loop leans on: stages and runs, preflight, callbacks, distributed, precision, the fast path
    teacher    where the teacher's outputs come from: live, or the cache
    loop       THE loop
    recipes    one file a paper
    plots      draw(axes, state)
    study      metrics, comparison, report, search, experiment, export
    widgets    controls around plots
    lessons    exercise checks with hints, the set-up check
    cli        `python -m kdlab`, and the console script `kdlab`

`from kdlab import distill, load_classifier, ...`: the names in `PUBLIC` are loaded when they are first asked for, so
that `import kdlab` costs nothing (PEP 562).
"""

import os
from importlib import import_module

# Torch's threads on Linux wait for one another by spinning, for a millisecond or so. Beside a second such process (two
# open lessons) one that has lost its core keeps the rest spinning: what took 29 seconds with this shorter spin was not
# done after 60 without it. On an idle machine it costs 6 to 9%. It has to be said before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")

__version__ = "0.2.0"

PUBLIC = {      # name -> where it lives; a name that is its own place is a module
    "World": "worlds.corpus", "LABEL_NAMES": "worlds.corpus",
    "Task": "data.tasks", "builtin_task": "data.tasks", "file_task": "data.tasks", "hub_task": "data.tasks",
    "encode_texts": "data.tasks", "Augmenter": "data.augmentation", "Masking": "data.masking",
    "load_classifier": "models", "load_masked_lm": "models", "load_student": "models", "new_classifier": "models",
    "new_masked_lm": "models", "save": "models", "layer_drop": "models.layer_dropping", "trace": "models.tracing",
    "AttentionScores": "terms", "Custom": "terms", "HardLabels": "terms", "HiddenStates": "terms", "MaskedLM": "terms",
    "Objective": "terms", "SoftTargets": "terms", "Term": "terms",
    "QUIET": "engine.run", "Run": "engine.run", "Runtime": "engine.run", "Stage": "engine.run",
    "Checkpoint": "engine.checkpoint", "Probes": "engine.callbacks", "Tracker": "engine.callbacks",
    "distill": "loop", "compare": "study.comparison", "sweep": "study.search", "evaluate": "study.metrics",
    "predict": "engine.prediction", "export": "study.onnx_export", "check": "lessons", "setup_report": "lessons.setup",
    "KdlabError": "errors",
    "layer_map": "models.layer_map", "losses": "losses", "metrics": "study.metrics", "plots": "plots",
    "recipes": "recipes", "widgets": "widgets",
}
__all__ = [*PUBLIC]


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module 'kdlab' has no attribute '{name}'")
    module = import_module(f".{PUBLIC[name]}", __name__)
    value = module if PUBLIC[name].split(".")[-1] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
