"""Comparisons: the same start for all, nothing run twice, and words that say no more than the numbers."""

from __future__ import annotations

import os
import re
import signal
import statistics

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, opinionated
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdlab.data.tasks import Task
from kdlab.errors import KdlabError
from kdlab.models import new_classifier
from kdlab.plots import forest
from kdlab.study import comparison as room
from kdlab.study.code import code_of
from kdlab.study.comparison import compare
from kdlab.study.metrics import evaluate
from kdlab.study.report import NO_TEACHER, SOFT_TARGETS, Comparison, Difference
from kdlab.study.search import sweep
from kdlab.terms import Custom, HardLabels, Objective, SoftTargets


def reverse(student, teacher, batch):
    return F.kl_div(teacher.logits.log_softmax(-1), student.logits.log_softmax(-1), log_target=True,
                    reduction="batchmean")


def backwards(setup):
    return setup.stage(Custom(reverse))


def twin(setup):
    return setup.stage(SoftTargets())


@pytest.fixture
def small(task):
    return Task(task.name, task.tokenizer, task.label_names, task.splits | {
        name: task[name].select(range(100)) for name in ("test", "validation")})


@pytest.fixture
def run(small, teacher, tmp_path):
    def run(methods, seeds=3, **options):
        options = {"budget": 4, "folder": tmp_path / "runs", "workers": 1, "progress": False, "batch_size": 16,
                   **options}
        return compare(methods, small, teacher, seeds=seeds,
                       new_student=lambda seed: new_classifier(small.tokenizer, small.label_names, 1, 32, seed=seed),
                       **options)
    return run


def test_a_method_that_is_a_baseline_differs_from_it_by_nothing(run):
    """Same weights, same order, same steps: then the same student, seed by seed."""
    found = run([twin])
    assert found.methods == (NO_TEACHER, SOFT_TARGETS, "twin")
    assert found.of("twin") == found.of(SOFT_TARGETS) and len(set(found.of("twin", "kl_teacher"))) == 3
    assert found.difference("twin", SOFT_TARGETS).values == (0, 0, 0)
    assert {run["steps"] for run in found.runs} == {4}
    texts = {run["method"]: run["texts"] for run in found.runs}
    assert texts == {NO_TEACHER: 400, SOFT_TARGETS: 600, "twin": 600}, "who reads labels has those that there are"


def test_adding_a_method_runs_that_one_alone_and_a_changed_one_is_run_again(run, monkeypatch):
    trained = []
    real = room.distill

    def counted(*given, **named):       # a rehearsal has no cache
        trained.extend([1] * ("cache" in named))
        return real(*given, **named)
    monkeypatch.setattr(room, "distill", counted)

    def runs(methods, **options) -> int:
        trained.clear()
        run(methods, **options)
        return len(trained)
    assert runs([twin]) == 9
    assert runs([twin]) == 0
    assert runs([twin, backwards]) == 3
    assert runs([twin, backwards], seeds=4) == 4
    assert runs([twin], learning_rate=2e-3) == 9, "other settings are another run"

    scale = 1.0

    def scaled(student, teacher, batch):
        return scale * reverse(student, teacher, batch)

    def method(setup):
        return setup.stage(Custom(scaled))
    assert runs([method]) == 3 and runs([method]) == 0
    scale = 2.0
    assert runs([method]) == 3, "a number that the loss looks up has changed"


def test_what_code_of_sees():
    def one(x):
        return helper(x) + number
    number = 1
    text = code_of(one)
    assert "return helper(x)" in text and "def helper" in text and "number = 1" in text
    assert text == code_of(one)
    number = 2
    assert code_of(one) != text
    assert code_of(lambda x: x + 1) != code_of(lambda x: x + 2)


def helper(x):
    return x


def test_processes_give_the_numbers_that_one_gives(run, small, teacher, tmp_path):
    """Rounding may differ with the number of threads, and what a student answers by it, on a text or two."""
    alone = run([backwards], seeds=2)
    together = run([backwards], seeds=2, workers=2, folder=tmp_path / "others")
    for method in alone.methods:
        assert together.of(method, "kl_teacher") == pytest.approx(alone.of(method, "kl_teacher"), rel=1e-3)
    assert [run["method"] for run in alone.runs] == [run["method"] for run in together.runs]


def test_an_interrupted_comparison_keeps_what_is_finished(run, monkeypatch, capsys, tmp_path):
    def stopping(setup):
        if sum(1 for _ in (tmp_path / "runs").glob("*.json")) >= 4 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGINT)
        return setup.stage(SoftTargets(T=3))
    flag = tmp_path / "stopped"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # in the background it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run([stopping])
    finally:
        signal.signal(signal.SIGINT, before)
    assert "runs are kept in" in capsys.readouterr().out
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert 3 <= len(kept) < 9
    run([stopping])
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert len(after) == 9 and after.items() >= kept.items()


