"""What an entry of the teacher cache keeps, and how it is computed and written, part by part.

Of several processes, on one file system, each computes and writes its share.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import xxhash
from torch import Tensor
from transformers import PreTrainedModel

from ..data.batches import Rows, in_order
from ..engine import distributed
from ..engine.fast_path import fast_path
from ..engine.precision import autocast
from ..files import replaced_folder
from ..models.sparse import DistributionReading, sparse_targets
from ..models.tracing import Reading, places_of, trace_teacher

MANIFEST = "manifest.json"
KINDS = ("rows", "tokens", "places")                    # of Arrow files, by what a row of theirs is
ATTENTION = ("queries", "keys", "values")               # of tokens
SPARSE = ("classes", "weights", "entropy")              # of places
CHUNK_MIB = 64          # what is in memory at once while an entry is written,
ROWS_EACH = 256         # but at least so many rows
LOGITS_A_TOKEN = 16     # of a language model for each number of a hidden state, in what is computed at once


@dataclass(frozen=True)
class Kept:
    """What an entry keeps: columns by name; of a language model's distribution so many tokens, where it is read."""

    columns: tuple[str, ...]
    distribution: DistributionReading | None
    likeliest: int = 0
    drawn: int = 0

    def bytes(self, teacher: PreTrainedModel, rows: Rows) -> int:
        """What the entry will take: four bytes a number."""
        config = teacher.config
        inner = getattr(config, "true_hidden_size", config.hidden_size)
        width = {"hidden_states": config.hidden_size, "attention": len(ATTENTION) * inner}
        numbers = int(rows.lengths.sum()) * sum(width[column.split(".")[0]] for column in self.columns
                                                if column != "logits")
        if self.distribution:
            places = int(starts_of(rows, self.distribution.where)[-1])
            numbers += places * (2 * self.tokens(config.vocab_size) + 1)
        elif "logits" in self.columns:
            numbers += len(rows) * config.num_labels
        return 4 * numbers

    def tokens(self, vocabulary: int) -> int:
        """How many are kept at a place."""
        return vocabulary if self.likeliest >= vocabulary else self.likeliest + self.drawn

    def named(self) -> list[str]:
        """The columns in a reader's words."""
        if self.distribution is None:
            return list(self.columns)
        told = (f"{self.likeliest} + {self.drawn} tokens of the distributions at T = {self.distribution.T:g} of "
                f"{self.distribution.where}")
        return [told if name == "logits" else name for name in self.columns]


def starts_of(rows: Rows, where: str) -> np.ndarray:
    """Places are numbered row by row: the first number of each row, and the number of all, (rows + 1,)."""
    return rows.starts if where == "tokens" else rows.masked_starts


def numbers_of(starts: np.ndarray, rows: np.ndarray, kept: Tensor) -> np.ndarray:
    """The numbers of a batch's places, (B, L), of which `kept`, (B, L), is true at those that are numbered."""
    return starts[rows][:, None] + kept.cpu().numpy().cumsum(axis=1) - 1


def columns_of(teacher: PreTrainedModel, readings: Collection[Reading]) -> tuple[str, ...]:
    """The outputs to keep, by name: "logits", "hidden_states.3", "attention.3"."""
    layers = teacher.config.num_hidden_layers
    found = set()
    for output, layer in readings:
        every = range(1 if output == "attention" else 0, layers + 1) if layer is None else [layer]
        found |= {output} if output == "logits" else {f"{output}.{n}" for n in every}
    return tuple(sorted(found))


def fill(folder: Path, teacher: PreTrainedModel, rows: Rows, kept: Kept, precision: str) -> None:
    """Compute and write everything; the main process, which makes the folder and gives it its name, waits for all."""
    if not distributed.is_main():
        _fill_share(distributed.broadcast(None), teacher, rows, kept, precision)
        distributed.barrier()        # until its share is written,
        distributed.barrier()        # and until the folder has its name
        return
    with replaced_folder(folder) as unfinished:
        heads = _fill_share(distributed.broadcast(unfinished), teacher, rows, kept, precision)
        distributed.barrier()
        manifest = {"teacher": f"{type(teacher).__name__}, {teacher.config.num_hidden_layers} x "
                               f"{teacher.config.hidden_size}", "rows": len(rows), "columns": kept.named(),
                    "likeliest": kept.likeliest, **heads, "checksum": checksum(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest))
    distributed.barrier()


