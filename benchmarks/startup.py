"""How long until one sees something: `import kdlab`, and lesson 00 from the start of its kernel to its first two
pictures, the truth about a text and what the teacher says of it.

    python benchmarks/startup.py [--json FILE]

Three times each, processes of their own; the median counts. The files are in the system's cache after the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    pictures = [pictures_seen(2) for _ in range(REPEATS)]
    times = {"import_kdlab_s": [import_kdlab() for _ in range(REPEATS)],
             "first_picture_s": [seen[0] for seen in pictures], "teachers_picture_s": [seen[1] for seen in pictures]}
    for name, values in times.items():
        print(f"{name:<20}{statistics.median(values):7.2f}   ({min(values):.2f} to {max(values):.2f})")
    if options.json:
        figures = {name: statistics.median(values) for name, values in times.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def import_kdlab() -> float:
    code = "import time; began = time.perf_counter(); import kdlab; print(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout)


def pictures_seen(count: int) -> list[float]:
    """Seconds from the start of a kernel until lesson 00 has shown its first pictures, `count` of them."""
    path = ROOT / "notebooks" / "00_start_here.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
    began, seen = time.perf_counter(), []
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            client.execute_cell(cell, number)
            if any("image/png" in output.get("data", {}) for output in cell.outputs):
                seen.append(time.perf_counter() - began)
                if len(seen) == count:
                    return seen
    raise SystemExit(f"lesson 00 shows no {count} pictures")


if __name__ == "__main__":
    main()