def test_a_damaged_record_is_run_again(run, tmp_path):
    whole = run([twin], seeds=1)
    for path in (tmp_path / "runs").glob("*.json"):
        path.write_text(path.read_text()[:20])
    assert run([twin], seeds=1).of("twin") == whole.of("twin")


def test_a_term_or_an_objective_is_a_method(run):
    """It is the method that minimises it; what it learned in one run is no start for the next."""
    term, before = SoftTargets(), run([twin])
    found = run({"term": term, "objective": Objective([term]), "twin": twin})
    assert found.of("term") == found.of("objective") == found.of("twin") == before.of("twin")


def test_a_mistake_in_a_method_is_found_before_the_first_run(run, tmp_path):
    def forgets(student, teacher, batch):
        return student.logits[:, 0].mean() * batch["labels"].float().mean()

    def breaks(student, teacher, batch):
        return student.logits.mean() / len(batch["wrong"])
    with pytest.raises(KdlabError, match=r"the method 'forgets', seed 0: .*Custom\(forgets, labels=True\)"):
        run([Custom(forgets)])
    with pytest.raises(KdlabError, match=r"'breaks', seed 0, stopped with KeyError: 'wrong' \(line \d+ of breaks"):
        run([Custom(breaks)])
    assert not list((tmp_path / "runs").glob("*.json")), "no run was begun"


def test_the_readmes_method_runs(tmp_path, monkeypatch, capsys):
    """As it stands there, with fewer steps and seeds."""
    text = (ROOT / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "compare(" in block)
    monkeypatch.chdir(tmp_path)
    assert "seeds=8, budget=200" in code
    exec(code.replace("seeds=8, budget=200", "seeds=2, budget=2, workers=1, progress=False"), {})
    said = capsys.readouterr().out
    assert "mine" in said and "no spread to speak of" in said


def test_refused_in_one_sentence(run):
    def too_long(setup):
        return setup.stage(SoftTargets(), steps=5)

    def nothing(setup):
        return SoftTargets()

    def matrix(setup):
        return setup.stage(Custom(lambda student, teacher, batch: student.logits, name="m"))

    def bad(setup):
        return setup.stage(Custom(lambda student, teacher, batch: student.logits.sum() * float("nan"), name="bad"))
    for methods, options, said in (
            ([too_long], {}, "reads 80 texts and the budget is 64"),
            ([nothing], {}, "returned SoftTargets, not what a student is to do"),
            ([twin, twin], {}, "two methods are named 'twin'"),
            ({NO_TEACHER: twin}, {}, "is the name of a baseline"),
            ([twin], {"seeds": 0}, "give at least 1 of each"), ([twin], {"budget": 0}, "give at least 1 of each"),
            ([matrix], {}, r"returned a tensor of shape \(16, 5\)"),
            ([bad], {}, "the method 'bad', seed 0: the loss of the term 'bad' is nan at step 1"),
            ([twin], {"learn_from": "nowhere"}, "has no split 'nowhere'")):
        with pytest.raises(KdlabError, match=said) as caught:
            run(methods, **options)
        assert "\n" not in str(caught.value)


# ---- what the differences are worth ---------------------------------------------------------------------------------

def comparison(ours, theirs=(0.5, 0.5, 0.5, 0.5), own=("mine",)) -> Comparison:
    runs = [{"method": name, "seed": seed, "scores": {"accuracy": score}, "seconds": 1.0, "texts": 10}
            for name, scores in ((NO_TEACHER, theirs), (SOFT_TARGETS, theirs), *((name, ours) for name in own))
            for seed, score in enumerate(scores)]
    costs = {who: {"parameters": 10, "MFLOPs": 1.0, "latency_ms": 1.0} for who in ("teacher", "student")}
    return Comparison("t", "test", 400, 7, (NO_TEACHER, SOFT_TARGETS, *own), runs, {"accuracy": 0.6}, costs)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.floats(0.5, 0.99))
def test_the_interval_is_students_t(values, level):
    one = Difference(tuple(values), level)
    error = stats.sem(values)
    low, high = stats.t.interval(level, len(values) - 1, statistics.fmean(values), error) if error > 0 else \
        (statistics.fmean(values),) * 2
    assert (one.low, one.high) == pytest.approx((low, high), abs=1e-9)


