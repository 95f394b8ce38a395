"""Teacher outputs on disk, so that a teacher reads each text once and not once an epoch.

One folder per (teacher, texts): `<root>/<key>/` holds the logits as an Arrow data set, memory-mapped
when read, and a manifest with its checksum. The key is a hash of the teacher's weights and
configuration and of every token, so another teacher or another text never finds this folder; a folder
whose content no longer matches its checksum is computed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, List, Value, load_from_disk
from datasets.utils import logging
from torch import Tensor

from .batches import Rows
from .files import replaced_folder
from .models import fingerprint
from .trace import Batch, Trace

MANIFEST = "manifest.json"


class CachedTeacher:
    """Stands in for a teacher of which only the logits are read: looks each row up by its number."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits                        # (rows, C), memory-mapped

    def __call__(self, batch: Batch) -> Trace:
        rows = batch["row"].cpu().numpy()
        return Trace(logits=torch.from_numpy(self.logits[rows]).to(batch["row"].device))


def cached_teacher(teacher: torch.nn.Module, rows: Rows, root: str | Path,
                   compute: Callable[[], Tensor]) -> tuple[CachedTeacher, bool]:
    """The teacher's logits on `rows` from `root`, computed and stored there if they are not there yet.

    compute: returns the logits, (rows, C). Returns the stand-in and whether it was found on disk.
    """
    key = sha256(fingerprint(teacher).encode())
    key.update(np.ascontiguousarray(rows.tokens).tobytes())
    key.update(np.ascontiguousarray(rows.lengths).tobytes())
    folder = Path(root) / key.hexdigest()[:32]
    found = _sound(folder)
    if not found:
        _write(folder, compute().float().cpu().numpy())
    return CachedTeacher(_read(folder)), found


def _write(folder: Path, logits: np.ndarray) -> None:
    columns = Features({"logits": List(Value("float32"), length=logits.shape[1])})
    with replaced_folder(folder) as unfinished:
        with _no_bars():
            Dataset.from_dict({"logits": logits}, features=columns).save_to_disk(unfinished)
        manifest = {"rows": len(logits), "sha256": _checksum(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest))


def _read(folder: Path) -> np.ndarray:
    column = load_from_disk(str(folder)).data.column("logits").combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def _sound(folder: Path) -> bool:
    """Whether the folder is whole: what is on disk is what was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["sha256"] == _checksum(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checksum(folder: Path) -> str:
    digest = sha256()
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()


class _no_bars:
    def __enter__(self) -> None:
        self.bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *_) -> None:
        if self.bars:
            logging.enable_progress_bar()
