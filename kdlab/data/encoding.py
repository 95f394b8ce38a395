"""Texts as the tokens that a model reads, cut at its length."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets import Dataset
from tokenizers import Encoding
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

ENCODED = ("input_ids", "token_type_ids")
PART = 10_000           # texts that are Python lists of tokens at once
UNLIMITED = 2**31       # a tokenizer that names no length says 10^30
LONG = 4                # characters a token of pairs that are cut beforehand: fewer are soon done


def encode(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The dataset with a column input_ids: [CLS], word pieces, [SEP], cut at the tokenizer's length.

    Where it has a column pair, that text and its [SEP] follow, and a column token_type_ids tells the two apart.
    """
    if not len(dataset):
        return dataset.add_column("input_ids", [])
    what = ["text", "pair"] if "pair" in dataset.column_names else ["text"]
    bare, parts = dataset.select_columns(what).with_format(None), {}
    for start in tqdm(range(0, len(bare), PART), "texts to tokens", leave=False, delay=2, disable=None):
        rows = bare[start:start + PART]
        texts = _shortened(tokenizer, rows["text"], rows["pair"]) if "pair" in rows else (rows["text"],)
        encoded = tokenizer(*texts, truncation=tokenizer.model_max_length < UNLIMITED)
        for column in ENCODED[:len(what)]:
            if column in encoded:
                parts.setdefault(column, []).append(pa.array(encoded[column], pa.list_(pa.int64())))
    for column, chunks in parts.items():
        dataset = dataset.add_column(column, pa.chunked_array(chunks))
    return dataset


def encode_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Bare texts as encoded rows, without labels."""
    return encode(Dataset.from_dict({"text": list(texts)}), tokenizer)


def lengths_of(dataset: Dataset) -> np.ndarray:
    """The tokens of each row of encoded texts, (n,)."""
    return pa.compute.list_value_length(dataset.with_format("arrow")[:]["input_ids"]).to_numpy()


def cut_at(tokenizer: PreTrainedTokenizerBase, length: int) -> PreTrainedTokenizerBase:
    """The tokenizer, to cut texts at `length` tokens, or earlier if it does already."""
    tokenizer = deepcopy(tokenizer)
    tokenizer.model_max_length = min(length, tokenizer.model_max_length)
    return tokenizer


def share_cut(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[float, float]:
    """The part of the encoded rows whose ends the tokenizer's length cut off, and the part of all their tokens."""
    lengths = lengths_of(dataset)
    full = np.flatnonzero(lengths >= tokenizer.model_max_length)
    if not len(full):
        return 0.0, 0.0
    rows = dataset.select(full).with_format(None)
    whole = sum(np.array([len(ids) for ids in _bare(tokenizer, list(rows[what]))["input_ids"]])
                for what in ("text", "pair") if what in rows.column_names)
    whole = whole + tokenizer.num_special_tokens_to_add(pair="pair" in rows.column_names)
    lost = np.maximum(whole - lengths[full], 0)
    return float((lost > 0).sum() / len(lengths)), float(lost.sum() / (lengths.sum() + lost.sum()))


def _bare(tokenizer: PreTrainedTokenizerBase, texts: list[str]):
    return tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)


def _shortened(tokenizer: PreTrainedTokenizerBase, texts: list[str], pairs: list[str]) -> tuple[list[str], list[str]]:
    """The pairs without what the tokenizer would cut off anyway, in a time that is the square of the length.

    It cuts the longer text until the two are alike, so of either no more than its length is left; a word or two beyond
    that stay, and of the longer text one more, so that every token left is as it was.
    """
    limit = tokenizer.model_max_length
    long = [i for i, (a, b) in enumerate(zip(texts, pairs, strict=True)) if len(a) + len(b) > LONG * limit]
    if not long or not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return texts, pairs
    out = texts[:], pairs[:]
    coded = [_bare(tokenizer, [side[i] for i in long]).encodings for side in out]
    for i, *both in zip(long, *coded, strict=True):
        short, longer = sorted((0, 1), key=lambda side: len(both[side].ids))
        kept = _end_of_word(both[short], limit)
        for side, keep in ((short, kept), (longer, _end_of_word(both[longer], max(limit, kept + 1)))):
            if keep < len(both[side].ids):
                out[side][i] = out[side][i][:both[side].offsets[keep - 1][1]]
    return out


def _end_of_word(text: Encoding, least: int) -> int:
    """The number of tokens up to the end of the word that has token number `least`, or of all."""
    words = text.word_ids
    return next((i for i in range(least + 1, len(words)) if words[i] != words[i - 1]), len(words))
