"""Files as they come: every format read back as it was written, and nothing read as something else."""

from __future__ import annotations

import csv
import gzip
import json

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.data.tables import Columns, is_data_set, read_dataset, read_table
from kdlab.errors import KdlabError

CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0\r\ufeff\x1f"),
               min_size=1, max_size=12).filter(str.strip) | st.sampled_from(
    ["NA", "None", "nan", "01", "1.0", "1", 'a "b" c', '"whole"', "a,b", "a;b", "a\tb", "a\nb", "[1, 2]", '"', "''"])
TABLES = st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8)
NAMES = ("text", "pair", "label")
COLUMNS = Columns(pair="pair")


def write(path, rows, names=NAMES):
    """As a program would that has never heard of kdlab."""
    name = path.name.lower().removesuffix(".gz")
    frame = pd.DataFrame(rows, columns=list(names), dtype=object)
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    if name.endswith(".parquet"):
        frame.to_parquet(path)
        return path
    if name.endswith((".csv", ".tsv")):
        content = frame.to_csv(index=False, sep="\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".json"):
        content = json.dumps(objects, ensure_ascii=False, indent=1)
    else:
        content = "".join(json.dumps(row) + "\n" for row in objects)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def expected(rows):
    return {what: [row[i] for row in rows] for i, what in enumerate(NAMES)}


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl", "a.JSON", "a.parquet", "a.csv.gz", "a.Tsv.GZ",
                                  "a.jsonl.gz"])
@given(rows=TABLES)
@settings(deadline=None, max_examples=40)
def test_random_tables_are_read_back_as_they_were_written(tmp_path_factory, name, rows):
    path = write(tmp_path_factory.mktemp("a") / name, rows)
    assert read_table(path, COLUMNS) == expected(rows)


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl", "train.parquet", "train.csv.gz"])
def test_a_file_reads_the_same_when_its_folder_is_named(tmp_path, name):
    rows = [("NA", "01", "None"), ("1", "1.0", "nan"), ('a "b"', "null", "x")]
    path = write(tmp_path / name, rows)
    assert read_dataset(str(tmp_path), None, "train", COLUMNS) == read_table(path, COLUMNS) == expected(rows)
    part = read_dataset(str(tmp_path), None, "train[1:]+train[:1]", COLUMNS)
    assert part == expected(rows[1:] + rows[:1]), "as the library datasets writes parts of splits"


@pytest.mark.parametrize("content", ['text\tlabel\nhe said "no\tneg\n"whole"\tpos\n',
                                     'text\tlabel\n"whole"\tpos\nno\tneg\n', 'text\tlabel\n"a" b\tx\nc ""d""\ty\n'])
def test_quotation_marks_of_a_tsv_are_plain_characters_as_in_glue(tmp_path, content):
    (tmp_path / "a.tsv").write_text(content)
    lines = [line.split("\t") for line in content.splitlines()[1:]]
    assert read_table(tmp_path / "a.tsv", Columns()) == {"text": [a for a, _ in lines], "label": [b for _, b in lines]}


