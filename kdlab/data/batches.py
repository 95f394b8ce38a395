"""From encoded rows to padded batches: which rows go together, in which order, and how they are padded.

Rows stay where their data set has them, on disk if it is mapped from there; a batch is gathered by array indexing and
no Python runs per example. The order of an epoch is a function of (seed, epoch) alone: that is what lets an interrupted
run go on where it stopped, a cached teacher row meet its own example, and several processes share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from ..errors import KdlabError
from ..losses import IGNORED
from ..models.tracing import Batch

POOL = 64               # batches whose rows are sorted by length together: larger pads less and shuffles less
ON_CPU, ON_GPU = 2**19, 2**26       # numbers of a hidden state at once: more outgrow a CPU's cache, fewer idle a GPU
IN_MEMORY = 2**26       # bytes of tokens up to which scattered chunks are joined in memory: one is gathered faster

CPU = torch.device("cpu")


class Parts:
    """One long array in several parts, such as the chunks of a memory-mapped table; entries are gathered by place."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *map(len, self.parts)])

    def take(self, places: np.ndarray) -> np.ndarray:
        """The entries (n, ...) at these places (n,)."""
        if len(self.parts) == 1:
            return self.parts[0][places]
        first = self.parts[0]
        out = np.empty((len(places), *first.shape[1:]), first.dtype)
        part_of = np.searchsorted(self.starts, places, side="right") - 1
        for i in np.unique(part_of):
            here = part_of == i
            out[here] = self.parts[i][places[here] - self.starts[i]]
        return out


class Rows:
    """Encoded rows (column input_ids; token_type_ids, mlm_labels and label if present), gathered into batches by row
    number.

    A batch holds input_ids and attention_mask, (B, L) with L its longest row; row, (B,), the row numbers; and if the
    data have them token_type_ids, (B, L), mlm_labels, (B, L), of texts whose words are masked already
    (`kdlab.data.masking.mask_once`), and labels, (B,): whole numbers for classes, else float32.
    """

    def __init__(self, dataset: Dataset, pad_id: int) -> None:
        if len(dataset) == 0:
            raise KdlabError("the split is empty; give at least one row")
        if "input_ids" not in dataset.column_names:
            raise KdlabError(f"the data have no column input_ids (only {', '.join(dataset.column_names)}); "
                             "encode them first, with kdlab.data.tasks.encode")
        table = dataset.with_format("arrow")[:]
        self.tokens, self.lengths = _flat(table["input_ids"])
        self.types = _flat(table["token_type_ids"])[0] if "token_type_ids" in table.column_names else None
        self.mlm_labels = self._labels_of_tokens(table) if "mlm_labels" in table.column_names else None
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])       # of each row's tokens, and the number of all
        self.labels = table["label"].to_numpy() if "label" in table.column_names else None
        self.pad_id = pad_id

    def _labels_of_tokens(self, table: pa.Table) -> Parts:
        labels, lengths = _flat(table["mlm_labels"])
        if (wrong := lengths != self.lengths).any():
            row = int(wrong.argmax())
            raise KdlabError(f"row {row} has {self.lengths[row]} tokens and {lengths[row]} mlm_labels; give each token "
                             f"one, {IGNORED} where it is not masked (kdlab.data.masking.mask_once makes them)")
        return labels

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, numbers: Sequence[int] | np.ndarray) -> Batch:
        """The rows of these numbers, padded to the longest of them."""
        numbers = np.asarray(numbers)
        lengths = self.lengths[numbers]
        place = np.arange(lengths.max())
        real = place < lengths[:, None]                                            # (B, L)
        at = (self.starts[numbers][:, None] + place)[real]

        def padded(values: Parts, fill: int) -> torch.Tensor:
            out = np.full(real.shape, fill, np.int64)
            out[real] = values.take(at)
            return torch.from_numpy(out)

        batch = {"input_ids": padded(self.tokens, self.pad_id), "attention_mask": torch.from_numpy(real).long(),
                 "row": torch.from_numpy(numbers)}
        if self.types is not None:
            batch["token_type_ids"] = padded(self.types, 0)
        if self.mlm_labels is not None:
            batch["mlm_labels"] = padded(self.mlm_labels, IGNORED)
        if self.labels is not None:
            labels = torch.from_numpy(self.labels[numbers])
            batch["labels"] = labels.float() if labels.is_floating_point() else labels.long()
        return batch

    @cached_property
    def masked_starts(self) -> np.ndarray:
        """Of the masked words of all rows, one after another: where each row's begin, and their number, (rows + 1,)."""
        counts = np.zeros(len(self), np.int64)
        for part, start in zip(self.mlm_labels.parts, self.mlm_labels.starts, strict=False):
            places = start + np.flatnonzero(part != IGNORED)
            counts += np.bincount(np.searchsorted(self.starts, places, side="right") - 1, minlength=len(self))
        return np.concatenate([[0], np.cumsum(counts)])

    def fingerprint(self) -> str:
        """A hash of what a model reads of these rows: of every token and of what is masked, not of labels."""
        digest = sha256(np.ascontiguousarray(self.lengths))
        for values in (self.tokens, self.types, self.mlm_labels):
            for part in values.parts if values else ():
                digest.update(np.ascontiguousarray(part))
        return digest.hexdigest()


