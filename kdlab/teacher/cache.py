"""Teacher outputs on disk, so that a teacher reads each text once and not once an epoch.

One folder per (teacher, texts, what is kept): `<root>/<key>/` holds Arrow files with a row a text (a classifier's
logits), with a row a token (hidden states, queries, keys, values) and with a row a place where a language model's
logits are read (as `kdlab.models.sparse` has them), memory-mapped when read, and a manifest; `kdlab.teacher.filling`
writes them. The key is a hash of the teacher's weights and configuration, of every token and of the settings, so that
another teacher or another text never finds this folder; a folder whose content no longer matches its checksum is
computed again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.batches import CPU, Parts, Rows
from ..engine import distributed
from ..errors import KdlabError
from ..models.loading import fingerprint
from ..models.sparse import DRAWN, LIKELIEST, DistributionReading, SparseTargets
from ..models.tracing import OUTPUTS, Attention, Batch, Reading, Trace, places_of
from .filling import ATTENTION, KINDS, MANIFEST, SPARSE, Kept, checksum, columns_of, fill, numbers_of, starts_of

LIMIT = 4.0             # GiB of one folder of entries, unless another limit is given
SAMPLE = 4096           # places of which the mass is taken that the likeliest tokens hold


@dataclass(frozen=True)
class Entry:
    """One teacher's outputs on one set of texts, as `entries` finds them."""

    folder: Path
    teacher: str
    rows: int
    columns: tuple[str, ...]
    bytes: int
    used: float             # seconds since 1970


class TeacherCache:
    """A folder of entries that together take at most `limit` GiB; the longest unused make room for new ones.

    Of a language model's distribution it keeps the `likeliest` tokens and so many `drawn` from the others.
    """

    def __init__(self, root: str | Path, limit: float = LIMIT, likeliest: int = LIKELIEST, drawn: int = DRAWN) -> None:
        if limit <= 0:
            raise KdlabError(f"the cache's limit is {limit:g} GiB; give one above 0")
        if likeliest < 0 or drawn < 1:
            raise KdlabError(f"the cache is to keep the {likeliest} likeliest tokens and {drawn} drawn from the "
                             "others; give 0 or more, and 1 or more")
        self.root, self.limit, self.likeliest, self.drawn = Path(root), limit, likeliest, drawn

    def fits(self, teacher: PreTrainedModel, rows: Rows, readings: Collection[Reading],
             distribution: DistributionReading | None = None) -> bool:
        return self._kept(teacher, readings, distribution).bytes(teacher, rows) <= self.limit * 2**30

    def open(self, teacher: PreTrainedModel, rows: Rows, readings: Collection[Reading], precision: str = "no",
             distribution: DistributionReading | None = None) -> tuple[CachedTeacher, bool]:
        """A stand-in for the teacher on these rows, and whether it was found; if not, it is computed and stored.

        distribution: how the logits are read, where the teacher is a language model.
        """
        kept = self._kept(teacher, readings, distribution)
        key = sha256(f"{fingerprint(teacher)} {precision} {kept} {rows.fingerprint()}".encode())
        folder = self.root / key.hexdigest()[:32]
        found = distributed.broadcast(distributed.is_main() and _sound(folder))
        if not found:
            if distributed.is_main():
                self._make_room(kept.bytes(teacher, rows))
            fill(folder, teacher, rows, kept, precision)
        with suppress(OSError):     # a cache that may only be read serves all the same
            os.utime(folder / MANIFEST)
        return CachedTeacher(folder, rows, teacher.config.num_hidden_layers, distribution), found

    def _kept(self, teacher: PreTrainedModel, readings: Collection[Reading],
              distribution: DistributionReading | None) -> Kept:
        tokens = (self.likeliest, self.drawn) if distribution else (0, 0)
        return Kept(columns_of(teacher, readings), distribution, *tokens)

    def entries(self) -> list[Entry]:
        """What lies in the folder, the last used first; what is no entry of a cache is left out."""
        found = []
        for manifest in self.root.glob(f"*/{MANIFEST}"):
            try:
                told = json.loads(manifest.read_text())
                size = sum(path.stat().st_size for path in manifest.parent.iterdir())
                found.append(Entry(manifest.parent, told["teacher"], told["rows"], tuple(told["columns"]), size,
                                   manifest.stat().st_mtime))
            except (OSError, ValueError, KeyError, TypeError):      # half-made, foreign, or removed this moment
                continue
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> list[Entry]:
        """Remove every entry; returns them."""
        entries = self.entries()
        for entry in entries:
            shutil.rmtree(entry.folder, ignore_errors=True)
        return entries

    def _make_room(self, size: int) -> None:
        """Remove the longest unused entries until `size` bytes more stay within the limit. Whoever still has an entry
        mapped goes on reading it: its space is given back once they let go."""
        room = self.limit * 2**30 - size
        for entry in self.entries():
            room -= entry.bytes
            if room < 0:
                shutil.rmtree(entry.folder, ignore_errors=True)


