"""Tasks: texts with labels, from the built-in worlds or from a file, encoded for a tokenizer.

A split is a `datasets.Dataset` with the columns text, input_ids, label (0..C-1, unless it is a
transfer set) and truth (the exact posterior, built-in worlds only).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .corpus import LABEL_NAMES, MAX_TOKENS, World
from .errors import KdlabError
from .lexicon import WORDS_OF_GRAMMAR
from .table import read_table

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002    # apart from any seed a lesson would choose
HELD_OUT = 2_000                                     # texts in each of the two


@dataclass
class Task:
    """Encoded splits with what is needed to read them.

    splits: by name; built-in tasks have train, transfer (unlabelled), validation and test; tasks
    from files have train and test.
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

    def encode(self, texts: Iterable[str]) -> Dataset:
        """Texts of your own, encoded like the task's."""
        return encode_texts(texts, self.tokenizer)


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
              vocabulary: int = 8_000, max_tokens: int = 64) -> Task:
    """A task from two files (CSV, TSV, JSONL or Parquet, by extension) and a tokenizer trained on one.

    text, label: the names of the two columns. Labels may be words or numbers; the sorted distinct
    labels of `train` become 0..C-1. Raises `KdlabError` naming file, row and remedy for what cannot
    be read, for a row without text, and for a label that only `test` has.
    """
    tables = {"train": read_table(train, text, label), "test": read_table(test, text, label)}
    names = sorted(set(tables["train"]["label"]), key=_numbers_first)
    if len(names) < 2:
        raise KdlabError(f"{train}: every row has the label '{names[0]}'; a classifier needs at least two")
    index = {name: i for i, name in enumerate(names)}
    for row, name in enumerate(tables["test"]["label"], start=1):
        if name not in index:
            raise KdlabError(f"{test}, row {row}: the label '{name}' does not occur in {train}; correct "
                             "it, or add training rows that have it")
    tokenizer = train_tokenizer(tables["train"]["text"], vocabulary, max_tokens)
    splits = {name: encode(Dataset.from_dict({"text": table["text"],
                                              "label": [index[x] for x in table["label"]]}), tokenizer)
              for name, table in tables.items()}
    return Task(Path(train).stem, tokenizer, tuple(names), splits)


def encode(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The dataset with a column input_ids: [CLS], word pieces, [SEP], cut at the model's length."""
    ids = tokenizer(list(dataset["text"]), truncation=True)["input_ids"] if len(dataset) else []
    return dataset.add_column("input_ids", ids)


def encode_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Bare texts as encoded rows, without labels."""
    return encode(Dataset.from_dict({"text": list(texts)}), tokenizer)


def world_tokenizer(world: World) -> PreTrainedTokenizerBase:
    """Every word of the world is one token; any other word is [UNK]."""
    words = [*SPECIAL_TOKENS, ".", ",", *sorted(WORDS_OF_GRAMMAR), *sorted(world.lexicon.entries)]
    model = models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    return _bert_like(Tokenizer(model), MAX_TOKENS)


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer with at most `vocabulary` tokens, trained on `texts`."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _bert_like(tokenizer, max_tokens)
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS),
                                        show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _bert_like(tokenizer, max_tokens)


def _bert_like(tokenizer: Tokenizer, max_tokens: int) -> PreTrainedTokenizerBase:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]") or 2), ("[SEP]", tokenizer.token_to_id("[SEP]") or 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def _numbers_first(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
