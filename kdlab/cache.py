"""Teacher outputs on disk, so that a teacher reads each text once and not once an epoch.

One folder per (teacher, texts, what is kept): `<root>/<key>/` holds Arrow files with a row a text (logits) and with
a row a token (hidden states, queries, keys, values), memory-mapped when read, and a manifest. The key is a hash
of the teacher's weights and configuration, of every token and of the settings, so that another teacher or another text
never finds this folder; a folder whose content no longer matches its checksum is computed again. Of several processes
(on one file system) each computes and writes its share.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import xxhash
from transformers import PreTrainedModel

from . import processes
from .batches import Parts, Rows, in_order
from .errors import KdlabError
from .files import replaced_folder
from .models import fingerprint
from .precision import autocast
from .shortcut import shortcut
from .trace import Attention, Batch, Reading, Trace, trace_teacher

MANIFEST = "manifest.json"
LIMIT = 4.0             # GiB of one folder of entries, unless another limit is given
CHUNK_MIB = 64          # what is in memory at once while an entry is written,
ROWS_EACH = 256         # but at least so many rows
ATTENTION = ("queries", "keys", "values")


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
    """A folder of entries that together take at most `limit` GiB; the longest unused make room for new ones."""

    def __init__(self, root: str | Path, limit: float = LIMIT) -> None:
        if limit <= 0:
            raise KdlabError(f"the cache's limit is {limit:g} GiB; give one above 0")
        self.root, self.limit = Path(root), limit

    def fits(self, teacher: PreTrainedModel, rows: Rows, readings: Collection[Reading]) -> bool:
        return expected_bytes(teacher, rows, readings) <= self.limit * 2**30

    def open(self, teacher: PreTrainedModel, rows: Rows, readings: Collection[Reading],
             precision: str = "no") -> tuple[CachedTeacher, bool]:
        """A stand-in for the teacher on these rows, and whether it was found; if not, it is computed and stored."""
        columns = _columns(teacher, readings)
        key = sha256(f"{fingerprint(teacher)} {precision} {columns} {rows.fingerprint()}".encode())
        folder = self.root / key.hexdigest()[:32]
        found = processes.agreed(processes.is_main() and _sound(folder))
        if not found:
            size = expected_bytes(teacher, rows, readings)
            if processes.is_main():
                self._make_room(size)
            _fill(folder, teacher, rows, columns, precision, size)
        with suppress(OSError):     # a cache that may only be read serves all the same
            os.utime(folder / MANIFEST)
        return CachedTeacher(folder, rows, teacher.config.num_hidden_layers), found

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

    def __init__(self, folder: Path, rows: Rows, layers: int) -> None:
        told = json.loads((folder / MANIFEST).read_text())
        self.rows, self.layers, self.heads, self.scaling = rows, layers, told["heads"], told["scaling"]
        of_rows, of_tokens = (_Columns(sorted(folder.glob(f"{kind}-*.arrow"))) for kind in ("rows", "tokens"))
        self.logits = of_rows if of_rows.names else None
        self.tokens = of_tokens

    def __call__(self, batch: Batch) -> Trace:
        device, rows = batch["row"].device, batch["row"].cpu().numpy()
        logits = None if self.logits is None else self.logits.take("logits", rows).to(device)
        if not self.tokens.names:
            return Trace(logits=logits)
        real = batch["attention_mask"].cpu().numpy().astype(bool)
        places = (self.rows.starts[rows][:, None] + np.arange(real.shape[1]))[real]

        def padded(column: str) -> torch.Tensor:            # (B, L, width), 0 in padding
            taken = self.tokens.take(column, places)
            out = taken.new_zeros(*real.shape, taken.shape[-1])
            out[torch.from_numpy(real)] = taken
            return out.to(device)

        states: list = [None] * (self.layers + 1)
        attention: list = [None] * self.layers
        for column in self.tokens.names:
            output, layer, *part = column.split(".")
            if output == "hidden_states":
                states[int(layer)] = padded(column)
            elif part == ["queries"]:
                q, k, v = (padded(f"attention.{layer}.{name}").unflatten(2, (self.heads, -1)).transpose(1, 2)
                           for name in ATTENTION)
                attention[int(layer) - 1] = Attention(q, k, v, self.scaling)
        return Trace(logits, tuple(states), tuple(attention))


class _Columns:
    """Memory-mapped Arrow files, one after another, of equally wide columns of float32."""

    def __init__(self, paths: Sequence[Path]) -> None:
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        self.names: list[str] = tables[0].column_names if tables else []
        self.columns = {name: Parts([chunk.flatten().to_numpy().reshape(len(chunk), -1) for table in tables
                                     for chunk in table.column(name).chunks]) for name in self.names}

    def take(self, name: str, places: np.ndarray) -> torch.Tensor:
        """The rows (n, width) at these places (n,)."""
        return torch.from_numpy(self.columns[name].take(places))


def expected_bytes(teacher: PreTrainedModel, rows: Rows, readings: Collection[Reading]) -> int:
    """What an entry will take: four bytes a number."""
    config = teacher.config
    inner = getattr(config, "true_hidden_size", config.hidden_size)
    width = {"hidden_states": config.hidden_size, "attention": len(ATTENTION) * inner}
    columns = _columns(teacher, readings)
    of_tokens = sum(width[column.split(".")[0]] for column in columns if column != "logits")
    of_rows = getattr(config, "num_labels", 0) if "logits" in columns else 0
    return 4 * (len(rows) * of_rows + int(rows.lengths.sum()) * of_tokens)


def _columns(teacher: PreTrainedModel, readings: Collection[Reading]) -> tuple[str, ...]:
    """The outputs to keep, by name: "logits", "hidden_states.3", "attention.3"."""
    layers = teacher.config.num_hidden_layers
    found = set()
    for output, layer in readings:
        every = range(1 if output == "attention" else 0, layers + 1) if layer is None else [layer]
        found |= {output} if output == "logits" else {f"{output}.{n}" for n in every}
    return tuple(sorted(found))


def _fill(folder: Path, teacher: PreTrainedModel, rows: Rows, columns: Sequence[str], precision: str,
          size: int) -> None:
    """Compute and write everything; the main process, which makes the folder and gives it its name, waits for all."""
    if not processes.is_main():
        _fill_share(processes.agreed(None), teacher, rows, columns, precision, size)
        processes.wait_for_all()        # until its share is written,
        processes.wait_for_all()        # and until the folder has its name
        return
    with replaced_folder(folder) as unfinished:
        heads = _fill_share(processes.agreed(unfinished), teacher, rows, columns, precision, size)
        processes.wait_for_all()
        manifest = {"teacher": f"{type(teacher).__name__}, {teacher.config.num_hidden_layers} x "
                               f"{teacher.config.hidden_size}", "rows": len(rows), "columns": list(columns),
                    **heads, "checksum": _checksum(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest))
    processes.wait_for_all()


def _fill_share(folder: Path, teacher: PreTrainedModel, rows: Rows, columns: Sequence[str], precision: str,
                size: int) -> dict[str, float]:
    """This process's rows, some at a time, so that no more than those are ever in memory; returns what it takes to read
    attention."""
    rows_each = max(ROWS_EACH, int(CHUNK_MIB * 2**20 * len(rows) / size))
    own, scaling = np.array_split(np.arange(len(rows)), processes.count())[processes.number()], 0.0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchWriter] = {}
        for first in range(0, len(own), rows_each):
            arrays, scaling = _computed(teacher, rows, own[first:first + rows_each], columns, precision)
            for kind in {"rows" if name == "logits" else "tokens" for name in arrays}:
                batch = _record_batch({name: array for name, array in arrays.items()
                                       if (name == "logits") == (kind == "rows")})
                if kind not in writers:
                    path = folder / f"{kind}-{processes.number():05}.arrow"
                    writers[kind] = stack.enter_context(pa.ipc.new_file(str(path), batch.schema))
                writers[kind].write_batch(batch)
    return {"heads": teacher.config.num_attention_heads, "scaling": scaling}


@torch.no_grad()
def _computed(teacher: PreTrainedModel, rows: Rows, some: np.ndarray, columns: Sequence[str],
              precision: str) -> tuple[dict[str, np.ndarray], float]:
    """The columns on the rows numbered `some`, consecutive, and the attention's scaling (0 where none is kept)."""
    arrays: dict[str, np.ndarray] = {}
    start, tokens, scaling = rows.starts[some[0]], int(rows.lengths[some].sum()), 0.0
    device = next(teacher.parameters()).device
    needs = {column.split(".")[0] for column in columns}
    readings = {(output, int(layer[0]) if layer else None) for output, *layer in (c.split(".") for c in columns)}
    body = shortcut(teacher, readings)
    for batch in in_order(rows, device, some, teacher.config.hidden_size):
        with autocast(device, precision):
            seen = trace_teacher(body, batch, needs)
        numbers, real = batch["row"].cpu().numpy(), batch["attention_mask"].cpu().bool()
        places = (rows.starts[numbers][:, None] + np.arange(real.shape[1]))[real.numpy()] - start
        for column in columns:
            output, *layer = column.split(".")
            if output == "logits":
                _put(arrays, column, len(some), numbers - some[0], seen.logits)
            elif output == "hidden_states":
                _put(arrays, column, tokens, places, seen.hidden_states[int(layer[0])].cpu()[real])
            else:
                attention = seen.attention[int(layer[0]) - 1]
                scaling = attention.scaling
                for name in ATTENTION:
                    states = getattr(attention, name).transpose(1, 2).flatten(2)        # (B, L, heads * head width)
                    _put(arrays, f"{column}.{name}", tokens, places, states.cpu()[real])
    return arrays, scaling


def _put(arrays: dict[str, np.ndarray], name: str, length: int, places: np.ndarray, values: torch.Tensor) -> None:
    values = values.float().cpu().numpy()
    if name not in arrays:
        arrays[name] = np.empty((length, values.shape[1]), np.float32)
    arrays[name][places] = values


def _record_batch(arrays: dict[str, np.ndarray]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
                            for name, array in arrays.items()})


def _sound(folder: Path) -> bool:
    """Whether the folder is whole: what is on disk is what was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["checksum"] == _checksum(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checksum(folder: Path) -> str:
    """Against damage, not against an adversary, hence a hash that is as fast as the disk."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()