class CachedTeacher:
    """Stands in for a teacher: looks up what it said of each row, by the row's number."""

    def __init__(self, folder: Path, rows: Rows, layers: int, distribution: DistributionReading | None = None) -> None:
        told = json.loads((folder / MANIFEST).read_text())
        self.rows, self.layers, self.heads, self.scaling = rows, layers, told["heads"], told["scaling"]
        self.of_rows, self.tokens, self.places = (_Columns(sorted(folder.glob(f"{kind}-*.arrow"))) for kind in KINDS)
        self.distribution = distribution
        if distribution:
            self.starts, self.likeliest = starts_of(rows, distribution.where), told["likeliest"]

    def kept_tokens(self) -> dict[str, float]:
        """What is kept of a language model's distributions, as fields of `TeacherUse`; of another teacher, nothing."""
        if not self.distribution:
            return {}
        count = self.starts[-1]
        some = self._sparse(np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64)))
        drawn = some.weights.shape[-1] - self.likeliest
        if drawn <= 0:
            return {"T": self.distribution.T}
        return {"likeliest": self.likeliest, "drawn": drawn, "T": self.distribution.T,
                "mass": some.weights[:, :self.likeliest].sum(dim=-1).mean().item()}

    def _sparse(self, places: np.ndarray, device: torch.device = CPU) -> SparseTargets:
        classes, weights, entropy = (self.places.take(name, places).to(device) for name in SPARSE)
        return SparseTargets(classes.long(), weights, entropy.squeeze(-1))

    def _logits(self, batch: Batch) -> Tensor | SparseTargets | None:
        rows = batch["row"].cpu().numpy()
        if self.distribution:     # those at batch["places"], which are all kept
            numbers = numbers_of(self.starts, rows, places_of(self.distribution.where, batch))
            return self._sparse(numbers[batch["places"].cpu().numpy()], batch["row"].device)
        return self.of_rows.take("logits", rows).to(batch["row"].device) if self.of_rows.names else None

    def __call__(self, batch: Batch, needs: Collection[str] = OUTPUTS) -> Trace:
        device, rows = batch["row"].device, batch["row"].cpu().numpy()
        logits = self._logits(batch) if "logits" in needs else None
        columns = [column for column in self.tokens.names if column.split(".")[0] in needs]
        if not columns:
            return Trace(logits=logits)
        real = places_of("tokens", batch).cpu().numpy()
        numbers = numbers_of(self.rows.starts, rows, batch["attention_mask"])[real]

        def padded(column: str) -> Tensor:            # (B, L, width), 0 in padding
            taken = self.tokens.take(column, numbers)
            out = taken.new_zeros(*real.shape, taken.shape[-1])
            out[torch.from_numpy(real)] = taken
            return out.to(device)

        states: list = [None] * (self.layers + 1)
        attention: list = [None] * self.layers
        for column in columns:
            output, layer, *part = column.split(".")
            if output == "hidden_states":
                states[int(layer)] = padded(column)
            elif part == ["queries"]:
                q, k, v = (padded(f"attention.{layer}.{name}").unflatten(2, (self.heads, -1)).transpose(1, 2)
                           for name in ATTENTION)
                attention[int(layer) - 1] = Attention(q, k, v, self.scaling)
        return Trace(logits, tuple(states), tuple(attention))


class _Columns:
    """Memory-mapped Arrow files, one after another, of columns of vectors."""

    def __init__(self, paths: Sequence[Path]) -> None:
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        self.names: list[str] = tables[0].column_names if tables else []
        self.columns = {name: Parts([chunk.flatten().to_numpy().reshape(-1, chunk.type.list_size) for table in tables
                                     for chunk in table.column(name).chunks]) for name in self.names}

    def take(self, name: str, places: np.ndarray) -> Tensor:
        """The rows (n, width) at these places (n,)."""
        return torch.from_numpy(self.columns[name].take(places))


def _sound(folder: Path) -> bool:
    """Whether the folder is whole: what is on disk is what was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["checksum"] == checksum(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False