def _flat(column: pa.ChunkedArray) -> tuple[Parts, np.ndarray]:
    """All entries of a column of lists one after another, and the lists' lengths."""
    chunks = [column.combine_chunks()] if column.nbytes <= IN_MEMORY else column.chunks
    lengths = np.concatenate([chunk.value_lengths().to_numpy(zero_copy_only=False) for chunk in chunks])
    return Parts([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]), lengths.astype(np.int64)


class LengthBatches:
    """Batches of row numbers: shuffled, then sorted by length within pools, so that little is padding.

    Endless: epoch after epoch, each row once an epoch, beginning at batch number `start`.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, start: int = 0) -> None:
        self.lengths, self.batch_size, self.seed, self.start = lengths, batch_size, seed, start
        self.per_epoch = -(-len(lengths) // batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        epoch, skip = divmod(self.start, self.per_epoch)
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def epoch(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        pools = np.split(order, range(self.batch_size * POOL, len(order), self.batch_size * POOL))
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = np.split(order, range(self.batch_size, len(order), self.batch_size))
        return [batches[i] for i in rng.permutation(len(batches))]


def shuffled(rows: Rows, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
    """Shuffled batches without end, from batch number `start` of the run."""
    for numbers in LengthBatches(rows.lengths, batch_size, seed, start):
        yield rows.batch(numbers)


def training_batches(rows: Rows, batch_size: int, seed: int, start: int = 0, slices: Iterable[int] = (0,),
                     of: int = 1) -> Iterator[list[tuple[float, Batch]]]:
    """The same for several processes, or for a batch that is too large for one.

    Each batch is cut into `of` slices, and those numbered `slices` are given, as pairs of a slice's part of the batch
    (the parts of all slices sum to 1) and the slice. Where a batch has fewer rows than slices, what is left over is a
    row that counts nothing, so that everybody has something to compute.
    """
    for numbers in LengthBatches(rows.lengths, batch_size, seed, start):
        cut = [numbers[i::of] for i in slices]
        yield [(len(own) / len(numbers), rows.batch(own if len(own) else numbers[:1])) for own in cut]


def in_order(rows: Rows, device: torch.device = CPU, some: np.ndarray | None = None,
             width: int = 512) -> Iterator[Batch]:
    """Every row once, or those numbered `some`, longest first so that little is padding; `batch["row"]` says which is
    which. A batch has as many rows as the device computes best at once of a model of this width."""
    some = np.arange(len(rows)) if some is None else some
    order = some[np.argsort(-rows.lengths[some], kind="stable")]
    tokens = (ON_CPU if device.type == "cpu" else ON_GPU) // width
    while len(order):
        count = max(1, tokens // rows.lengths[order[0]])
        yield {name: values.to(device) for name, values in rows.batch(order[:count]).items()}
        order = order[count:]


def typical_batch(rows: Rows, batch_size: int, seed: int) -> np.ndarray:
    """The row numbers of the first epoch's batch of median length."""
    by_length = sorted(LengthBatches(rows.lengths, batch_size, seed).epoch(0), key=lambda one: rows.lengths[one].max())
    return by_length[len(by_length) // 2]


def padded_fraction(rows: Rows, batch_size: int, seed: int) -> float:
    """The part of the tokens in an epoch's batches that is padding."""
    lengths = [rows.lengths[batch] for batch in LengthBatches(rows.lengths, batch_size, seed).epoch(0)]
    return float(1 - rows.lengths.sum() / sum(x.max() * len(x) for x in lengths))