def _fill_share(folder: Path, teacher: PreTrainedModel, rows: Rows, kept: Kept, precision: str) -> dict[str, float]:
    """This process's rows, some at a time, so that no more than those are ever in memory; returns what it takes to read
    attention."""
    rows_each = max(ROWS_EACH, int(CHUNK_MIB * 2**20 * len(rows) / kept.bytes(teacher, rows)))
    own, scaling = np.array_split(np.arange(len(rows)), distributed.world_size())[distributed.rank()], 0.0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchWriter] = {}
        for first in range(0, len(own), rows_each):
            arrays, scaling = _computed(teacher, rows, own[first:first + rows_each], kept, precision)
            for kind, columns in arrays.items():
                batch = _record_batch(columns)
                if kind not in writers:
                    path = folder / f"{kind}-{distributed.rank():05}.arrow"
                    writers[kind] = stack.enter_context(pa.ipc.new_file(str(path), batch.schema))
                writers[kind].write_batch(batch)
    return {"heads": teacher.config.num_attention_heads, "scaling": scaling}


Arrays = dict[str, dict[str, np.ndarray]]       # columns by the kind of file (of `KINDS`) and by name


@torch.no_grad()
def _computed(teacher: PreTrainedModel, rows: Rows, some: np.ndarray, kept: Kept,
              precision: str) -> tuple[Arrays, float]:
    """The columns on the rows numbered `some`, consecutive, and the attention's scaling (0 where none is kept)."""
    arrays: Arrays = {}
    start, tokens, scaling = rows.starts[some[0]], int(rows.lengths[some].sum()), 0.0
    device = next(teacher.parameters()).device
    needs = {column.split(".")[0] for column in kept.columns}
    readings = {(output, int(layer[0]) if layer else None) for output, *layer in (c.split(".") for c in kept.columns)}
    body, distribution = fast_path(teacher, readings), kept.distribution
    width = teacher.config.hidden_size if distribution is None else max(teacher.config.hidden_size,
                                                                        teacher.config.vocab_size // LOGITS_A_TOKEN)
    for batch in in_order(rows, device, some, width):
        asked = {"places": places_of(distribution.where, batch)} if distribution else {}
        with autocast(device, precision):
            seen = trace_teacher(body, batch | asked, needs)
        numbers, real = batch["row"].cpu().numpy(), batch["attention_mask"].cpu().bool()
        places = numbers_of(rows.starts, numbers, real)[real.numpy()] - start
        for column in kept.columns:
            output, *layer = column.split(".")
            if asked and output == "logits":
                starts = starts_of(rows, distribution.where)
                first, last = starts[some[0]], starts[some[-1] + 1]
                at = numbers_of(starts, numbers, asked["places"])[asked["places"].cpu().numpy()]
                sparse = sparse_targets(seen.logits, distribution.T, torch.from_numpy(at).to(device), kept.likeliest,
                                        kept.drawn)
                for name in SPARSE:
                    _put(arrays, "places", name, last - first, at - first, getattr(sparse, name))
            elif output == "logits":
                _put(arrays, "rows", column, len(some), numbers - some[0], seen.logits)
            elif output == "hidden_states":
                _put(arrays, "tokens", column, tokens, places, seen.hidden_states[int(layer[0])].cpu()[real])
            else:
                attention = seen.attention[int(layer[0]) - 1]
                scaling = attention.scaling
                for name in ATTENTION:
                    states = getattr(attention, name).transpose(1, 2).flatten(2)        # (B, L, heads * head width)
                    _put(arrays, "tokens", f"{column}.{name}", tokens, places, states.cpu()[real])
    return arrays, scaling


def _put(arrays: Arrays, kind: str, name: str, length: int, places: np.ndarray, values: Tensor) -> None:
    values = (values.int() if name == "classes" else values.float()).cpu().numpy()
    columns = arrays.setdefault(kind, {})
    values = values[:, None] if values.ndim == 1 else values
    if name not in columns:
        columns[name] = np.empty((length, values.shape[1]), values.dtype)
    columns[name][places] = values


def _record_batch(arrays: dict[str, np.ndarray]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
                            for name, array in arrays.items()})


def checksum(folder: Path) -> str:
    """Against damage, not against an adversary, hence a hash that is as fast as the disk."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()
