"""The setup check of lesson 00: what this machine has, what is wrong, and how to fix it."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..files import DATA

ROOT = DATA.parent
NEEDED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy", "pandas",
          "matplotlib", "ipywidgets", "jupyterlab")


@dataclass(frozen=True)
class Finding:
    ok: bool
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'[ok]  ' if self.ok else '[fix] '} {self.what}"
        return f"{line}\n       -> {self.remedy}" if self.remedy else line


def setup_report() -> list[Finding]:
    """Look at Python, the packages against the tested pins, the shipped files and the cores; print it."""
    findings = [_python(), *_packages(), _teacher(), _cores()]
    for finding in findings:
        print(finding)
    bad = sum(not finding.ok for finding in findings)
    print("\nAll set." if not bad else f"\n{bad} to fix: do what the arrows say, then restart the kernel.")
    return findings


def _python() -> Finding:
    ok = (3, 10) <= sys.version_info < (3, 14)
    return Finding(ok, f"Python {platform.python_version()}",
                   "" if ok else "make the environment with Python 3.10 to 3.13")


def _packages() -> list[Finding]:
    pins = _pins(ROOT / "requirements.txt")
    install = f"{Path(sys.executable).name} -m pip install -r requirements.txt"
    findings = []
    for name in NEEDED:
        try:
            version = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            findings.append(Finding(False, f"{name} is missing", f"run: {install}"))
            continue
        tested = pins.get(name, {version})
        close = version in tested or any(version.split(".")[0] == pin.split(".")[0] for pin in tested)
        note = "" if version in tested else f" (tested with {' or '.join(sorted(tested))})"
        findings.append(Finding(close, f"{name} {version}{note}", "" if close else f"run: {install}"))
    return findings


def _pins(path: Path) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    if path.is_file():
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.M):
            pins.setdefault(name.lower(), set()).add(version)
    return pins


def _teacher() -> Finding:
    folder = DATA / "restaurant-teacher"
    ok = (folder / "model.safetensors").is_file() and (folder / "config.json").is_file()
    return Finding(ok, f"the shipped teacher, data/{folder.name}",
                   "" if ok else "clone the repository again, or run: python -m kdlab teacher restaurant")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(True, f"{count} processor cores (2 are enough; no GPU is needed)")
