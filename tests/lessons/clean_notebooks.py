"""For pre-commit: say which of the named notebooks hold widget state or an error's output; status 1 if any does."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def faults(path: Path) -> list[str]:
    """What is to be cleared in a notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = ["widget state"] if "widgets" in notebook["metadata"] else []
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return found + ["an error's output"] * any(output["output_type"] == "error" for output in outputs)


if __name__ == "__main__":
    said = [f"{path}: holds {fault}; clear it and save" for path in sys.argv[1:] for fault in faults(Path(path))]
    print("\n".join(said))
    sys.exit(bool(said))
