"""The teacher cache: found again, never trusted when damaged, foreign or half-written."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import ROOT, opinionated
from datasets import Dataset

from kdlab.data.batches import Rows
from kdlab.data.masking import Masking, mask_once
from kdlab.errors import KdlabError
from kdlab.files import replaced_folder
from kdlab.models import new_masked_lm
from kdlab.models.sparse import DistributionReading, sparse_targets
from kdlab.models.tracing import places_of, trace_teacher
from kdlab.study.metrics import predict
from kdlab.teacher import filling as cache_fill
from kdlab.teacher.cache import TeacherCache
from kdlab.teacher.filling import Kept, columns_of


@pytest.fixture
def rows(task):
    return Rows(task["train"], 0)


LOGITS = {("logits", None)}
INSIDE = {("hidden_states", 0), ("hidden_states", 2), ("attention", 1)}


def look(teacher, rows, root, readings=LOGITS, **options):
    """What the cache says of all rows in their order, whether that was found, and whether the teacher was asked."""
    asked = []
    hook = teacher.base_model.register_forward_hook(lambda *_: asked.append(1))
    stored, found = TeacherCache(root, **options).open(teacher, rows, readings)
    hook.remove()
    return stored(rows.batch(list(range(len(rows))))), found, bool(asked)


def in_small_chunks(monkeypatch):
    monkeypatch.setattr(cache_fill, "CHUNK_MIB", 0)      # as few rows at a time as there may be
    monkeypatch.setattr(cache_fill, "ROWS_EACH", 16)


def expected_bytes(teacher, rows, readings):
    return Kept(columns_of(teacher, readings), None).bytes(teacher, rows)


def test_the_second_time_the_teacher_is_not_asked(teacher, rows, tmp_path):
    first, found, asked = look(teacher, rows, tmp_path)
    assert not found and asked
    again, found, asked = look(teacher, rows, tmp_path)
    assert found and not asked
    assert torch.equal(first.logits, again.logits) and torch.equal(first.logits, predict(teacher, rows))


@pytest.mark.parametrize("chunk", ["one", "many"])
def test_hidden_states_and_attention_are_those_of_the_teacher(teacher, rows, tmp_path, monkeypatch, chunk):
    if chunk == "many":
        in_small_chunks(monkeypatch)
    seen, *_ = look(teacher, rows, tmp_path, INSIDE)
    (file,) = tmp_path.glob("*/tokens-*.arrow")
    batches = pa.ipc.open_file(str(file)).num_record_batches
    assert batches == (1 if chunk == "one" else -(-len(rows) // 16))
    batch = rows.batch(list(range(len(rows))))
    live, real = trace_teacher(teacher, batch, ("hidden_states", "attention")), batch["attention_mask"].bool()
    for layer in (0, 2):
        torch.testing.assert_close(seen.hidden_states[layer][real], live.hidden_states[layer][real])
    assert seen.hidden_states[1] is None and seen.attention[1] is None and seen.logits is None
    for name in ("queries", "keys", "values"):
        ours, theirs = (getattr(x.attention[0], name).transpose(1, 2)[real] for x in (seen, live))
        torch.testing.assert_close(ours, theirs)
    pairs = real[:, None, :, None] & real[:, None, None, :]
    for_all = pairs.expand(-1, teacher.config.num_attention_heads, -1, -1)
    torch.testing.assert_close(seen.attention[0].scores()[for_all], live.attention[0].scores()[for_all])


def test_a_size_is_foretold_and_what_would_not_fit_is_not_kept(teacher, rows, tmp_path):
    look(teacher, rows, tmp_path, INSIDE)
    (entry,) = TeacherCache(tmp_path).entries()
    expected = expected_bytes(teacher, rows, INSIDE)
    assert expected < entry.bytes < 1.1 * expected + 5_000
    assert TeacherCache(tmp_path, 1.01 * expected / 2**30).fits(teacher, rows, INSIDE)
    assert not TeacherCache(tmp_path, 0.99 * expected / 2**30).fits(teacher, rows, INSIDE)


@pytest.fixture
def masked_rows(task):
    texts = task["transfer"]
    return Rows(mask_once(texts, Masking(task.tokenizer, Rows(texts, 0))), 0)


@pytest.fixture
def bert(task):
    return opinionated(new_masked_lm(task.tokenizer, 2, 32, seed=3), 3)


@pytest.mark.parametrize("chunk", ["one", "many"])
@pytest.mark.parametrize("where", ["tokens", "masked words"])
def test_of_a_language_model_s_distributions_a_few_tokens_are_kept_where_they_are_read(bert, masked_rows, tmp_path,
                                                                                      monkeypatch, where, chunk):
    if chunk == "many":
        in_small_chunks(monkeypatch)
    reading, cached = DistributionReading(where, 2.0), TeacherCache(tmp_path, likeliest=10, drawn=6)
    stored, found = cached.open(bert, masked_rows, LOGITS | {("hidden_states", 1)}, distribution=reading)
    assert not found
    (file,) = tmp_path.glob("*/places-*.arrow")
    assert pa.ipc.open_file(str(file)).num_record_batches == (1 if chunk == "one" else -(-len(masked_rows) // 16))
    every = masked_rows.batch(list(range(len(masked_rows))))
    asked = places_of(where, every)
    live = trace_teacher(bert, {**every, "places": asked}, ("logits", "hidden_states"))
    expected = sparse_targets(live.logits, 2.0, torch.arange(int(asked.sum())), 10, 6)
    some = torch.tensor([7, 0, 599, 31])
    batch = masked_rows.batch(some)
    # a term may read fewer places than are kept for all of them
    for places in (places_of(where, batch), places_of("masked words", batch)):
        seen = stored({**batch, "places": places})
        numbers = (asked.flatten().cumsum(0).view_as(asked) - 1)[some][:, :places.shape[1]][places]
        assert (seen.logits.classes == expected.classes[numbers]).double().mean() > 0.999   # ties, in the last bit
        torch.testing.assert_close(seen.logits.weights, expected.weights[numbers], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(seen.logits.entropy, expected.entropy[numbers], rtol=1e-4, atol=1e-4)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(seen.hidden_states[1][real], live.hidden_states[1][some][:, :real.shape[1]][real])
    mass = expected.weights[:, :10].sum(-1).mean().item()
    kept = stored.kept_tokens()
    assert (kept["likeliest"], kept["drawn"], kept["T"]) == (10, 6, 2.0)
    assert kept["mass"] == pytest.approx(mass, abs=0.02)
    (entry,) = cached.entries()
    size = Kept(("hidden_states.1", "logits"), reading, 10, 6).bytes(bert, masked_rows)
    assert size == 4 * (masked_rows.starts[-1] * 32 + asked.sum().item() * (2 * 16 + 1))
    assert size < entry.bytes < 1.1 * size + 5_000 + (40_000 if chunk == "many" else 0)
    assert entry.columns == ("hidden_states.1", f"10 + 6 tokens of the distributions at T = 2 of {where}")


def test_a_part_without_a_masked_word_is_kept_as_nothing(task, bert, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_fill, "CHUNK_MIB", 0)
    monkeypatch.setattr(cache_fill, "ROWS_EACH", 1)
    texts = task["transfer"].select(range(20))
    rows = Rows(mask_once(texts, Masking(task.tokenizer, Rows(texts, 0), rate=0.02)), 0)
    assert 0 in np.diff(rows.masked_starts)
    stored, _ = TeacherCache(tmp_path).open(bert, rows, LOGITS, distribution=DistributionReading("masked words", 1.0))
    batch = rows.batch(list(range(20)))
    seen = stored({**batch, "places": places_of("masked words", batch)})
    assert len(seen.logits.classes) == rows.masked_starts[-1] > 0


def test_another_way_of_reading_or_of_keeping_distributions_is_another_entry(bert, masked_rows, tmp_path):
    def opened(where="tokens", T=2.0, **kept):
        return TeacherCache(tmp_path, **kept).open(bert, masked_rows, LOGITS,
                                                             distribution=DistributionReading(where, T))
    assert not opened()[1] and opened()[1]
    for other in ({"T": 1.0}, {"where": "masked words"}, {"likeliest": 3}, {"drawn": 3}):
        assert not opened(**other)[1], other
        assert opened(**other)[1], other


def test_a_cache_that_would_keep_nothing_is_refused(tmp_path):
    for wrong in ({"likeliest": -1}, {"drawn": 0}):
        with pytest.raises(KdlabError, match="give 0 or more, and 1 or more"):
            TeacherCache(tmp_path, **wrong)


def test_the_longest_unused_make_room(teacher, rows, tmp_path):
    size = expected_bytes(teacher, rows, INSIDE) / 2**30
    for readings in (LOGITS, INSIDE, LOGITS):
        look(teacher, rows, tmp_path, readings)
        time.sleep(0.01)
    with torch.no_grad():
        teacher.classifier.bias[0] += 1
    look(teacher, rows, tmp_path, INSIDE, limit=1.3 * size)     # leaves no room for the first INSIDE beside LOGITS
    assert [entry.columns == ("logits",) for entry in TeacherCache(tmp_path).entries()] == [False, True]


def test_clearing_leaves_foreign_folders_alone(teacher, rows, tmp_path):
    look(teacher, rows, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text('{"name": "another program"}')
    assert len(TeacherCache(tmp_path).clear()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


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
    seen, found, asked = look(teacher, rows, tmp_path)
    assert not found and asked and torch.equal(seen.logits, expected.logits)
    assert look(teacher, rows, tmp_path)[1], "and the new one is sound"


def test_another_teacher_or_other_texts_never_find_it(teacher, task, rows, tmp_path):
    look(teacher, rows, tmp_path)
    with torch.no_grad():
        teacher.classifier.bias[0] += 1e-6
    seen, found, _ = look(teacher, rows, tmp_path)
    assert not found and torch.equal(seen.logits, predict(teacher, rows))
    reordered = Rows(task["train"].select(range(len(rows) - 1, -1, -1)), 0)
    seen, found, _ = look(teacher, reordered, tmp_path)
    assert not found and torch.equal(seen.logits, predict(teacher, reordered))
    another_word = task["train"].to_dict()
    another_word["input_ids"][0][1] += 1
    assert not look(teacher, Rows(Dataset.from_dict(another_word), 0), tmp_path)[1]


def test_a_teacher_that_fails_leaves_nothing_behind(teacher, rows, tmp_path):
    def fail(*_):
        raise RuntimeError("out of memory")
    teacher.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        TeacherCache(tmp_path / "cache").open(teacher, rows, LOGITS)
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


LARGE = """
import resource, sys
import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, BertConfig
from kdlab import QUIET
from kdlab.loop import Stage, distill
from kdlab.terms import HiddenStates
from kdlab.models import new_model
from kdlab.terms import Objective

