"""Every lesson: runs top to bottom in a fresh kernel, keeps the lesson contract, and its exercises check."""

import ast
import importlib
import re
import time
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MINUTES = 2


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def solutions(path: Path) -> dict[str, str]:
    """Exercise number -> code of its folded solution."""
    text = "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells
                       if cell.cell_type == "markdown")
    numbers = re.findall(r"\*\*Exercise (\d+\.\d+)", text)
    codes = re.findall(r"<summary>Solution</summary>\s*```python\n(.*?)```", text, re.S)
    assert len(numbers) == len(codes), "each exercise needs a folded solution"
    return dict(zip(numbers, codes, strict=True))


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request) -> Path:
    return request.param


@pytest.mark.slow       # eight minutes for all; most lessons are also run by the browser tests
def test_runs_top_to_bottom_in_a_fresh_kernel(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=60 * MINUTES, resources={"metadata": {"path": str(lesson.parent)}},
                   store_widget_state=False).execute()
    seconds = time.perf_counter() - started
    print(f"{lesson.stem}: {seconds:.0f} s")
    for cell in notebook.cells:
        if cell.cell_type == "code" and "exercise" in cell.metadata.get("tags", []):
            said = "".join(o.data.get("text/plain", "") for o in cell.outputs if "data" in o)
            assert "not written yet" in said, "an unsolved exercise says so and stops nothing"


def test_every_solution_passes_and_every_stub_fails(lesson):
    from kdlab.lessons import EXERCISES, check

    found = solutions(lesson)
    assert {n for n in EXERCISES if n.split(".")[0] == str(int(lesson.stem[:2]))} == set(found)
    assert 2 <= len(found) <= 4
    for number, code in found.items():
        scope: dict = {}
        exec("import torch\n" + code, scope)
        (function,) = (value for name, value in scope.items() if callable(value) and f"def {name}(" in code)
        assert check(number, function).passed, number
    stubs = [cell.source for cell in cells(lesson, "code") if "exercise" in cell.metadata.get("tags", [])]
    assert len(stubs) == len(found)
    for stub in stubs:
        assert re.search(r"^    \.\.\.$", stub, re.M)
        number = re.search(r'check\("([\d.]+)"', stub).group(1)
        assert not check(number, lambda *_: None).passed


def test_lesson_contract(lesson):
    code, prose = (cells(lesson, kind) for kind in ("code", "markdown"))
    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    assert 2 <= lengths[len(lengths) // 2] <= 6, "median code cell"
    assert lengths[int(0.9 * len(lengths))] <= 20, "90% of code cells"
    assert max(len(line) for cell in code + prose for line in cell.source.splitlines()
               if not line.startswith("|")) <= 88 + 12, "line length"
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 88
    words = sum(len(cell.source.split()) for cell in prose)
    assert words > sum(len(cell.source.split()) for cell in code), "more prose than code"
    text = "\n".join(cell.source for cell in prose)
    first = prose[0].source
    for wanted in ("You will be able to", "You need", "Time", "No GPU"):
        assert wanted in first
    for wanted in ("Predict first", "## Recap", "## Quiz", "## Read on"):
        assert wanted in text
    assert re.search(r"\*\*Exercise \d+\.\d+ · .*?\*\* \((easy|medium|hard), \d+ minutes\)", text)


def test_what_a_lesson_imports_of_kdlab_is_there(lesson):
    """Most lessons are run by slow tests alone; a name that has changed is told sooner."""
    for cell in cells(lesson, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("kdlab"):
                for alias in node.names:
                    if not hasattr(importlib.import_module(node.module), alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def test_kdlab_comes_before_torch(lesson):
    """It tells torch's threads how to wait, and they are told once, when torch is loaded."""
    code = "\n".join(cell.source for cell in cells(lesson, "code"))
    first = {name: re.search(rf"^(?:import|from) {name}\b", code, re.M) for name in ("kdlab", "torch", "transformers")}
    assert all(first["kdlab"].start() < found.start() for name, found in first.items() if found and name != "kdlab")


def test_committed_as_a_page(lesson):
    """Outputs are there, widgets show a picture with alt text, and no widget state is stored."""
    notebook = nbformat.read(lesson, as_version=4)
    assert "widgets" not in notebook.metadata
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    views = 0
    for output in outputs:
        if "image/png" in output.get("data", {}):
            assert len(output.metadata["image/png"]["alt"]) > 40
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            views += 1
            assert "image/png" in output.data
        assert "\r" not in output.get("text", "")
    assert views >= 1, "a lesson has at least one widget"
    assert lesson.stat().st_size < 1_000_000
