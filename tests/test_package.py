"""The house itself: arrows point one way, and importing the package costs nothing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

from conftest import ROOT

import kdlab

ENTRIES = re.findall(r"^    (\w+) +\S", kdlab.__doc__, re.M)


def entry_of(path) -> str:
    return path.relative_to(ROOT / "kdlab").with_suffix("").parts[0]


def imports(path):
    """Entries that a module imports; function bodies count too."""
    package = path.relative_to(ROOT / "kdlab").parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - node.level + 1]
            parts = [*base, *(node.module.split(".") if node.module else [])]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]


def test_every_module_is_on_the_map_and_imports_only_from_above():
    files = [path for path in (ROOT / "kdlab").rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert {entry_of(path) for path in files} == set(ENTRIES)
    for path in files:
        for other in imports(path):
            assert ENTRIES.index(other) <= ENTRIES.index(entry_of(path)), f"{path.name} imports {other} from below"


def test_each_of_the_peers_fourteen_defects_has_a_test_that_names_it():
    text = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {int(n) for n in re.findall(r"def test_peer_defect_(\d+)_", text)} == set(range(1, 15))


def test_no_module_has_outgrown_one_sitting():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "kdlab").rglob("*.py")}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)


def test_importing_kdlab_alone_loads_nothing_heavy():
    code = ("import sys; before = set(sys.modules); import kdlab; new = set(sys.modules) - before; "
            "print(len(new), *sorted({m.split('.')[0] for m in new}))")
    count, *names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                                   cwd=ROOT).stdout.split()
    assert names == ["kdlab"] and int(count) == 1


def test_torchs_threads_are_told_not_to_spin_for_long_unless_the_user_says_otherwise():
    """Two processes side by side took more than a minute for what takes them half of that with a shorter spin."""
    code = "import os, kdlab; print(os.environ.get('GOMP_SPINCOUNT'))"
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for given, kept in (({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")):
        env = {k: v for k, v in os.environ.items() if k not in ours} | given
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT,
                              env=env).stdout
        assert said.strip() == kept
