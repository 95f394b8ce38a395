"""Tasks from files: any of the four formats gives the same task, and each defect one sentence."""

import json

import pandas as pd
import pytest
from conftest import SST2
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.data.tables import Columns, read_table
from kdlab.data.tasks import SPECIAL_TOKENS, builtin_task, file_task, train_tokenizer
from kdlab.errors import KdlabError

TEXTS = ["good soup, great host", "it's bad", 'a "quoted" one', "naïve café ☕", "plain"] * 4
LABELS = ["pos", "neg", "pos", "neg", "pos"] * 4


def write(folder, suffix, texts=TEXTS, labels=LABELS):
    path, frame = folder / f"data{suffix}", pd.DataFrame({"sentence": texts, "label": labels})
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".tsv":
        path.write_text("sentence\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in zip(texts, labels, strict=True)))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"sentence": t, "label": y}, ensure_ascii=False) + "\n"
                                for t, y in zip(texts, labels, strict=True)))
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    assert read_table(write(tmp_path, suffix), Columns("sentence", "label")) == {"text": TEXTS, "label": LABELS}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_numbers_as_labels_are_the_same_label_in_every_format(tmp_path, suffix):
    path = write(tmp_path, suffix, labels=[int(y == "pos") for y in LABELS])
    task = file_task(path, path, "sentence", "label", vocabulary=200)
    assert task.label_names == ("0", "1")
    assert task["train"]["label"][:] == [int(y == "pos") for y in LABELS]


def test_a_file_task_is_ready_to_train_on(tmp_path):
    path = write(tmp_path, ".csv")
    task = file_task(path, path, "sentence", "label", vocabulary=300, max_tokens=8)
    assert task.label_names == ("neg", "pos")
    ids = task["train"]["input_ids"][0]
    assert ids[0] == task.tokenizer.cls_token_id and ids[-1] == task.tokenizer.sep_token_id
    assert max(len(x) for x in task["train"]["input_ids"]) <= 8
    assert "soup" in task.tokenizer.decode(ids)


def _bytes(path, content):
    path.write_bytes(content)
    return path


def test_each_defect_of_a_file_gets_one_sentence_with_file_row_and_remedy(tmp_path):
    good = write(tmp_path, ".csv")
    def of(name, content):
        return _bytes(tmp_path / name, content)
    cases = [
        (lambda: file_task(tmp_path / "none.csv", good), "none.csv", "no such file"),
        (lambda: file_task(of("a.xlsx", b"x"), good), "a.xlsx", "'.xlsx' is not known; save the file as .csv (in the"),
        (lambda: file_task(good, good, "text", "label"), "data.csv", "no column 'text'"),
        (lambda: file_task(good, good, "sentence", "stars"), "data.csv", "no column 'stars'"),
        (lambda: file_task(of("empty.csv", b""), good), "empty.csv", "the file is empty"),
        (lambda: file_task(of("head.csv", b"text,label\n"), good), "head.csv", "no rows"),
        (lambda: file_task(of("gap.csv", b"text,label\na,1\n ,0\n"), good), "gap.csv, row 2", "no text"),
        (lambda: file_task(of("gap.tsv", b"text\tlabel\na\t1\nb\t\n"), good), "gap.tsv, row 2", "no label"),
        (lambda: file_task(of("gap.jsonl", b'{"text": "a", "label": 1}\n{"label": 0}\n'), good),
         "gap.jsonl, row 2", "no text"),
        (lambda: file_task(of("latin.csv", b"text,label\na,1\ncaf\xe9,0\n"), good), "latin.csv, row 2", "UTF-8"),
        (lambda: file_task(of("latin.jsonl", b'{"text": "caf\xe9", "label": 1}\n'), good),
         "latin.jsonl, row 1", "UTF-8"),
        (lambda: file_task(of("half.jsonl", b'{"text": "a", "lab'), good), "half.jsonl", "cannot be read"),
        (lambda: file_task(of("half.parquet", b"PAR1xx"), good), "half.parquet", "cannot be read"),
        (lambda: file_task(of("ragged.csv", b"text,label\na,1\nb,0,7,8\n"), good), "ragged.csv", "cannot be read"),
        (lambda: file_task(of("one.csv", b"text,label\na,1\nb,1\n"), of("one2.csv", b"text,label\na,1\n")),
         "one.csv", "at least two"),
        (lambda: file_task(of("tr.csv", b"text,label\na,1\nb,0\n"), of("ev.csv", b"text,label\na,1\nb,2\n")),
         "ev.csv, row 2", "does not occur"),
    ]
    for call, where, said in cases:
        with pytest.raises(KdlabError) as caught:
            call()
        message = str(caught.value)
        assert where in message and said in message and "\n" not in message, message


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)
                .filter(lambda t: t.strip()), min_size=2, max_size=20))
@settings(deadline=None, max_examples=40)
def test_any_text_survives_a_csv_round_trip_and_encoding(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("csv")
    labels = [str(i % 2) for i in range(len(texts))]
    path = write(folder, ".csv", texts, labels)
    assert read_table(path, Columns("sentence", "label"))["text"] == texts
    task = file_task(path, path, "sentence", "label", vocabulary=150)
    assert all(len(ids) >= 2 for ids in task["train"]["input_ids"])


def test_builtin_splits_do_not_depend_on_the_seed_where_they_are_held_out():
    one, two = builtin_task(labelled=50, unlabelled=50, seed=0), builtin_task(labelled=50, unlabelled=50, seed=1)
    assert one["test"]["text"][:] == two["test"]["text"][:]
    assert one["train"]["text"][:] != two["train"]["text"][:]
    assert not set(one["train"]["text"]) & set(one["transfer"]["text"]) or len(set(one["train"]["text"])) < 50
    assert "label" not in one["transfer"].column_names
    with pytest.raises(KdlabError, match="train, transfer, validation, test"):
        one["dev"]


def test_no_word_of_the_world_is_unknown_to_its_tokenizer(task):
    ids = {i for split in task.splits.values() for row in split["input_ids"] for i in row}
    assert task.tokenizer.unk_token_id not in ids


@pytest.mark.skipif(not SST2.is_dir(), reason="the SST-2 folder ../shared/data/sst2 is not on this machine")
def test_real_sentences():
    task = file_task(SST2 / "train.tsv", SST2 / "dev.tsv", "sentence", "label")
    assert (len(task["train"]), len(task["test"])) == (67_349, 872)
    assert task.label_names == ("0", "1")
    unknown = sum(ids.count(task.tokenizer.unk_token_id) for ids in task["test"]["input_ids"])
    assert unknown < 0.001 * sum(map(len, task["test"]["input_ids"]))


def test_the_same_texts_give_the_same_tokenizer():
    """The trainer of `tokenizers` numbers pieces in another order every time: no run could go on where it was."""
    world = builtin_task("restaurant", 300, 10)["train"]["text"][:]
    one, other = (train_tokenizer(texts, 400, 64) for texts in (world, list(world)))
    assert one.get_vocab() == other.get_vocab() and len(one) == 400
    assert sorted(one.all_special_tokens) == sorted(SPECIAL_TOKENS), "letters are no special tokens"
    assert one.tokenize("[MASK] soup") == ["[MASK]", *one.tokenize("soup")]
