"""The teacher cache: found again, never trusted when damaged, foreign or half-written."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from kdlab.batches import Rows
from kdlab.cache import cached_teacher
from kdlab.files import replaced_folder
from kdlab.measure import predict


@pytest.fixture
def rows(task):
    return Rows(task["train"], 0)


def look(teacher, rows, root):
    """The cached logits in the rows' order, whether they were found, and how often the teacher was asked."""
    asked = []
    stored, found = cached_teacher(teacher, rows, root, lambda: asked.append(1) or predict(teacher, rows))
    order = torch.arange(len(rows))
    return stored({"row": order}).logits, found, len(asked)


def test_the_second_time_the_teacher_is_not_asked(teacher, rows, tmp_path):
    first, found, asked = look(teacher, rows, tmp_path)
    assert not found and asked == 1
    again, found, asked = look(teacher, rows, tmp_path)
    assert found and asked == 0
    assert torch.equal(first, again) and torch.equal(first, predict(teacher, rows))


@pytest.mark.parametrize("damage", ["a changed byte", "a file cut short", "no manifest", "a manifest of rubbish"])
def test_a_damaged_cache_is_computed_again(teacher, rows, tmp_path, damage):
    expected, *_ = look(teacher, rows, tmp_path)
    (folder,) = tmp_path.iterdir()
    arrow, manifest = next(folder.glob("*.arrow")), folder / "manifest.json"
    content = arrow.read_bytes()
    if damage == "a changed byte":
        arrow.write_bytes(content[:-500] + bytes([content[-500] ^ 1]) + content[-499:])
    elif damage == "a file cut short":
        arrow.write_bytes(content[:-64])
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("[1, 2")
    logits, found, asked = look(teacher, rows, tmp_path)
    assert not found and asked == 1 and torch.equal(logits, expected)
    assert look(teacher, rows, tmp_path)[1], "and the new one is sound"


def test_another_teacher_or_other_texts_never_find_it(teacher, task, rows, tmp_path):
    look(teacher, rows, tmp_path)
    with torch.no_grad():
        teacher.classifier.bias[0] += 1e-6
    logits, found, _ = look(teacher, rows, tmp_path)
    assert not found and torch.equal(logits, predict(teacher, rows))
    reordered = Rows(task["train"].select(range(len(rows) - 1, -1, -1)), 0)
    logits, found, _ = look(teacher, reordered, tmp_path)
    assert not found and torch.equal(logits, predict(teacher, reordered))
    another_word = task["train"].to_dict()
    another_word["input_ids"][0][1] += 1
    assert not look(teacher, Rows(Dataset.from_dict(another_word), 0), tmp_path)[1]


def test_a_teacher_that_fails_leaves_nothing_behind(teacher, rows, tmp_path):
    def fail():
        raise RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        cached_teacher(teacher, rows, tmp_path / "cache", fail)
    assert list((tmp_path / "cache").glob("*")) == []


def test_a_folder_that_is_in_the_way_for_a_moment_only_is_no_error(tmp_path, monkeypatch):
    replace, refusals = os.replace, [OSError(errno.ENOTEMPTY, "Directory not empty")]

    def refuse_once(source, target):
        if refusals:
            raise refusals.pop()
        replace(source, target)
    monkeypatch.setattr(os, "replace", refuse_once)
    with replaced_folder(tmp_path / "shared") as unfinished:
        (unfinished / "a").write_text("one")
    assert (tmp_path / "shared" / "a").read_text() == "one"


def _write_often(folder: str, content: str) -> None:
    for _ in range(100):
        with replaced_folder(Path(folder)) as unfinished:
            (unfinished / "a").write_text(content)
            (unfinished / "b").write_text(content)


def test_two_processes_that_write_the_same_folder_leave_one_of_the_two(tmp_path):
    folder = tmp_path / "shared"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(str(folder), content)) for content in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]
