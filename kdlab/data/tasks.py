"""Tasks: texts with labels, from the built-in worlds, from files or from the Hub, encoded for a tokenizer.

A split is a `datasets.Dataset` with the columns text, input_ids, label (0..C-1, unless it is a transfer set; a number
where the task is a regression), pair and token_type_ids (tasks on pairs of texts only) and truth (the exact posterior,
built-in worlds only).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..errors import KdlabError
from ..worlds.corpus import LABEL_NAMES, MAX_TOKENS, World
from ..worlds.lexicon import WORDS_OF_GRAMMAR
from .tables import Columns, read_dataset, read_table

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002    # apart from any seed a lesson would choose
HELD_OUT = 2_000                                     # texts in each of the two
ENCODED = ("input_ids", "token_type_ids")
REGRESSION = ("score",)                              # the name of a regression's one output


@dataclass
class Task:
    """Encoded splits with what is needed to read them.

    splits: by name; built-in tasks have train, transfer (unlabelled), validation and test; tasks
    from files or the Hub have train and test, and `with_validation` gives them a third. label_names: of a regression
    its one output's, ("score",).
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    label_names: tuple[str, ...]
    splits: dict[str, Dataset] = field(default_factory=dict)

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
        tokenizer = _cut_at(tokenizer, self.tokenizer.model_max_length)
        bare = {name: split.remove_columns([c for c in ENCODED if c in split.column_names])
                for name, split in self.splits.items()}
        return Task(self.name, tokenizer, self.label_names,
                    {name: encode(split, tokenizer) for name, split in bare.items()})

    def with_validation(self, part: float = 0.1, seed: int = 0) -> Task:
        """The task with a validation split, held out of train, for what is to be tuned; as it is if it has one."""
        if "validation" in self.splits:
            return self
        held_out = self["train"].train_test_split(part, seed=seed)
        return Task(self.name, self.tokenizer, self.label_names,
                    self.splits | {"train": held_out["train"], "validation": held_out["test"]})


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
              vocabulary: int = 8_000, max_tokens: int = 64, *, pair: str | None = None, regression: bool = False,
              tokenizer: PreTrainedTokenizerBase | None = None, label_names: Sequence[str] | None = None) -> Task:
    """A task from two files (CSV, TSV, JSONL or Parquet, by extension).

    text, pair, label: the names of the columns; pair, where the task is on pairs of texts, is the second one's. Labels
    may be words or numbers; the sorted distinct labels of `train` become 0..C-1, or `label_names`, a model's, in its
    order (see `in_order_of`). regression: the labels are numbers to be met, as in STS-B. tokenizer: a model's own;
    without it one is trained on `train`, of at most `vocabulary` tokens. Texts are cut at `max_tokens`. Raises
    `KdlabError` naming file, row and remedy for what cannot be read, for a row without text, and for a label that only
    `test` has.
    """
    columns = Columns(text, label, pair)
    tables = {"train": read_table(train, columns), "test": read_table(test, columns)}
    return _task(Path(train).stem, tables, {"train": str(train), "test": str(test)}, vocabulary, max_tokens, regression,
                 tokenizer, label_names)


def hub_task(name: str, subset: str | None = None, train: str = "train", test: str = "validation", text: str = "text",
             label: str = "label", vocabulary: int = 8_000, max_tokens: int = 64, *, pair: str | None = None,
             regression: bool = False, tokenizer: PreTrainedTokenizerBase | None = None,
             label_names: Sequence[str] | None = None) -> Task:
    """`file_task` of two splits of a data set: "owner/name" on the Hub, or a folder that holds one. `subset` is one of
    its configurations, such as "sst2" of GLUE. No code of a data set's own is run."""
    columns = Columns(text, label, pair)
    tables = {"train": read_dataset(name, subset, train, columns), "test": read_dataset(name, subset, test, columns)}
    sources = {"train": f"{name}, split {train}", "test": f"{name}, split {test}"}
    return _task(subset or Path(name).name, tables, sources, vocabulary, max_tokens, regression, tokenizer, label_names)


def _task(name: str, tables: dict[str, dict[str, list[str]]], sources: dict[str, str], vocabulary: int,
          max_tokens: int, regression: bool, tokenizer: PreTrainedTokenizerBase | None,
          label_names: Sequence[str] | None) -> Task:
    for what, value, least in (("max-tokens", max_tokens, 3), ("vocabulary", vocabulary, len(SPECIAL_TOKENS) + 1)):
        if value < least:
            raise KdlabError(f"{what} is {value}; give at least {least}")
    if regression:
        names = REGRESSION
        labels = {split: _numbers(table["label"], sources[split]) for split, table in tables.items()}
    else:
        names, labels = _classes(tables, sources, label_names)
    if tokenizer is None:
        texts = [text for what in ("text", "pair") for text in tables["train"].get(what, ())]
        tokenizer = train_tokenizer(texts, vocabulary, max_tokens, pairs="pair" in tables["train"])
    else:
        tokenizer = _cut_at(tokenizer, max_tokens)
    splits = {split: encode(Dataset.from_dict({**table, "label": labels[split]}), tokenizer)
              for split, table in tables.items()}
    return Task(name, tokenizer, names, splits)


