"""A wheel of the kit, installed outside the repository, has its lexicons, its teachers and its console script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import tomllib
from conftest import ROOT

USE = """
import kdlab
from kdlab import World, load_classifier
from kdlab.files import DATA
assert kdlab.__file__.startswith(FOLDER) and str(DATA).startswith(FOLDER), (kdlab.__file__, DATA)
print(World("clinic").texts(1)[0][0])
print(load_classifier("restaurant-teacher")[0].config.num_hidden_layers, "layers")
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_every_package_is_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "kdlab").rglob("__init__.py")}
    assert listed == there | {"kdlab.shipped"}


@pytest.mark.slow
def test_the_wheel_works_outside_the_repository(tmp_path):
    tree = shutil.copytree(ROOT, tmp_path / "tree", ignore=shutil.ignore_patterns(
        ".git", ".venv", "runs", "notebooks", "tests", "benchmarks", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(tree), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("kdlab-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", USE.replace("FOLDER", repr(str(tmp_path / "site")))], text=True,
                          capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0 and done.stdout.strip().endswith("4 layers"), done.stderr
    said = subprocess.run([str(tmp_path / "site" / "bin" / "kdlab"), "--help"], text=True, capture_output=True,
                          cwd=tmp_path, env=environment, check=False)
    assert said.returncode == 0 and "distill" in said.stdout, said.stderr
