"""Tasks: texts with labels, from the built-in worlds, from files or from the Hub, encoded for a tokenizer.

A split is a `datasets.Dataset` with the columns text, input_ids, label (0..C-1, unless it is a transfer set; a number
where the task is a regression), pair and token_type_ids (tasks on pairs of texts only) and truth (the exact posterior,
built-in worlds only).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import KdlabError
from ..worlds.corpus import LABEL_NAMES, World
from .encoding import ENCODED, cut_at, encode, encode_texts, lengths_of, share_cut
from .labels import Tables, class_labels, label_names_of, numbers
from .tables import Columns, read_dataset, read_table
from .wordpiece import SPECIAL_TOKENS, train_tokenizer, world_tokenizer

__all__ = ["REGRESSION", "SPECIAL_TOKENS", "Task", "builtin_task", "encode", "encode_texts", "file_task", "hub_task",
           "label_names_of", "train_tokenizer", "world_tokenizer"]

VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002    # apart from any seed a lesson would choose
HELD_OUT = 2_000                                     # texts in each of the two
LENGTH = 64                                          # tokens at which texts are cut where no model says otherwise
REGRESSION = ("score",)                              # the name of a regression's one output


@dataclass
class Task:
    """Encoded splits with what is needed to read them.

    splits: by name; built-in tasks have train, transfer (unlabelled), validation and test; tasks
    from files or the Hub have train and test, and `with_validation` gives them a third. label_names: of a regression
    its one output's, ("score",). limit: tokens at which texts were cut; the tokenizer's own length is lower where no
    text is as long.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    label_names: tuple[str, ...]
    splits: dict[str, Dataset] = field(default_factory=dict)
    limit: int | None = None

    def __getitem__(self, split: str) -> Dataset:
        if split not in self.splits:
            raise KdlabError(f"the task '{self.name}' has no split '{split}'; "
                             f"it has {', '.join(self.splits)}")
        return self.splits[split]

    @property
    def is_regression(self) -> bool:
        return len(self.label_names) == 1

    @property
    def is_on_pairs(self) -> bool:
        return "pair" in self["train"].column_names

    def encode(self, texts: Iterable[str]) -> Dataset:
        """Texts of your own, encoded like the task's."""
        return encode_texts(texts, self.tokenizer)

    def recoded(self, tokenizer: PreTrainedTokenizerBase) -> Task:
        """The same texts, row by row, as another tokenizer cuts them; as long as this one's at most."""
        bare = {name: split.remove_columns([c for c in ENCODED if c in split.column_names])
                for name, split in self.splits.items()}
        return _encoded(self.name, cut_at(tokenizer, self.limit or self.tokenizer.model_max_length), self.label_names,
                        bare)

    def share_cut(self, split: str = "train") -> tuple[float, float]:
        """The part of a split's texts that were cut, and of its tokens."""
        return share_cut(self[split], self.tokenizer)

    def overlap(self, split: str = "test") -> int:
        """How many rows of a split have the text, or the pair of texts, of a training row."""
        seen = set(self._texts("train"))
        return sum(text in seen for text in self._texts(split))

    def _texts(self, split: str) -> list[tuple[str, ...]]:
        columns = [what for what in ("text", "pair") if what in self[split].column_names]
        return list(zip(*(self[split].with_format(None)[what][:] for what in columns), strict=True))

    def with_validation(self, part: float = 0.1, seed: int = 0) -> Task:
        """The task with a validation split, held out of train, for what is to be tuned; as it is if it has one."""
        if "validation" in self.splits:
            return self
        held_out = self["train"].train_test_split(part, seed=seed)
        return replace(self, splits=self.splits | {"train": held_out["train"], "validation": held_out["test"]})


def builtin_task(world: str | Path = "restaurant", labelled: int = 1_000, unlabelled: int = 20_000,
                 seed: int = 0) -> Task:
    """A built-in world as a task: `labelled` training texts, `unlabelled` texts to transfer on.

    The two never overlap in their draws, and the validation and test splits (2,000 texts each) are
    the same for every seed. Each text carries its exact posterior in the column truth.
    """
    world = world if isinstance(world, World) else World(world)
    tokenizer = world_tokenizer(world)
    splits = {"train": world.dataset(labelled, seed=2 * seed),
              "transfer": world.dataset(unlabelled, seed=2 * seed + 1, labelled=False),
              "validation": world.dataset(HELD_OUT, seed=VALIDATION_SEED),
              "test": world.dataset(HELD_OUT, seed=TEST_SEED)}
    return Task(world.lexicon.path.stem, tokenizer, LABEL_NAMES,
                {name: encode(split, tokenizer) for name, split in splits.items()})