def test_the_words_follow_the_interval():
    better = comparison((0.52, 0.53, 0.52, 0.53)).verdicts()
    assert better[0].startswith("'mine' is better than 'no teacher': +2.5 points of accuracy, interval +1.6 to +3.4")
    assert comparison((0.48, 0.47, 0.48, 0.47)).verdicts()[1].startswith("'mine' is worse than 'soft targets'")
    unclear = comparison((0.55, 0.47, 0.53, 0.49)).verdicts()[0]
    assert "are within the noise of each other: +1.0 points" in unclear
    seeds = int(unclear.split("about ")[1].split()[0])
    one = comparison((0.55, 0.47, 0.53, 0.49)).difference("mine", NO_TEACHER)
    assert one.half_width(seeds) < one.mean <= one.half_width(seeds - 1) and seeds > 4
    assert "no spread to speak of" in comparison((0.55, 0.53), (0.5, 0.5)).verdicts()[0]
    assert "±2.4 points" in better[-1], "(0.6 * 0.4 / 400) ** 0.5"


def test_who_tries_many_methods_is_held_to_more():
    scores = (0.52, 0.505, 0.515, 0.51)
    one, many = comparison(scores), comparison(scores, own=tuple("abcdefghij"))
    assert one.difference("mine", SOFT_TARGETS).low > 0 > many.difference("a", SOFT_TARGETS).low
    assert many.difference("a", SOFT_TARGETS).level == pytest.approx(0.995)
    assert any("hold for all 10 methods together" in said for said in many.verdicts())


def test_the_table_and_the_picture_say_the_same(run, small, teacher):
    found = run([backwards])
    text, page, seen = str(found), found._repr_html_(), found.picture()
    for score in ("accuracy", "fidelity"):
        values = found.of("backwards", score)
        cell = f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"
        assert cell in text and cell in page
    assert f"{evaluate(teacher, small['test'])['accuracy']:.3f}" in text
    one = found.difference("backwards", SOFT_TARGETS)
    assert f"backwards − soft targets {one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})" in seen.alt
    assert len(seen.png()) > 3_000 and "<script" not in page
    with pytest.raises(KdlabError, match="no difference to draw"):
        forest([], "accuracy")


# ---- the sweep ------------------------------------------------------------------------------------------------------

def test_a_sweep_reads_the_validation_split_and_no_other(small, teacher, tmp_path):
    pytest.importorskip("optuna")

    def build(trial):
        T = trial.suggest_float("T", 1, 8)
        return lambda setup: setup.stage(SoftTargets(T=T))
    options = {"trials": 3, "budget": 3, "folder": tmp_path, "batch_size": 16}
    unseen = {name: split for name, split in small.splits.items() if name != "test"}
    study = sweep(build, Task("t", small.tokenizer, small.label_names, unseen), teacher, **options)
    assert len(study.trials) == 3 and 1 <= study.best_params["T"] <= 8
    again = sweep(build, small, teacher, **options)
    assert [t.value for t in again.trials] == [t.value for t in study.trials]
    assert len(list(tmp_path.glob("*.json"))) == 3, "and nothing was run twice"
    with pytest.raises(KdlabError, match="no split 'validation'"):
        sweep(build, Task("t", small.tokenizer, small.label_names, {"train": small["train"]}), teacher, **options)


def test_a_validation_split_is_held_out_of_train(small):
    bare = Task("t", small.tokenizer, small.label_names, {name: small[name] for name in ("train", "test")})
    task = bare.with_validation(0.25)
    assert (len(task["train"]), len(task["validation"])) == (300, 100) and task["test"] is bare["test"]
    texts = set(task["train"]["text"][:]) | set(task["validation"]["text"][:])
    assert texts == set(bare["train"]["text"][:]) and task.with_validation() is task


def test_a_loss_of_ones_own_has_the_value_and_the_gradient_of_the_shipped_one(small, teacher):
    student = opinionated(new_classifier(small.tokenizer, small.label_names, 1, 32))
    from kdlab.data.batches import Rows
    from kdlab.models.tracing import trace, trace_teacher

    batch = Rows(small["train"], 0).batch(range(8))
    ours, theirs = trace(student, batch), trace_teacher(teacher, batch)
    own = Custom(lambda s, t, b: F.cross_entropy(s.logits, b["labels"]), labels=True, name="own")
    assert own(ours, theirs, batch).item() == pytest.approx(HardLabels()(ours, None, batch).item())
    gradients = [torch.autograd.grad(term(ours, theirs, batch), student.classifier.weight, retain_graph=True)[0]
                 for term in (own, HardLabels())]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0
    assert own.reads.batch == ("labels",) and own.reads.teacher == ("logits",)
