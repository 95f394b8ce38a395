"""Whatever is wrong with what the command is given: one sentence with a remedy, exit status 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertConfig

from kdlab.cli import main
from kdlab.data.tasks import train_tokenizer
from kdlab.models import new_masked_lm, new_model, save

TEXTS = ["the soup was good .", "we hated the rude host .", "a fine lunch", "never again"]
TABLE = pd.DataFrame({"text": TEXTS * 6, "label": ["good", "bad"] * 12, "score": [1.5, -0.5] * 12})
SMALL = ["--teacher-layers", "1", "--teacher-width", "32", "--student-layers", "1", "--student-width", "32",
         "--seeds", "1", "--teacher-epochs", "1", "--student-epochs", "1", "--vocabulary", "60"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Sound files and models, to be copied and spoilt."""
    here = tmp_path_factory.mktemp("originals")
    for name in ("train", "dev"):
        TABLE.to_csv(here / f"{name}.csv", index=False)
    tokenizer = train_tokenizer(TEXTS, 60, 32)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=32, id2label={0: "bad", 1: "good"},
                        label2id={"bad": 0, "good": 1})
    save(new_model(config, AutoModelForSequenceClassification), tokenizer, here / "teacher")
    save(new_masked_lm(tokenizer, 1, 32), tokenizer, here / "masked")
    return here


@pytest.fixture
def here(originals, tmp_path):
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(path, **fields) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | fields))


def spoil(path, start: int, content: bytes = b"") -> None:
    path.write_bytes(path.read_bytes()[:start] + content)


def pickle_alone(here) -> None:
    (here / "teacher" / "model.safetensors").rename(here / "teacher" / "pytorch_model.bin")


def weights(here, act) -> None:
    path = here / "teacher" / "model.safetensors"
    tensors = load_file(path)
    act(tensors)
    save_file(tensors, path, {"format": "pt"})


def csv(here, **columns) -> None:
    TABLE.assign(**columns).to_csv(here / "train.csv", index=False)


