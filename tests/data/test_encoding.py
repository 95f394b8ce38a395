"""Where texts are cut: at the teacher's length, as the tokenizer would, in good time, and with the part told."""

from __future__ import annotations

import time

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kdlab.data import encoding
from kdlab.data.encoding import encode
from kdlab.data.tasks import file_task, train_tokenizer
from kdlab.errors import KdlabError

WORDS = "soup host waiter lunch never hated".split()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([" ".join(WORDS)], 60, 256, pairs=True)      # some words are one token, some are several


def files(folder, **columns):
    rows = len(columns["text"])
    path = folder / "a.csv"
    pd.DataFrame({**columns, "label": [i % 2 for i in range(rows)]}).to_csv(path, index=False)
    return path, path


def test_texts_are_cut_where_the_teacher_s_tokenizer_says(tmp_path, tokenizer):
    paths = files(tmp_path, text=["soup " * n for n in (3, 100, 300, 400)])
    whole = tokenizer("soup " * 100)["input_ids"]
    task = file_task(*paths, tokenizer=tokenizer)
    per_word = (len(whole) - 2) // 100
    assert task["train"]["input_ids"][1] == whole[:255] + whole[-1:] if len(whole) > 256 else whole
    assert task.tokenizer.model_max_length == 256 and tokenizer.model_max_length == 256
    lost = [max(0, n * per_word + 2 - 256) for n in (3, 100, 300, 400)]
    texts, tokens = task.share_cut("train")
    assert texts == sum(x > 0 for x in lost) / 4
    assert tokens == pytest.approx(sum(lost) / (sum((3, 100, 300, 400)) * per_word + 8))


def test_the_length_is_no_longer_than_the_texts_and_64_at_least(tmp_path, tokenizer):
    short = files(tmp_path, text=["soup", "host"])
    for more in ({"tokenizer": tokenizer}, {"tokenizer": tokenizer, "max_tokens": 100_000}, {"vocabulary": 60},
                 {"vocabulary": 60, "max_tokens": 100_000}):
        task = file_task(*short, **more)
        assert task.tokenizer.model_max_length == 64 and task.share_cut() == (0.0, 0.0)
    assert file_task(*short, max_tokens=3, vocabulary=60).tokenizer.model_max_length == 3
    unlimited = train_tokenizer(WORDS, 60, 10**30)
    assert file_task(*files(tmp_path, text=["soup " * 200, "a"]), tokenizer=unlimited).share_cut() == (0.0, 0.0)


def test_another_tokenizer_may_need_more_tokens_for_the_same_texts(tmp_path, tokenizer):
    """The bound by the texts of one tokenizer is not the other's."""
    words, letters = train_tokenizer(["soup host"] * 9, 80, 512), train_tokenizer(["soup host"], 5, 512)
    task = file_task(*files(tmp_path, text=["soup " * 50, "host"]), tokenizer=words)
    assert task.tokenizer.model_max_length == 64
    recoded = task.recoded(letters)
    assert recoded.tokenizer.model_max_length == 202 and recoded.share_cut() == (0.0, 0.0)


@pytest.mark.parametrize(("more", "least"), [({"pair": "pair"}, 5), ({}, 3)])
def test_a_length_that_leaves_no_text_is_refused(tmp_path, more, least):
    paths = files(tmp_path, text=["soup", "host"], pair=["soup", "host"])
    with pytest.raises(KdlabError, match=f"max-tokens is {least - 1}; give at least {least}"):
        file_task(*paths, vocabulary=60, max_tokens=least - 1, **more)
    task = file_task(*paths, vocabulary=60, max_tokens=least, **more)
    assert all(len(ids) > 2 + len(more) for ids in task["train"]["input_ids"])


TEXT = st.lists(st.sampled_from([*WORDS, ",", "x"]), min_size=1, max_size=40).map(" ".join)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.integers(5, 30))
@example([("x " * 8 + "soup soup", ", " * 30), (", " * 30, "x " * 8 + "soup soup")], 10)    # which is longer decides
@settings(deadline=None)
def test_long_pairs_are_cut_beforehand_and_no_token_changes(rows, length):
    tokenizer = train_tokenizer([" ".join(WORDS)], 40, length, pairs=True)
    a, b = (list(column) for column in zip(*rows, strict=True))
    data = encoding.Dataset.from_dict({"text": a, "pair": b})
    expected = tokenizer(a, b, truncation=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "LONG", 0)
        found = encode(data, tokenizer)
    assert found["input_ids"][:] == expected["input_ids"]
    assert found["token_type_ids"][:] == expected["token_type_ids"]


def test_long_pairs_take_no_longer_than_their_length():
    """The tokenizer alone takes the square: 5 s for a pair half as long."""
    tokenizer = train_tokenizer([" ".join(WORDS)], 60, 16, pairs=True)
    data = encoding.Dataset.from_dict({"text": ["soup host " * 1_500], "pair": ["never hated " * 1_500]})
    began = time.perf_counter()
    assert len(encode(data, tokenizer)["input_ids"][0]) == 16
    assert time.perf_counter() - began < 1
