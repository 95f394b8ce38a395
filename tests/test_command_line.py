"""`python -m kdlab` as a user meets it: a real process, real files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from kdlab.cli import main
from kdlab.data.batches import Rows
from kdlab.models import load_classifier
from kdlab.teacher.cache import TeacherCache

SMALL = ["--teacher-layers", "1", "--teacher-width", "32", "--student-layers", "1", "--student-width", "32",
         "--teacher-epochs", "1", "--student-epochs", "1", "--seeds", "2", "--vocabulary", "300"]


@pytest.fixture
def files(world, tmp_path):
    """Reviews of the built-in world as somebody's CSV files with three labels."""
    names = ("bad", "bad", "middling", "good", "good")
    for name, size, seed in (("train", 300, 1), ("dev", 100, 2)):
        data = world.dataset(size, seed=seed)
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["review", "opinion"])
            rows.writerows(zip(data["text"][:], (names[y] for y in data["label"][:]), strict=True))
    return tmp_path


def command(files, *more) -> list[str]:
    return ["distill", "--data", str(files / "train.csv"), "--eval", str(files / "dev.csv"), "--text", "review",
            "--label", "opinion", "--out", str(files / "out"), *SMALL, *more]


def test_help_in_a_process_of_its_own_is_quick_to_the_point():
    for arguments, wanted in (([], "distill"), (["distill"], "--student-layers"),
                              (["teacher"], "--pretraining-steps"), (["cache"], "--clear")):
        done = subprocess.run([sys.executable, "-X", "importtime", "-m", "kdlab", *arguments, "--help"],
                              capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0 and wanted in done.stdout
        assert "torch" not in done.stderr, "help needs no torch"


def test_peer_defect_10_no_baseline_from_files_to_report_and_models(files, capsys):
    """peers.md 6.10: the report always has the same student without a teacher, of several seeds, at equal steps."""
    assert main(command(files)) == 0
    said = capsys.readouterr().out
    assert "student, with teacher, seed 1" in said and "soft targets=" in said and "it/s" in said
    report = json.loads((files / "out" / "report.json").read_text())
    assert report["labels"] == ["bad", "good", "middling"]
    assert list(report["scores"]) == ["teacher", "student, no teacher", "student, with teacher"]
    for name, scores in report["scores"].items():
        assert scores["accuracy"]["seeds"] == (1 if name == "teacher" else 2)
        assert 0 <= scores["accuracy"]["mean"] <= 1
    assert "fidelity" in report["scores"]["student, no teacher"]
    for model in ("teacher", "student"):
        assert set(report["costs"][model]) == {"parameters", "flops", "latency_ms"}
        loaded, _ = load_classifier(files / "out" / model)
        assert list(loaded.config.id2label.values()) == report["labels"]
    steps = {run["steps"] for name, run in report["runs"].items()}
    assert len(steps) == 1, "equal budgets"
    table = (files / "out" / "report.txt").read_text()
    assert table in said
    assert f"{report['scores']['teacher']['accuracy']['mean']:.4f}" in table


@pytest.mark.parametrize(("change", "said"), [
    ({"--text": "reveiw"}, r"train.csv: there is no column 'reveiw'; name one of review, opinion"),
    ({"--data": "nowhere.csv"}, "nowhere.csv: there is no such file"),
    ({"--seeds": "0"}, "seeds is 0"), ({"--batch-size": "-3"}, "batch-size is -3"), ({"--T": "nan"}, "T is nan"),
])
def test_bad_input_is_one_sentence_status_2_and_nothing_written(files, capsys, change, said):
    assert main(command(files, *(word for pair in change.items() for word in pair))) == 2     # the last one counts
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (files / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_told_before_the_training(files, capsys):
    assert main(command(files, "--out", str(files / "train.csv"), "--teacher-epochs", "1000")) == 2
    said = capsys.readouterr().err
    assert "train.csv: nothing can be written there (File exists); make room, or choose another place" in said


def test_an_interrupt_ends_the_command_without_a_report(files):
    arguments = command(files, "--teacher-epochs", "500")
    process = subprocess.Popen([sys.executable, "-m", "kdlab", *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout.readline().startswith("teacher")
    for _ in range(200):
        if "it/s" in process.stdout.read(100):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in error and "Traceback" not in error
    assert not (files / "out" / "report.json").exists()


def test_the_cache_is_listed_and_cleared(task, teacher, tmp_path, capsys):
    for readings in ({("logits", None)}, {("hidden_states", 1)}):
        TeacherCache(tmp_path).open(teacher, Rows(task["train"], 0), readings)
    assert main(["cache", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "400 rows" in said and "BertForSequenceClassification, 2 x 32: hidden_states.1" in said
    assert said.splitlines()[-1].startswith("2 entries, ")
    assert main(["cache", str(tmp_path), "--clear"]) == 0
    assert "removed: 2 entries" in capsys.readouterr().out and list(tmp_path.iterdir()) == []
    assert main(["cache", str(tmp_path / "nothing")]) == 0 and "0 entries" in capsys.readouterr().out