def _classes(tables: dict[str, dict[str, list[str]]], sources: dict[str, str],
             label_names: Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    names = sorted(set(tables["train"]["label"]), key=_numbers_first)
    if len(names) < 2:
        raise KdlabError(f"{sources['train']}: every row has the label '{names[0]}'; a classifier needs at least two")
    order = names if label_names is None else in_order_of(label_names, names, sources["train"])
    index = {name: i for i, name in enumerate(order)}
    for row, name in enumerate(tables["test"]["label"], start=1):
        if name not in index:
            raise KdlabError(f"{sources['test']}, row {row}: the label '{name}' does not occur in {sources['train']}; "
                             "correct it, or add training rows that have it")
    return tuple(label_names or names), {split: [index[x] for x in table["label"]] for split, table in tables.items()}


def in_order_of(theirs: Sequence[str], ours: Sequence[str], source: str = "the data") -> list[str]:
    """The data's labels in the order of a model's, which may spell them in other case.

    Where the data's labels are the numbers 0, 1, 2, ..., or the model's are nameless (LABEL_0, LABEL_1, ...), they are
    taken to be in one order. Raises `KdlabError` where it cannot be told which label is which.
    """
    by_name = {name.lower(): name for name in ours}
    if len(ours) == len(theirs):
        if set(by_name) == {name.lower() for name in theirs}:
            return [by_name[name.lower()] for name in theirs]
        numbered = [str(i) for i in range(len(theirs))]
        if list(ours) == numbered or [f"LABEL_{i}" for i in numbered] == list(theirs):
            return list(ours)
    raise KdlabError(f"{source}: the labels are {', '.join(ours)} and the teacher's {', '.join(theirs)}; write the "
                     "teacher's into the data, or their numbers, 0, 1, 2, ..., in the teacher's order")


def _numbers(values: list[str], source: str) -> list[float]:
    out = []
    for row, value in enumerate(values, start=1):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise KdlabError(f"{source}, row {row}: the label '{value}' is no number, and this task is a regression; "
                             "correct it, or leave out --regression")
        out.append(number)
    return out


def encode(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The dataset with a column input_ids: [CLS], word pieces, [SEP], cut at the tokenizer's length.

    Where it has a column pair, that text and its [SEP] follow, and a column token_type_ids tells the two apart.
    """
    if not len(dataset):
        return dataset.add_column("input_ids", [])
    pairs = [list(dataset["pair"])] if "pair" in dataset.column_names else []
    encoded = tokenizer(list(dataset["text"]), *pairs, truncation=True)
    for column in ENCODED if pairs else ENCODED[:1]:
        if column in encoded:
            dataset = dataset.add_column(column, encoded[column])
    return dataset


def _cut_at(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> PreTrainedTokenizerBase:
    tokenizer = deepcopy(tokenizer)
    tokenizer.model_max_length = min(max_tokens, tokenizer.model_max_length)
    return tokenizer


def encode_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Bare texts as encoded rows, without labels."""
    return encode(Dataset.from_dict({"text": list(texts)}), tokenizer)


def world_tokenizer(world: World) -> PreTrainedTokenizerBase:
    """Every word of the world is one token; any other word is [UNK]."""
    words = [*SPECIAL_TOKENS, ".", ",", *sorted(WORDS_OF_GRAMMAR), *sorted(world.lexicon.entries)]
    model = models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    return _bert_like(Tokenizer(model), MAX_TOKENS)


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int,
                    pairs: bool = False) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer with at most `vocabulary` tokens, trained on `texts`; `pairs`: for two texts
    at a time."""
    texts = list(texts)
    bare = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _bert_like(bare, max_tokens)
    # Pieces of one character are given beforehand: else the trainer numbers them as it meets them, which differs from
    # call to call, and so do its later ties.
    words = {word for text in texts
             for word, _ in bare.pre_tokenizer.pre_tokenize_str(bare.normalizer.normalize_str(text))}
    pieces = [*SPECIAL_TOKENS, *sorted(set("".join(words))),
              *sorted({f"##{letter}" for word in words for letter in word[1:]})]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=pieces, show_progress=False)
    bare.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(bare.get_vocab(), unk_token="[UNK]"))    # in which no letter is special
    return _bert_like(tokenizer, max_tokens, pairs)


def _bert_like(tokenizer: Tokenizer, max_tokens: int, pairs: bool = False) -> PreTrainedTokenizerBase:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]") or 2), ("[SEP]", tokenizer.token_to_id("[SEP]") or 3)]
    both = {"pair": "[CLS] $A [SEP] $B:1 [SEP]:1"} if pairs else {}
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends, **both)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens,
        model_input_names=["input_ids", *["token_type_ids"] * pairs, "attention_mask"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def _numbers_first(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