def model(width):
    return new_model(BertConfig(vocab_size=800, hidden_size=width, num_hidden_layers=1, num_attention_heads=1,
                                intermediate_size=width, num_labels=2), AutoModelForSequenceClassification, 0)

def run(rows, **options):
    data = Dataset.from_dict({"input_ids": np.random.default_rng(0).integers(5, 800, (rows, 32))})
    stage = Stage(Objective([HiddenStates(((0, 0), (1, 1)), widths=(64, 1024))]), 40, 32)
    return distill(model(64), model(1024), data, stage, runtime=QUIET, **options)

def held(kind):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(kind)) / 1024

run(64)     # what a process takes once
before, peak = held("RssAnon"), []
resource.setrlimit(resource.RLIMIT_DATA, (int(held("VmData") + 400) * 2**20,) * 2)
done = run(3_000, cache=sys.argv[1], callbacks=[lambda run: peak.append(held("RssAnon"))])
print(str(done.report.teacher), max(peak) - before)
"""


def test_a_cache_may_be_larger_than_memory(tmp_path):
    """750 MiB, written by a process that may take 400 more, and read by one that does not take 375: it is mapped."""
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cache, filled") and float(done.stdout.split()[-1]) < 375
    assert TeacherCache(tmp_path).entries()[0].bytes > 740 * 2**20