# What is done to the files, what is added to the command, and what the sentence has to say.
FILES = {
    "no such file": (None, ["--data", "{here}/nowhere.csv"], "there is no such file; check the path"),
    "no such file to score on": (None, ["--eval", "{here}/nowhere.csv"], "nowhere.csv: there is no such file"),
    "nothing to score on": (None, ["--eval", ""], "there is no file to score on; give one with --eval"),
    "unknown extension": (lambda h: (h / "train.csv").rename(h / "train.xls"), ["--data", "{here}/train.xls"],
                          "the extension '.xls' is not known; save the file as .csv"),
    "empty": (lambda h: (h / "train.csv").write_text(""), [], "the file is empty; give a header line"),
    "header alone": (lambda h: (h / "train.csv").write_text("text,label\n"), [], "has no rows; give at least one"),
    "no text column": (None, ["--text", "sentence"], "there is no column 'sentence'; name one of text, label, score"),
    "no label column": (None, ["--label", "stars"], "there is no column 'stars'; name one of"),
    "no pair column": (None, ["--pair", "other"], "there is no column 'other'; name one of"),
    "no text": (lambda h: csv(h, text=[*TEXTS * 5, *TEXTS[:3], ""]), [], "row 24: there is no text in the column"),
    "no label": (lambda h: csv(h, label=["good", " ", *["bad"] * 22]), [], "row 2: there is no label in the column"),
    "Latin-1": (lambda h: (h / "train.csv").write_bytes("text,label\nsoup,good\ncafé,bad\n".encode("latin-1")), [],
                "row 2: the bytes are not UTF-8; save the file as UTF-8"),
    "UTF-16": (lambda h: (h / "train.csv").write_text("text,label\nsoup,good\n", encoding="utf-16"), [],
               "the bytes are not UTF-8"),
    "a row with too many cells": (lambda h: (h / "train.csv").write_text("text,label\na,b\na,b,c,d\n"), [],
                                  "this cannot be read as comma-separated"),
    "broken JSON": (lambda h: (h / "train.jsonl").write_text('{"text": "a", "label"\n'),
                    ["--data", "{here}/train.jsonl"], "this cannot be read as JSON lines"),
    "no Parquet": (lambda h: (h / "train.parquet").write_text("text"), ["--data", "{here}/train.parquet"],
                   "this cannot be read as Parquet"),
    "one class": (lambda h: csv(h, label="good"), [], "every row has the label 'good'; a classifier needs at least"),
    "a label that only the other file has": (lambda h: csv(h, label=["good", "fair"] * 12), [],
                                             "dev.csv, row 2: the label 'bad' does not occur in"),
    "words for numbers": (None, ["--regression"], "row 1: the label 'good' is no number, and this task is a"),
    "infinity": (lambda h: csv(h, score=[1.0] * 23 + [float("inf")]), ["--regression", "--label", "score"],
                 "row 24: the label 'inf' is no number"),
    "a folder without data": (lambda h: (h / "set").mkdir(), ["--data", "{here}/set", "--eval", "validation"],
                              "split train: this cannot be read"),
    "a split that is not there": (lambda h: ((h / "set").mkdir(), shutil.copy(h / "train.csv", h / "set")),
                                  ["--data", "{here}/set", "--eval", "validation"], "check --data, --subset and the"),
    "a subset that is not there": (lambda h: ((h / "set").mkdir(), shutil.copy(h / "train.csv", h / "set")),
                                   ["--data", "{here}/set", "--eval", "train", "--subset", "qqp"], "'qqp' not found"),
    "the Hub without a network": (None, ["--data", "nyu-mll/glue", "--eval", "validation"],
                                  "hf download nyu-mll/glue --repo-type dataset --local-dir FOLDER"),
}
SETTINGS = {
    **{f"{name} {value}": (None, [f"--{name}", value], f"{name} is {float(value) if '.' in value else value}")
       for name, value in (("seeds", "0"), ("batch-size", "-3"), ("student-layers", "0"), ("student-width", "-32"),
                           ("student-learning-rate", "0.0"), ("T", "nan"), ("student-epochs", "-1.0"))},
    "accumulate 0": (None, ["--accumulate", "0"], "accumulate is 0; it must be 1 or more"),
    "checkpoint-every 0": (None, ["--checkpoint-every", "0"],
                           "a checkpoint is to be saved every 0 steps; give 1 or more"),
    "max-tokens 2": (None, ["--max-tokens", "2"], "max-tokens is 2; give at least 3"),
    "vocabulary 0": (None, ["--vocabulary", "0"], "vocabulary is 0; give at least"),
}
TEACHER = ["--teacher", "{here}/teacher"]
MODELS = {
    "no such folder": (None, ["--teacher", "{here}/nobody/at/home"], "there is no model folder"),
    "no weights": (lambda h: (h / "teacher" / "model.safetensors").unlink(), TEACHER, "this cannot be loaded as a cl"),
    "weights cut short": (lambda h: spoil(h / "teacher" / "model.safetensors", 9_000), TEACHER,
                          "this cannot be loaded as a classifier"),
    "weights of rubbish": (lambda h: spoil(h / "teacher" / "model.safetensors", 0, b"rubbish" * 99), TEACHER,
                           "this cannot be loaded as a classifier"),
    "weights that are no numbers": (lambda h: weights(h, lambda t: t["classifier.weight"].fill_(torch.nan)), TEACHER,
                                    "the weights of 'classifier.weight' are not all numbers"),
    "weights that lack a layer": (lambda h: weights(h, lambda t: t.pop("bert.encoder.layer.1.output.dense.bias")),
                                  TEACHER, "the weights lack 'bert.encoder.layer.1.output.dense.bias'"),
    "weights of another width": (lambda h: change(h / "teacher" / "config.json", hidden_size=64), TEACHER,
                                 "teacher: "),
    "weights of another architecture": (lambda h: change(h / "teacher" / "config.json", model_type="distilbert"),
                                        TEACHER, "teacher: "),
    "an unknown architecture": (lambda h: change(h / "teacher" / "config.json", model_type="dreamer"), TEACHER,
                                "this cannot be loaded as a classifier"),
    "a configuration of rubbish": (lambda h: (h / "teacher" / "config.json").write_text("[1, 2"), TEACHER,
                                   "this cannot be loaded as a classifier"),
    "pickled weights alone": (pickle_alone, TEACHER, "this cannot be loaded as a classifier"),
    "no tokenizer": (lambda h: [p.unlink() for p in (h / "teacher").glob("tokenizer*")], TEACHER,
                     "this cannot be loaded as a classifier"),
    "a language model for a classifier": (None, ["--teacher", "{here}/masked"], "so part of the model would be random"),
    "labels of its own": (lambda h: change(h / "teacher" / "config.json", id2label={"0": "x", "1": "y"},
                                           label2id={"x": 0, "y": 1}), TEACHER,
                          "the labels are bad, good and the teacher's x, y; write the teacher's into the data"),
    "two outputs for a regression": (None, [*TEACHER, "--regression", "--label", "score"],
                                     "this teacher has 2 outputs, and the task needs 1"),
    "a vocabulary that the tokenizer overruns": (
        lambda h: (change(h / "teacher" / "config.json", vocab_size=20), weights(h, lambda t: t.update({
            "bert.embeddings.word_embeddings.weight":
                t["bert.embeddings.word_embeddings.weight"][:20].contiguous()}))), TEACHER, "vocabulary"),
    "more layers than there are": (None, [*TEACHER, "--student", "layer-drop", "--student-layers", "9"],
                                   "9 layers cannot be kept of the teacher's 2; take 1 to 2"),
    "no such student": (None, ["--student", "{here}/nobody/at/home"], "there is no model folder"),
    "the Hub without a network": (None, ["--teacher", "owner/name"], "hf download owner/name --local-dir FOLDER"),
}
PLACES = {
    "a file": (None, ["--out", "{here}/train.csv"], "nothing can be written there (File exists)"),
    "below a file": (None, ["--out", "{here}/train.csv/out"], "nothing can be written there (Not a directory)"),
    "where nobody may write": (None, ["--out", "/proc/kdlab"], "nothing can be written there"),
}
CASES = [pytest.param(*case, id=f"{group}: {name}")
         for group, cases in (("files", FILES), ("settings", SETTINGS), ("models", MODELS), ("places", PLACES))
         for name, case in cases.items()]


