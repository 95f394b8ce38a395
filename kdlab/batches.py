"""From encoded rows to padded batches: which rows go together, in which order, and how they are padded.

Rows are kept as one flat array of token ids with offsets, so a batch is gathered by array indexing and
no Python runs per example. The order of an epoch is a function of (seed, epoch) alone: that is what
lets an interrupted run go on where it stopped, and a cached teacher row meet its own example.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .errors import KdlabError
from .trace import Batch

POOL = 64   # batches whose rows are sorted by length together: larger pads less and shuffles less


class Rows(TorchDataset):
    """Encoded rows (column input_ids, and label if present), gathered into batches by row number.

    A batch holds input_ids and attention_mask, (B, L) with L its longest row; row, (B,), the row
    numbers; and labels, (B,), if the data have them.
    """

    def __init__(self, dataset: Dataset, pad_id: int) -> None:
        if len(dataset) == 0:
            raise KdlabError("the split is empty; give at least one row")
        if "input_ids" not in dataset.column_names:
            raise KdlabError(f"the data have no column input_ids (only {', '.join(dataset.column_names)}); "
                             "encode them first, with kdlab.tasks.encode")
        table = dataset.with_format("arrow")[:]
        column = table["input_ids"].combine_chunks()
        self.tokens = column.flatten().to_numpy(zero_copy_only=False)
        self.lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.labels = table["label"].to_numpy() if "label" in dataset.column_names else None
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitems__(self, rows: list[int]) -> Batch:
        rows = np.asarray(rows)
        lengths = self.lengths[rows]
        place = np.arange(lengths.max())
        real = place < lengths[:, None]                                            # (B, L)
        at = np.where(real, self.starts[rows][:, None] + place, 0)
        batch = {"input_ids": torch.from_numpy(np.where(real, self.tokens[at], self.pad_id)).long(),
                 "attention_mask": torch.from_numpy(real).long(),
                 "row": torch.from_numpy(rows)}
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[rows]).long()
        return batch


class LengthBatches:
    """Batches of row numbers: shuffled, then sorted by length within pools, so that little is padding.

    Endless: epoch after epoch, each row once an epoch, beginning at batch number `start`.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, start: int = 0) -> None:
        self.lengths, self.batch_size, self.seed, self.start = lengths, batch_size, seed, start
        self.per_epoch = -(-len(lengths) // batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, skip = divmod(self.start, self.per_epoch)
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def epoch(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        pools = np.split(order, range(self.batch_size * POOL, len(order), self.batch_size * POOL))
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = np.split(order, range(self.batch_size, len(order), self.batch_size))
        return [batches[i].tolist() for i in rng.permutation(len(batches))]


def training_loader(rows: Rows, batch_size: int, seed: int, start: int = 0) -> DataLoader:
    """An endless loader of shuffled batches, from batch number `start` of the run."""
    order = LengthBatches(rows.lengths, batch_size, seed, start)
    # A generator of its own: a loader draws a number when it starts, and a resumed run starts another one.
    return DataLoader(rows, batch_sampler=order, collate_fn=_as_gathered, generator=torch.Generator())


def in_order(rows: Rows, batch_size: int = 256, some: np.ndarray | None = None) -> Iterator[Batch]:
    """Every row once, or those numbered `some`, longest first so that little is padding; `batch["row"]` says which is
    which."""
    some = np.arange(len(rows)) if some is None else some
    order = some[np.argsort(-rows.lengths[some], kind="stable")]
    for i in range(0, len(order), batch_size):
        yield rows.__getitems__(order[i:i + batch_size])


def padded_fraction(rows: Rows, batch_size: int, seed: int) -> float:
    """The part of the tokens in an epoch's batches that is padding."""
    lengths = [rows.lengths[batch] for batch in LengthBatches(rows.lengths, batch_size, seed).epoch(0)]
    return float(1 - rows.lengths.sum() / sum(x.max() * len(x) for x in lengths))


def _as_gathered(batch: Batch) -> Batch:
    return batch
