"""A run of two processes: the same numbers as one, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT
from safetensors import safe_open

from kdlab.files import replaced_file, replaced_folder

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no",
          "--dynamo_backend", "no", "--main_process_port", "0"]
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
SCRIPT = ROOT / "tests" / "engine" / "one_of_many.py"


def launch(folder, processes: int = 2, **settings) -> subprocess.Popen:
    """Start the script under `accelerate launch`, on CPUs, with processes that end together."""
    settings["out"] = str(folder / "out.json")
    command = [*LAUNCH, "--num_processes", str(processes), *(["--multi_gpu"] if processes > 1 else []), str(SCRIPT),
               json.dumps(settings)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | ENVIRONMENT, start_new_session=True, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def outcome(folder, **settings) -> dict:
    running = launch(folder, **settings)
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    return json.loads((folder / "out.json").read_text())


def test_two_processes_say_what_one_says(tmp_path):
    """At equal global batch, with a teacher of which each has half, outputs that each caches half of, and a batch that
    two do not divide."""
    settings = {"hidden": True, "batch_size": 33}
    one = outcome(tmp_path, processes=1, **settings)
    two = outcome(tmp_path, **settings, cache=str(tmp_path / "cache"), shard_teacher=True)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["history"]["loss"] == pytest.approx(one["history"]["loss"], rel=1e-4)
    assert two["teacher"] == one["teacher"], "the teacher is as it was"
    for name, values in one["weights"].items():
        assert two["weights"][name] == pytest.approx(values, abs=1e-4), name
    assert len(list((tmp_path / "cache").glob("*/rows-*.arrow"))) == 2
    again = outcome(tmp_path, processes=1, **settings, cache=str(tmp_path / "cache"), accumulate=4)
    assert "found" in again["report"]["teacher_said"], "one process finds what two have written"
    assert again["history"]["loss"] == pytest.approx(one["history"]["loss"], rel=1e-4)


def progress(checkpoint) -> int:
    """Steps in a checkpoint; 0 where there is none."""
    try:
        with safe_open(checkpoint / "state.safetensors", framework="pt") as file:
            return json.loads(file.metadata()["record"])["step"]
    except FileNotFoundError:
        return 0


def kill_once(folder, seed: int, **settings) -> int:
    """Start the run, and kill one worker or all of them, some steps or moments after it has gone on; returns the steps
    that the checkpoint held before."""
    dice, checkpoint = random.Random(seed), folder / "run"
    start, by_step = progress(checkpoint), dice.random() < 0.5
    die = {"die": start + dice.randint(1, 9), "all": dice.random() < 0.5, "who": dice.randint(0, 1)}
    running = launch(folder, **settings, **(die if by_step else {}))
    if not by_step:
        while progress(checkpoint) == start and running.poll() is None:
            time.sleep(0.02)
        time.sleep(dice.random() / 10)
        launcher = psutil.Process(running.pid)
        for process in [*launcher.children(recursive=True), launcher]:
            process.kill()
    said, _ = running.communicate(timeout=300)
    assert running.returncode != 0, said
    return start


def undisturbed_and_killed(folder, kills: int) -> None:
    settings = {"dropout": 0.1, "steps": 40 * kills, "checkpoint_every": 2, "hidden": True}
    (folder / "a").mkdir(), (folder / "b").mkdir()
    whole = outcome(folder / "a", **settings)
    settings["checkpoint"] = str(folder / "b" / "run")
    starts = [kill_once(folder / "b", number, **settings) for number in range(kills)]
    print("steps done before each kill:", starts)
    assert len(set(starts)) > 0.7 * kills, "a worker may die before the next checkpoint, but not every time"
    end = outcome(folder / "b", **settings)
    assert 1 < end["first"] < settings["steps"], "it went on from a checkpoint"
    assert end["student"] == whole["student"] and end["history"] == whole["history"]
    assert [path.name for path in (folder / "b" / "run").iterdir()] == ["state.safetensors"], "nothing is left behind"


def test_killed_and_resumed_is_undisturbed(tmp_path):
    undisturbed_and_killed(tmp_path, 2)


@pytest.mark.slow       # 20 starts of two processes
def test_killed_twenty_times_is_undisturbed(tmp_path):
    undisturbed_and_killed(tmp_path, 20)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    settings = {"steps": 20, "checkpoint_every": 5}
    whole = outcome(tmp_path, processes=1, **settings)
    settings["checkpoint"] = str(tmp_path / "run")
    running = launch(tmp_path, **settings, die=12, all=True)
    running.communicate(timeout=300)
    assert running.returncode != 0
    end = outcome(tmp_path, processes=1, **settings)
    assert end["first"] == 11
    assert end["history"]["loss"] == pytest.approx(whole["history"]["loss"], rel=1e-4)


def test_a_process_ends_well_while_gloo_is_at_work(tmp_path):
    """It ended by SIGABRT, once in many runs on a busy machine; here the interpreter's end is drawn out."""
    running = launch(tmp_path, leave=True)
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said


def test_what_a_killed_process_left_unfinished_is_swept_away(tmp_path):
    done = subprocess.run([sys.executable, "-c", (
        "import os, pathlib; from kdlab.files import replaced_file, replaced_folder\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "with replaced_folder(here / 'folder') as a, replaced_file(here / 'file') as b:\n"
        "    (a / 'x').write_text('x'); b.write_text('x')\n"
        "    (b.parent / '.tmp4oZ').write_text('x')     # safetensors writes here first\n"
        "    os.kill(os.getpid(), 9)")], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    with replaced_folder(tmp_path / "folder"), replaced_file(tmp_path / "file") as file:
        assert len(list(tmp_path.iterdir())) == 2, "what nobody works on is gone, and ours is there"
        file.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_command_line_is_shared_and_said_once(world, tmp_path):
    """Two processes, one of them killed on the way: one report, one progress bar, and the same folder as always."""
    for name, size, seed in (("train", 300, 1), ("dev", 100, 2)):
        world.dataset(size, seed=seed).to_pandas()[["text", "label"]].to_csv(tmp_path / f"{name}.csv", index=False)
    command = [*LAUNCH, "--num_processes", "2", "--multi_gpu", "-m", "kdlab", "distill", "--data",
               str(tmp_path / "train.csv"), "--eval", str(tmp_path / "dev.csv"), "--out", str(tmp_path / "out"),
               "--teacher-layers", "1", "--teacher-width", "32", "--student-layers", "1", "--student-width", "32",
               "--seeds", "1", "--vocabulary", "300", "--checkpoint-every", "1"]
    for last in (False, True):
        running = subprocess.Popen(command, cwd=ROOT, env=os.environ | ENVIRONMENT, start_new_session=True, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not last:
            while not (tmp_path / "out" / "progress" / "teacher").exists() and running.poll() is None:
                time.sleep(0.02)
            psutil.Process(running.pid).children(recursive=True)[-1].kill()
        said, _ = running.communicate(timeout=300)
        assert (running.returncode == 0) == last, said
    assert said.count("student, with teacher, seed 0") == 1 and said.count("written:") == 1, said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["processes"] == 2
    assert report["runs"]["student, with teacher, seed 0"]["teacher"]["source"] == "cache"
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["cache", "report.json", "report.txt", "student", "teacher"]