def file_task(train: str | Path, test: str | Path, text: str = "text", label: str = "label",
              vocabulary: int = 8_000, max_tokens: int | None = None, *, pair: str | None = None,
              regression: bool = False, tokenizer: PreTrainedTokenizerBase | None = None,
              label_names: Sequence[str] | None = None) -> Task:
    """A task from two files (CSV, TSV, JSON lines, JSON, Parquet or Arrow, by extension).

    text, pair, label: the names of the columns; pair, where the task is on pairs of texts, is the second one's. Labels
    may be words or numbers; the sorted distinct labels of `train` become 0..C-1, or `label_names`, a model's, in its
    order (see `kdlab.data.labels.class_numbers`). regression: the labels are numbers to be met, as in STS-B.
    tokenizer: a model's own; without it one is trained on `train`, of at most `vocabulary` tokens. Texts are cut at
    `max_tokens`; without it, where the tokenizer says, or at 64 where one is trained. The task's tokenizer then says
    as much, or no more than the longest text has, yet 64 at least.

    Raises `KdlabError` naming file, row and remedy for what cannot be read, for a row without text, for what
    `kdlab.data.labels.class_labels` refuses, and for a length that leaves nothing of a text.
    """
    columns = Columns(text, label, pair)
    tables = {"train": read_table(train, columns), "test": read_table(test, columns)}
    return _task(Path(train).stem, tables, {"train": str(train), "test": str(test)}, vocabulary, max_tokens, regression,
                 tokenizer, label_names)


def hub_task(name: str, subset: str | None = None, train: str = "train", test: str = "validation", text: str = "text",
             label: str = "label", vocabulary: int = 8_000, max_tokens: int | None = None, *, pair: str | None = None,
             regression: bool = False, tokenizer: PreTrainedTokenizerBase | None = None,
             label_names: Sequence[str] | None = None) -> Task:
    """`file_task` of two splits of a data set: "owner/name" on the Hub, or a folder that holds one. `subset` is one of
    its configurations, such as "sst2" of GLUE. No code of a data set's own is run."""
    columns = Columns(text, label, pair)
    tables = {"train": read_dataset(name, subset, train, columns), "test": read_dataset(name, subset, test, columns)}
    sources = {"train": f"{name}, split {train}", "test": f"{name}, split {test}"}
    return _task(subset or Path(name).name, tables, sources, vocabulary, max_tokens, regression, tokenizer, label_names)


def _task(name: str, tables: Tables, sources: dict[str, str], vocabulary: int, max_tokens: int | None,
          regression: bool, tokenizer: PreTrainedTokenizerBase | None, label_names: Sequence[str] | None) -> Task:
    pairs = "pair" in tables["train"]
    special = 2 + pairs if tokenizer is None else tokenizer.num_special_tokens_to_add(pair=pairs)
    for what, value, least in (("max-tokens", max_tokens, special + 1 + pairs),
                               ("vocabulary", vocabulary, len(SPECIAL_TOKENS) + 1)):
        if value is not None and value < least:
            raise KdlabError(f"{what} is {value}; give at least {least}")
    if regression:
        names = REGRESSION
        labels = {split: numbers(table["label"], sources[split]) for split, table in tables.items()}
    else:
        names, labels = class_labels(tables, sources, label_names)
    if tokenizer is None:
        texts = [text for what in ("text", "pair") for text in tables["train"].get(what, ())]
        tokenizer = train_tokenizer(texts, vocabulary, max_tokens or LENGTH, pairs)
    else:
        tokenizer = cut_at(tokenizer, max_tokens or tokenizer.model_max_length)
    return _encoded(name, tokenizer, names, {split: Dataset.from_dict({**table, "label": labels[split]})
                                             for split, table in tables.items()})


def _encoded(name: str, tokenizer: PreTrainedTokenizerBase, label_names: tuple[str, ...],
             bare: dict[str, Dataset]) -> Task:
    """The task of these splits. Its tokenizer, which is changed, gets a length no longer than its longest text."""
    limit, splits = tokenizer.model_max_length, {split: encode(data, tokenizer) for split, data in bare.items()}
    longest = max(int(lengths_of(split).max()) for split in splits.values())
    tokenizer.model_max_length = min(limit, max(longest, LENGTH))
    return Task(name, tokenizer, label_names, splits, limit)