def test_a_tsv_that_quotes_everything_is_read_without_its_marks(tmp_path):
    with (tmp_path / "a.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows([("text", "label"), ("a b", "x"), ("c", "y")])
    assert read_table(tmp_path / "a.tsv", Columns()) == {"text": ["a b", "c"], "label": ["x", "y"]}


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.csv", "text,label\nGreat food 1, loved it,pos\nBad, hated it,neg\n",
     "a.csv, row 1: .*has 3 cells and the header 2"),
    ("a.csv", "text,label\na,x\nb,c,x\n", "a.csv, row 2: .*has 3 cells"),
    ("a.tsv", "text\tlabel\na\tb\tx\n", "a.tsv, row 1: .*a text that has tabs"),
    ("a.csv", 'text,label\n"a,x\nb,y\n', "a.csv, row 1: .*a quotation mark is opened and never closed"),
    ("a.csv", "text,label,text\na,x,b\n", "a.csv: there are 2 columns 'text'; rename all but one"),
    ("a.jsonl", '{"text": "a", "label": "x", "text": "b"}\n', "a.jsonl, row 1: .*'text' is there twice"),
    ("a.jsonl", '{"text": ["a"], "label": "x"}\n', "row 1: the text in the column 'text' is a list; write it as text"),
    ("a.jsonl", '{"text": "a", "label": [0, 1]}\n', "row 1: the label in the column 'label' is a list; write one"),
    ("a.jsonl", '{"text": {"a": 1}, "label": 0}\n', "row 1: the text .* is an object with fields"),
    ("a.jsonl", '"a"\n', "row 1: .*it is no object"),
    ("a.json", '{"data": [\n]}', "write one object a line, or one array of objects"),
    ("a.xlsx", "PK", "the extension '.xlsx' is not known; save the file as .csv .in the spreadsheet program"),
    ("a.txt", "a", "the extension '.txt' is not known; save the file as .csv .comma"),
])
def test_what_is_refused_and_where(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(KdlabError, match=said) as caught:
        read_table(tmp_path / name, Columns())
    assert "\n" not in str(caught.value)


def test_bytes_are_no_text_and_columns_of_one_name_no_column(tmp_path):
    pd.DataFrame({"text": [b"a"], "label": ["x"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(KdlabError, match="row 1: the text in the column 'text' is bytes; write it as text"):
        read_table(tmp_path / "a.parquet", Columns())


def test_semicolons_are_seen_and_said(tmp_path):
    (tmp_path / "a.csv").write_text("text;label\na, b;x\n")
    with pytest.warns(UserWarning, match="the columns are separated by semicolons"):
        assert read_table(tmp_path / "a.csv", Columns()) == {"text": ["a, b"], "label": ["x"]}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_byte_order_mark_is_no_part_of_it(tmp_path, name):
    path = write(tmp_path / name, [("a", "b", "x")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_table(path, COLUMNS) == expected([("a", "b", "x")])


def test_an_existing_file_or_a_mistyped_path_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.txt").write_text("a")
    (tmp_path / "sub" / "t.CSV").write_text("text,label\na,x\n")
    assert not any(map(is_data_set, ["sub/t.txt", "sub/t.CSV", "sub/mistyped", "other/t.CSV", "other/t.csv.gz"]))
    assert is_data_set("nyu-mll/glue") and is_data_set("sub")
    assert read_table("sub/t.CSV", Columns())["text"] == ["a"]


FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["worse", "better"])})


def test_names_of_classes_are_read_from_the_file_that_is_named(tmp_path):
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=FEATURES)
    data.to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", Columns())["label"] == ["worse", "better"]
    unlabelled = Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=FEATURES)
    unlabelled.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(KdlabError, match=r"b.parquet, row 2: there is no label in the column 'label'"):
        read_table(tmp_path / "b.parquet", Columns())


def test_of_a_saved_data_set_only_what_it_lists_is_read(tmp_path):
    data = Dataset.from_dict({"text": [f"t{i}" for i in range(128)], "label": [i % 2 for i in range(128)]},
                             features=FEATURES)
    DatasetDict(train=data, dev=data.select(range(9))).save_to_disk(tmp_path / "both")
    from datasets import load_from_disk
    load_from_disk(tmp_path / "both")["train"].map(lambda row: {"text": row["text"] + "!"})     # leaves a cache there
    assert len(list((tmp_path / "both" / "train").glob("*.arrow"))) == 2
    whole = read_dataset(str(tmp_path / "both"), None, "train", Columns())
    assert whole["text"] == data["text"][:] and whole["label"][:2] == ["worse", "better"]
    with pytest.raises(KdlabError, match=r"there is no split test, only train, dev.; check --data"):
        read_dataset(str(tmp_path / "both"), None, "test", Columns())
    data.save_to_disk(tmp_path / "lone")
    assert not is_data_set(tmp_path / "lone") and is_data_set(tmp_path / "both")
    assert read_table(tmp_path / "lone", Columns()) == whole
    arrow = next((tmp_path / "lone").glob("*.arrow"))
    assert read_table(arrow, Columns()) == whole
