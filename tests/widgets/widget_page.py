"""Notebooks with one widget of each kind over built-in models: for the browser tests and `benchmarks/widgets.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from conftest import ROOT

SETUP = f"ROOT = {str(ROOT)!r}\n" + """
import sys
sys.path.insert(0, ROOT)
import torch
from kdlab.worlds.corpus import World
from kdlab.loop import distill
from kdlab.study.metrics import predict
from kdlab.models import load_classifier, load_masked_lm, new_classifier
from kdlab.plots import Contender
from kdlab.recipes.soft_targets import with_teacher
from kdlab.data.tasks import builtin_task
from kdlab import QUIET, Probes
from kdlab.widgets import *

world = World("restaurant")
bert, tokenizer = load_masked_lm("restaurant-bert")
teacher, _ = load_classifier("restaurant-teacher")
task = builtin_task("restaurant", labelled=200, unlabelled=400)
student = new_classifier(tokenizer, task.label_names, layers=2, width=64, heads=4)
texts = world.texts(8, seed=3)[0]
run = distill(student, teacher, task["transfer"], with_teacher(61),
              callbacks=[Probes(task.encode(texts))], runtime=QUIET)
contenders = [Contender(student=s, method=m, scores={"accuracy": (0.4 + i / 50, 0.41 + i / 50)},
                        costs={"parameters": 1e5 * (i + 1)})
              for i, (s, m) in enumerate([(s, m) for s in ("l1", "l2", "l3") for m in ("labels", "soft", "recipe")])]
"""


@dataclass(frozen=True)
class OnPage:
    """A widget on a page. code: makes it; alt: how its picture's description begins; control: role and place of
    what is pressed; keys: there and back again; back: after how many presses the other key's turn comes. In a menu a
    letter chooses the next entry that begins with it; arrows are JupyterLab's, unless Alt+ArrowDown opens the menu."""

    code: str
    alt: str
    control: tuple[str, int]
    keys: tuple[str, str] = ("ArrowRight", "ArrowLeft")
    back: int = 25


WIDGETS = {
    "temperature": OnPage("TemperatureExplorer(teacher, student, tokenizer, texts, world)",
                          "Bar chart at temperature", ("slider", -1)),
    "watch": OnPage("WatchItLearn(run, texts, task.label_names, predict(teacher, task.encode(texts)), "
                    "world.posteriors(texts))", "Bar chart after step", ("slider", -1)),
    "layer_map": OnPage("LayerMapBuilder(student, bert, tokenizer, texts)", "A layer map", ("combobox", 2),
                        ("l", "l")),
    "attention": OnPage("AttentionSideBySide(bert, student, tokenizer, texts)", "Three maps of attention",
                        ("slider", -1), back=3),
    "builder": OnPage("BottleneckBuilder('BERT-base')", "Three charts of size", ("slider", 1), ("ArrowLeft",
                      "ArrowRight"), 10),
    "which_one": OnPage("WhichOne(contenders)", "Scatter of accuracy", ("combobox", 2), ("l", "l")),
    "direction": OnPage("KLDirection()", "A bump fitted to two", ("slider", 0), ("ArrowLeft", "ArrowRight")),
}
LIVE = OnPage("live = LiveRun(student, teacher, task['transfer'], with_teacher(100_000), tokenizer=tokenizer, "
              "texts=texts, world=world)\nlive", "Bar chart after step 0 of", ("button", 0))


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook of code cells, ready to be run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
                                        metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
