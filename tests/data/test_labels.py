"""Labels against classes: mapped by name, sorted as numbers, and nothing becomes a class unnoticed."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, BertConfig

from kdlab.data.labels import class_labels, class_numbers
from kdlab.data.tasks import file_task, label_names_of
from kdlab.errors import KdlabError

SOURCES = {"train": "train.csv", "test": "dev.csv"}
NAMES = st.lists(st.text("abcdefgh ABC-_ß", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=2, max_size=9,
                 unique_by=lambda name: " ".join(name.casefold().split()))


def classes(train, test=None, theirs=None):
    return class_labels({"train": {"label": list(train)}, "test": {"label": list(test or train)}}, SOURCES, theirs)


@given(NAMES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_random_names_in_any_order_and_case_find_their_class(theirs, chance):
    ours = [name.upper() if name.upper().casefold() == name.casefold() and chance.random() < .5 else name
            for name in theirs]
    shuffled = random.Random(chance.random()).sample(list(enumerate(ours)), len(ours))
    assert class_numbers(theirs, [name for _, name in shuffled]) == {name: i for i, name in shuffled}
    names, labels = classes([name for _, name in shuffled], theirs=theirs)
    assert names == tuple(theirs) and labels["train"] == [i for i, _ in shuffled]


@given(NAMES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_in_which_config_json_lists_its_classes_means_nothing(tmp_path_factory, names, chance):
    folder = tmp_path_factory.mktemp("config")
    BertConfig(id2label=dict(enumerate(names))).save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text())
    keys = chance.sample(list(told["id2label"]), len(names))
    (folder / "config.json").write_text(json.dumps(told | {"id2label": {key: told["id2label"][key] for key in keys}}))
    assert label_names_of(AutoConfig.from_pretrained(folder)) == tuple(names)


def test_twelve_classes_are_in_the_order_of_their_numbers_and_gaps_are_refused():
    twelve = {str(i): f"c{i}" for i in sorted(range(12), key=str)}
    assert label_names_of(BertConfig(id2label=twelve)) == tuple(f"c{i}" for i in range(12))
    assert label_names_of(BertConfig(id2label={1: 7, 0: 3})) == ("3", "7")
    config = BertConfig()
    config.id2label = {0: "a", 2: "b"}
    with pytest.raises(KdlabError, match="names the classes 0, 2; number them 0, 1, 2"):
        label_names_of(config)


def test_numbers_are_sorted_as_numbers_and_floats_are_the_integers_they_are():
    names, labels = classes([str(i) for i in range(12)], [f"{i}.0" for i in range(12)])
    assert names == tuple(map(str, range(12))) and labels["train"] == labels["test"] == list(range(12))


@pytest.mark.parametrize(("train", "said"), [
    (["neg", "Neg", "pos"], r"train.csv and dev.csv: labels differ only in how they are written .'Neg' and 'neg'."),
    (["very  bad", "very bad", "good"], "'very  bad' and 'very bad'"),
    (["01", "1", "0"], "'01' and '1'"),
    (["0", "1", "-1"], r"train.csv, row 3: the label is -1, which marks rows without a label"),
    (["-1", "-1"], r"train.csv, row 1: the label is -1"),
    (["0", "1", "nan"], r"train.csv, row 3: the label 'nan' is no number, and the others are"),
    (["0", "NA", "1"], r"train.csv, row 2: the label 'NA' is no number"),
    ([f"{i / 4}" for i in range(20)], "train.csv, row 2: the label is 0.25, one of 20 numbers; add --regression"),
    (["[0, 1]", "[0]"], r"train.csv, row 1: the label '\[0, 1\]' is a list; write one label a row"),
])
def test_what_is_no_class_is_refused(train, said):
    with pytest.raises(KdlabError, match=said) as caught:
        classes(train)
    assert "\n" not in str(caught.value)


def test_what_is_one():
    assert classes(["-1", "1"])[0] == ("-1", "1"), "the two sides of a support vector machine"
    assert len(classes([f"{i / 2}" for i in range(1, 11)])[0]) == 10, "half stars"
    assert classes(["nan", "tea", "rice"])[0] == ("nan", "rice", "tea"), "bread"


def test_blanks_around_labels_are_left_out_and_said():
    with pytest.warns(UserWarning, match=r"train.csv: 2 labels have blanks around them, which are left out"):
        assert classes(["neg", "neg ", " pos"], ["neg"])[0] == ("neg", "pos")


def test_a_name_that_the_model_has_in_part_is_not_taken_for_a_number():
    """Classes "1", "2", "3" and labels 0, 1, 2: label 1 is the class of that name, or it is not."""
    with pytest.raises(KdlabError, match="write the teacher's into the data"):
        class_numbers(("1", "2", "3"), ["0", "1", "2"])
    assert class_numbers(("Neg", "neg", "pos"), ["neg", "Neg"]) == {"neg": 1, "Neg": 0}


def test_the_order_of_classes_is_the_same_in_every_process():
    code = ("from kdlab.data.labels import class_labels; t = {'label': ['nan', 'b', '2', 'inf', '10', 'a', 'NaN0']};"
            "print(class_labels({'train': t}, {'train': 'x'})[0])")
    said = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                           env={"PYTHONHASHSEED": seed, "PATH": "", "HOME": "/tmp"}).stdout for seed in "123"}
    assert said == {"('2', '10', 'NaN0', 'a', 'b', 'inf', 'nan')\n"}


def test_rows_to_score_on_that_are_training_rows_are_counted(tmp_path):
    pd.DataFrame({"text": ["a", "b", "c"], "pair": ["x", "y", "z"], "label": [0, 1, 0]}).to_csv(tmp_path / "a.csv")
    pd.DataFrame({"text": ["a", "b", "d"], "pair": ["x", "z", "z"], "label": [0, 1, 0]}).to_csv(tmp_path / "b.csv")
    assert file_task(tmp_path / "a.csv", tmp_path / "b.csv", vocabulary=50).overlap() == 2
    assert file_task(tmp_path / "a.csv", tmp_path / "b.csv", vocabulary=50, pair="pair").overlap() == 1
    assert file_task(tmp_path / "a.csv", tmp_path / "a.csv", vocabulary=50).overlap() == 3