def test_there_are_enough_of_them():
    assert len(CASES) >= 40


@pytest.mark.parametrize(("spoiled", "more", "said"), CASES)
def test_one_sentence_status_2_and_nothing_left_behind(here, capsys, spoiled, more, said):
    if spoiled:
        spoiled(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    command = ["distill", "--data", f"{here}/train.csv", "--eval", f"{here}/dev.csv", "--out", f"{here}/out", *SMALL,
               *(word.format(here=here) for word in more)]
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()
    error = [line for line in error if not line.startswith(("Generating", "Retrying"))]
    assert len(error) == 1 and error[0].startswith("kdlab: ") and said in error[0], error
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    assert not (here / "out").exists()


def test_the_sound_files_are_sound(here):
    """Else the cases would say nothing."""
    assert main(["distill", "--data", f"{here}/train.csv", "--eval", f"{here}/dev.csv", "--out", f"{here}/out",
                 *SMALL, *(word.format(here=here) for word in TEACHER)]) == 0


@pytest.mark.parametrize("limit", [60_000, 200_000])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(here, limit):
    """A process that may write no larger file meets what a full disk says: at the checkpoint, and at the model."""
    code = (f"import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from kdlab.cli import main; "
            "sys.exit(main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", code, "distill", "--data", f"{here}/train.csv", "--eval",
                           f"{here}/dev.csv", "--out", f"{here}/out", *SMALL, "--teacher-width", "96"],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert "nothing can be written there" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (here / "out" / "report.json").exists()
    left = [path.name for path in here.rglob(".*") if path.name not in (".gitignore",)]
    assert left == [], "no unfinished file"


def test_progress_that_was_damaged_is_refused_and_not_overwritten(here, capsys):
    (here / "out" / "progress" / "teacher").mkdir(parents=True)
    state = here / "out" / "progress" / "teacher" / "state.safetensors"
    state.write_bytes(b"rubbish" * 99)
    command = ["distill", "--data", f"{here}/train.csv", "--eval", f"{here}/dev.csv", "--out", f"{here}/out", *SMALL]
    assert main(command) == 2
    assert "no whole checkpoint" in capsys.readouterr().err and state.read_bytes() == b"rubbish" * 99


@pytest.mark.parametrize(("more", "said"), [
    (["{here}/nobody/at/home", "--eval", "{here}/dev.csv"], "there is no model folder"),
    (["{here}/teacher", "--eval", "{here}/nowhere.csv"], "there is no such file"),
    (["{here}/teacher", "--eval", "{here}/dev.csv", "--out", "{here}/dev.csv"], "nothing can be written there"),
])
def test_the_export_too(here, capsys, more, said):
    before = sorted(here.rglob("*"))
    assert main(["export", *(word.format(here=here) for word in more)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and sorted(here.rglob("*")) == before
