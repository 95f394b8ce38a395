"""The engine's promises (DESIGN.md), each with a test that can fail."""

import json
import math
import os
import signal
import threading
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import opinionated
from safetensors import safe_open
from transformers import AutoModelForMaskedLM, ElectraConfig

from kdlab.data import batches
from kdlab.data.batches import LengthBatches, Rows, in_order, shuffled, typical_batch
from kdlab.data.masking import Masking, mask_once
from kdlab.engine import precision
from kdlab.engine.callbacks import Probes
from kdlab.engine.checkpoint import Checkpoint
from kdlab.engine.run import QUIET, Runtime
from kdlab.errors import KdlabError
from kdlab.loop import Run, Stage, distill
from kdlab.models import fingerprint, new_classifier, new_masked_lm, new_model
from kdlab.models.tracing import trace, trace_teacher
from kdlab.study.metrics import predict
from kdlab.teacher.cache import TeacherCache
from kdlab.teacher.source import TeacherSource
from kdlab.terms import Custom, HardLabels, HiddenCosine, HiddenStates, MaskedLM, Objective, Reads, SoftTargets, Term


def soft(steps=12, **settings):
    return Stage(Objective([SoftTargets(), HardLabels(0.5)]), steps, batch_size=32, **settings)


def quiet(student, task, stages, teacher=None, split="train", *, probes=None, keep_weights=False, checkpoint=None,
          checkpoint_every=200, watch=None, precision="no", **options):
    callbacks = [Probes(probes, keep_weights)] if probes is not None else []
    callbacks += [Checkpoint(checkpoint, checkpoint_every)] if checkpoint else []
    callbacks += [watch] if watch else []
    return distill(student, teacher, task[split], stages, callbacks=callbacks,
                   runtime=Runtime(precision, progress=False), **options)


# ---- the teacher --------------------------------------------------------------------------------

def test_peer_defect_2_teacher_with_dropout(task, teacher):
    """TinyBERT's scripts never call eval(): two passes over one batch differed by 0.018."""
    batch = Rows(task["train"], 0).batch([0, 1, 2])
    teacher.train()
    first, second = (trace_teacher(teacher, batch).logits for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad
    teacher.train()
    assert not torch.equal(*(trace(teacher, batch).logits for _ in range(2))), "no dropout: this test is void"


def test_a_run_shown_by_a_notebook_is_one_line(task, student, teacher):
    run = quiet(student, task, soft(), teacher)
    assert repr(run).startswith(f"Run({soft().steps} steps, loss {run.history['loss'][0]:.3f} -> ")
    assert repr(run).endswith("teacher: live)") and len(repr(run)) < 120 and repr(Run()) == "Run(0 steps)"


def test_teacher_is_bit_identical_after_a_run(task, student, teacher):
    before, student_before = fingerprint(teacher), fingerprint(student)
    quiet(student, task, soft(), teacher)
    assert fingerprint(teacher) == before
    assert fingerprint(student) != student_before


def test_peer_defect_9_teacher_and_student_swapped(task, student, teacher):
    """keras-io #257, labml #66: the student must move towards the teacher, the teacher nowhere."""
    rows, teacher_logits = task["validation"], predict(teacher, task["validation"])
    def distance():
        return torch.nn.functional.mse_loss(predict(student, rows).softmax(-1), teacher_logits.softmax(-1)).item()
    before = distance()
    quiet(student, task, Stage(Objective([SoftTargets()]), 150), teacher, split="transfer")
    assert distance() < 0.7 * before


def test_peer_defect_8_a_student_that_stayed_in_eval_mode(task, student, teacher):
    """peers.md 6.8: after a look at the probes the student must train on, with its dropout."""
    modes = []
    student.bert.embeddings.dropout.register_forward_hook(lambda module, *_: modes.append(module.training))
    quiet(student, task, soft(), teacher, probes=task["validation"].select(range(4)))
    assert modes.count(True) == soft().steps, "every training step has dropout"
    assert modes.count(False) > 0, "and no probe"


# ---- the same numbers ---------------------------------------------------------------------------

def test_same_seed_same_numbers_and_another_seed_others(task):
    def run(seed):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        return quiet(model, task, Stage(Objective([HardLabels()]), 8), seed=seed).history["loss"], fingerprint(model)
    torch.manual_seed(99)
    first = run(0)
    torch.manual_seed(7)            # whatever the page did before
    assert run(0) == first
    assert run(1) != first


def test_a_run_leaves_the_random_state_of_the_page_alone(task, student):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quiet(student, task, Stage(Objective([HardLabels()]), 2))
    assert torch.equal(torch.rand(3), expected)


def test_same_numbers_with_and_without_the_cache(task, teacher, tmp_path):
    def run(**options):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        return quiet(model, task, soft(30), teacher, **options), model
    live, live_model = run()
    filled, _ = run(cache=tmp_path)
    found, found_model = run(cache=tmp_path)
    assert live.report.teacher.source == "live"
    assert not filled.report.teacher.found and found.report.teacher.found
    assert filled.history == found.history
    # the cache computes in other batches, so its matrix products round differently in the last bit
    assert live.history["loss"] == pytest.approx(found.history["loss"], rel=1e-4)
    rows = task["validation"]
    torch.testing.assert_close(predict(live_model, rows), predict(found_model, rows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("terms", ["DistilBERT", "MobileBERT"])
def test_a_language_model_s_numbers_are_the_same_from_a_cache_of_all_tokens(task, tmp_path, terms):
    texts = task["transfer"]
    data = mask_once(texts, Masking(task.tokenizer, Rows(texts, 0)))

    def run(**options):
        student, bert = (new_masked_lm(task.tokenizer, 1, 32, dropout=0.0, seed=i) for i in (1, 2))
        objective = Objective({"DistilBERT": [SoftTargets(5), MaskedLM(2), HiddenCosine(((1, 1),))],
                               "MobileBERT": [SoftTargets(0.5, 1.0, only_masked=True), MaskedLM(0.5)]}[terms])
        done = distill(student, opinionated(bert, 3), data, Stage(objective, 12, 32), runtime=QUIET, **options)
        return done.history["loss"], str(done.report.teacher)

    live, whole, few = (run(**options) for options in (
        {}, {"cache": TeacherCache(tmp_path, likeliest=len(task.tokenizer))}, {"cache": tmp_path}))
    assert live[1] == "live" and whole[1] == f"cache, filled in {tmp_path}; distributions in whole"
    assert whole[0] == pytest.approx(live[0], rel=1e-4)
    assert "; of each distribution the 32 likeliest tokens" in few[1] and few[1].endswith("32 drawn from the others")
    assert few[0] == pytest.approx(live[0], rel=0.05) and few[0] != pytest.approx(live[0], rel=1e-4)


def test_logits_of_a_language_model_that_a_term_reads_themselves_are_not_cached(task, tmp_path):
    texts = task["transfer"].select(range(40))
    data = mask_once(texts, Masking(task.tokenizer, Rows(texts, 0)))
    whole = Custom(lambda s, t, b: (s.logits - t.logits).square().mean(), name="logits")

    def source(*stages):
        student, bert = (new_masked_lm(task.tokenizer, 1, 32, seed=i) for i in (1, 2))
        stages = [Stage(Objective(terms), 2) for terms in stages]
        return str(distill(student, bert, data, stages, cache=tmp_path, runtime=QUIET).report.teacher)
    of_tokens = Custom(lambda s, t, b: (s.logits - t.logits).square().mean(), name="logits of tokens")
    of_tokens.reads = replace(of_tokens.reads, logits_at="tokens")
    for stages in ([[whole]], [[of_tokens]], [[SoftTargets(), whole]], [[SoftTargets(T=2.0)], [SoftTargets(T=1.0)]]):
        assert source(*stages).startswith("live; of a language model's logits a cache keeps distributions"), stages
    config = ElectraConfig(vocab_size=len(task.tokenizer), embedding_size=32, hidden_size=32, num_hidden_layers=1,
                           num_attention_heads=2, intermediate_size=32)
    student, electra = (new_model(config, AutoModelForMaskedLM, i) for i in (1, 2))
    run = distill(student, electra, data, Stage(Objective([SoftTargets()]), 2), cache=tmp_path, runtime=QUIET)
    assert str(run.report.teacher).startswith("live; a cache keeps the logits of some families of language models")
    assert source([SoftTargets(only_masked=True), MaskedLM()], [SoftTargets()]).startswith("cache, filled")
    assert source([MaskedLM()], [SoftTargets()]).startswith("cache, found"), "both read distributions of all tokens"


def test_a_cache_serves_stages_that_read_different_things(task, tmp_path):
    """Hidden states in one, where no logits are computed, and masked words in the next."""
    texts = task["transfer"].select(range(200))
    data = mask_once(texts, Masking(task.tokenizer, Rows(texts, 0)))

    def run(**options):
        student, bert = (new_masked_lm(task.tokenizer, 1, 32, dropout=0.0, seed=i) for i in (1, 2))
        stages = [Stage(Objective([HiddenStates(((1, 1),))]), 4, 32),
                  Stage(Objective([SoftTargets(only_masked=True), MaskedLM()]), 4, 32)]
        done = distill(student, opinionated(bert, 3), data, stages, runtime=QUIET, **options)
        return done.history["loss"], str(done.report.teacher)
    live, cached = run(), run(cache=TeacherCache(tmp_path, likeliest=len(task.tokenizer)))
    assert cached[1].startswith("cache, filled") and cached[0] == pytest.approx(live[0], rel=1e-4)


def test_batches_without_a_masked_word_add_nothing(task, tmp_path):
    """Single texts, of which many have none: they are no reason to stop, nor to fail while a cache is filled."""
    texts = task["transfer"].select(range(30))
    data = mask_once(texts, Masking(task.tokenizer, Rows(texts, 0), rate=0.02))
    assert (np.diff(Rows(data, 0).masked_starts) == 0).sum() > 10
    student, bert = (new_masked_lm(task.tokenizer, 1, 32, seed=i) for i in (1, 2))
    stage = Stage(Objective([SoftTargets(only_masked=True), MaskedLM()]), 30, 1)
    run = distill(student, bert, data, stage, cache=tmp_path, runtime=QUIET)
    assert run.history["loss"].count(0.0) > 10 and max(run.history["loss"]) > 1


def test_a_run_does_not_go_on_with_other_tokens_of_the_teacher_s_distributions(task, tmp_path):
    texts = task["transfer"].select(range(100))
    data = mask_once(texts, Masking(task.tokenizer, Rows(texts, 0)))

    def run(steps, **kept):
        student, bert = (new_masked_lm(task.tokenizer, 1, 32, seed=i) for i in (1, 2))
        stage = Stage(Objective([SoftTargets()]), 6, 32)
        return distill(student, bert, data, stage, cache=TeacherCache(tmp_path / "cache", **kept),
                       callbacks=[Checkpoint(tmp_path / "progress"), lambda run: run.steps == steps], runtime=QUIET)
    assert run(3).interrupted
    with pytest.raises(KdlabError, match="another"):
        run(6, likeliest=2)
    assert run(6).steps == 6


def test_the_report_says_what_became_of_the_teacher(task, teacher, tmp_path):
    """What terms declare decides: how deep the teacher is run, and whether its outputs can be kept."""
    def report(*terms, cache=None, transform=None):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        stage = Stage(Objective(terms), 2, transform=transform)
        return str(quiet(model, task, stage, teacher, cache=cache).report.teacher)
    first, last = HiddenStates(((1, 1),)), HiddenStates(((1, 2),))
    assert report(HardLabels()) == "none"
    assert report(SoftTargets()) == report(last) == "live"
    assert report(first) == "live, its first 1 layers"
    assert report(first, cache=tmp_path) == f"cache, filled in {tmp_path}"
    assert report(first, cache=tmp_path) == f"cache, found in {tmp_path}"
    assert "would take more than its 1e-06 GiB" in report(last, cache=TeacherCache(tmp_path, 1e-6))
    assert "changed every time" in report(SoftTargets(), cache=tmp_path, transform=dict)


def test_logits_of_a_language_model_at_the_read_places_only_give_the_same_losses(task, monkeypatch):
    """The three losses of DistilBERT and MobileBERT's final stage, with and without the choice of places."""
    rows = Rows(task["transfer"], 0)
    masking = Masking(task.tokenizer, rows)

    def losses_of(terms):
        student, bert = (new_masked_lm(task.tokenizer, 1, 32, dropout=0.0, seed=i) for i in (1, 2))
        shapes = []
        student.register_forward_hook(lambda module, given, out: shapes.append(out.logits.shape))
        run = distill(student, bert, task["transfer"], Stage(Objective(terms), 5, transform=masking), runtime=QUIET)
        return run.history["loss"], shapes[-1]

    for terms in ([SoftTargets(5), MaskedLM(2)], [SoftTargets(0.5, only_masked=True), MaskedLM(0.5)]):
        chosen, small = losses_of(terms)
        with monkeypatch.context() as patch:
            patch.setattr("kdlab.engine.run.can_choose_places", lambda model: False)
            everywhere, large = losses_of(terms)
        assert chosen == pytest.approx(everywhere, rel=1e-4)
        assert small.numel() < large.numel()
    assert small[1] < 0.2 * large[0] * large[1], "the masked tokens alone"


@pytest.mark.parametrize("stop_at", [1, 5, 9, 10, 14])
def test_interrupted_and_resumed_equals_undisturbed(task, teacher, tmp_path, stop_at):
    """Two stages, dropout on, optimiser moments, schedule and masks: all must go on where they were."""
    probes = task["test"].select(range(3))
    def run(after=None, **options):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        stages = [soft(9, name="one"), soft(7, name="two", learning_rate=3e-4)]
        if after is not None:
            for stage in stages:
                stage.objective.terms.append(_Interrupts(after))
        return quiet(model, task, stages, teacher, probes=probes, **options), fingerprint(model)
    whole, weights = run(after=10**6)
    part, _ = run(after=stop_at, checkpoint=tmp_path / "run", checkpoint_every=4)
    assert part.interrupted and part.steps == min(stop_at, 16)
    again, resumed_weights = run(after=10**6, checkpoint=tmp_path / "run", checkpoint_every=4)
    assert not again.interrupted
    assert again.history == whole.history
    assert again.probe_steps == whole.probe_steps
    assert all(torch.equal(a, b) for a, b in zip(again.probe_logits, whole.probe_logits, strict=True))
    assert resumed_weights == weights
    third, same = run(after=10**6, checkpoint=tmp_path / "run")       # a finished run is not run again
    assert third.history == whole.history and same == weights


class _Interrupts(Term):
    """Sends this process an interrupt at its n-th call; its loss is 0 and its settings do not show."""

    calls = 0

    def __init__(self, after):
        super().__init__("interrupt", 0.0)
        self._after = after
        type(self).calls = 0

    def forward(self, student, teacher, batch):
        type(self).calls += 1
        if type(self).calls == self._after:
            os.kill(os.getpid(), signal.SIGINT)
        return student.logits.sum() * 0


def test_interrupt_keeps_the_history(task, student, capsys):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    run = quiet(student, task, Stage(Objective([HardLabels()]), 10**6))
    timer.join()
    assert run.interrupted and 0 < run.steps == len(run.history["hard labels"])
    assert f"interrupted after step {run.steps} of 1000000" in capsys.readouterr().out


def test_who_watches_sees_every_step_and_may_end_the_run(task, student, capsys):
    seen = []

    def watch(run: Run) -> bool:
        seen.append(run.steps)
        return run.steps == 5
    run = quiet(student, task, Stage(Objective([HardLabels()]), 12), watch=watch)
    assert seen == [1, 2, 3, 4, 5] and run.interrupted and run.steps == 5
    assert capsys.readouterr().out == "", "whoever ends it knows"


def test_a_run_that_is_ended_by_its_watcher_goes_on_from_its_checkpoint(task, tmp_path):
    def train(**options):
        model = new_classifier(task.tokenizer, task.label_names, layers=1, width=32, seed=3)
        return quiet(model, task, Stage(Objective([HardLabels()]), 12), **options)
    train(checkpoint=tmp_path / "c", checkpoint_every=100, watch=lambda run: run.steps == 7)
    seen: list[int] = []
    again = train(checkpoint=tmp_path / "c", watch=lambda run: seen.append(run.steps))
    assert seen[0] == 8 and again.history == train().history


def test_kept_weights_are_those_of_the_moments(task, student):
    fresh = {name: value.clone() for name, value in student.state_dict().items()}
    run = quiet(student, task, Stage(Objective([HardLabels()]), 6), probes=task["test"].select(range(3)),
                keep_weights=True)
    assert len(run.weights) == len(run.probe_steps) == 7
    for kept, expected in ((run.weights[0], fresh), (run.weights[-1], student.state_dict())):
        assert all(torch.equal(kept[name], expected[name]) for name in expected)


# ---- rows and batches ---------------------------------------------------------------------------

def test_peer_defect_cached_rows_of_other_examples(task, teacher, tmp_path):
    """haitongli #16: each batch must get the teacher rows of its own examples, whatever the order."""
    rows = Rows(task["train"], 0)
    read = TeacherSource(teacher, teacher, rows, [soft()], tmp_path).open(Run(precision={"teacher": "no"}))
    for batch in islice(shuffled(rows, 32, seed=3), 30):
        live = trace_teacher(teacher, batch).logits
        torch.testing.assert_close(read(batch, {"logits"}).logits, live, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(read({"row": batch["row"].flip(0)}, {"logits"}).logits, live, atol=1e-2)


def test_every_row_once_an_epoch_and_deterministic():
    lengths = torch.randint(3, 40, (1_003,), generator=torch.Generator().manual_seed(0)).numpy()
    order = LengthBatches(lengths, 64, seed=1)
    first, again, second = ([batch.tolist() for batch in order.epoch(number)] for number in (0, 0, 1))
    assert sorted(row for batch in first for row in batch) == list(range(1_003))
    assert first == again != second
    assert next(iter(LengthBatches(lengths, 64, seed=1, start=order.per_epoch + 2))).tolist() == second[2]


def test_batches_by_length_pad_less():
    lengths = torch.randint(3, 60, (5_000,), generator=torch.Generator().manual_seed(0)).numpy()
    def padding(batches):
        return 1 - lengths.sum() / sum(lengths[b].max() * len(b) for b in batches)
    plain = [list(range(i, min(i + 64, 5_000))) for i in range(0, 5_000, 64)]
    assert padding(LengthBatches(lengths, 64, seed=0).epoch(0)) < 0.2 * padding(plain)


def test_rows_are_gathered_and_padded_right(task):
    rows = Rows(task["train"].select([5, 3, 8]), 0)
    batch = rows.batch([2, 0])
    for i, at in enumerate((8, 5)):
        ids = task["train"]["input_ids"][at]
        assert batch["input_ids"][i].tolist() == ids + [0] * (batch["input_ids"].shape[1] - len(ids))
        assert batch["attention_mask"][i].sum() == len(ids)
        assert batch["labels"][i] == task["train"]["label"][at]


def test_the_typical_batch_is_as_long_as_the_median_one(task):
    rows = Rows(task["train"], 0)
    epoch = [batch["input_ids"].shape[1] for batch in islice(shuffled(rows, 8, 3), -(-len(rows) // 8))]
    typical = typical_batch(rows, 8, seed=3)
    assert len(typical) == 8 and rows.lengths[typical].max() == sorted(epoch)[len(epoch) // 2]


def test_rows_are_taken_longest_first_as_many_as_fit(task, monkeypatch):
    rows = Rows(task["train"], 0)
    monkeypatch.setattr(batches, "ON_CPU", 60 * 16)
    taken = [(batch["row"].tolist(), batch["input_ids"].shape) for batch in in_order(rows, width=16)]
    assert sorted(number for numbers, _ in taken for number in numbers) == list(range(len(rows)))
    assert [longest for _, (_, longest) in taken] == sorted((longest for _, (_, longest) in taken), reverse=True)
    for _, (count, longest) in taken[:-1]:
        assert count * longest <= 60 < (count + 1) * longest
    monkeypatch.setattr(batches, "ON_CPU", 1)
    assert len(list(in_order(rows))) == len(rows), "a text that is too long comes alone"


def test_peer_defect_padding_changes_the_answer(task, teacher):
    rows = Rows(task["train"], 0)
    short, long = int(rows.lengths.argmin()), int(rows.lengths.argmax())
    alone, together = (trace_teacher(teacher, rows.batch(which)).logits[0]
                       for which in ([short], [short, long]))
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


def test_masking_hides_real_tokens_only_rare_ones_more_often(task):
    rows = Rows(task["transfer"], 0)
    masking = Masking(task.tokenizer, rows, rate=0.15, smoothing=0.7)
    torch.manual_seed(0)
    hidden = torch.zeros(len(task.tokenizer))
    shown_as_mask = total = 0
    for batch in islice(shuffled(rows, 64, seed=0), 40):
        masked = masking(batch)
        at = masked["mlm_labels"] != -100
        assert torch.equal(masked["mlm_labels"][at], batch["input_ids"][at])
        assert torch.equal(masked["input_ids"][~at], batch["input_ids"][~at])
        assert at.sum() == int(0.15 * batch["attention_mask"].sum())
        hidden += torch.bincount(masked["mlm_labels"][at], minlength=len(hidden))
        shown_as_mask += (masked["input_ids"][at] == task.tokenizer.mask_token_id).sum().item()
        total += at.sum().item()
    assert hidden[task.tokenizer.all_special_ids].sum() == 0
    assert 0.75 < shown_as_mask / total < 0.85
    counts = torch.bincount(torch.tensor(rows.tokens.take(range(rows.lengths.sum()))), minlength=len(hidden))
    rate = hidden / counts.clamp(min=1)
    common, rare = counts > 500, (counts > 5) & (counts < 50)
    common[task.tokenizer.all_special_ids] = False
    assert rate[rare].mean() > 2 * rate[common].mean()


def test_student_trains_with_dropout_after_probes_were_looked_at(task, student):
    """KD_Lib leaves the student in eval mode after evaluating."""
    seen = []
    class Spy(HardLabels):
        def forward(self, student_trace, teacher_trace, batch):
            seen.append(student.training)
            return super().forward(student_trace, teacher_trace, batch)
    student.eval()
    quiet(student, task, Stage(Objective([Spy()]), 5), probes=task["test"].select(range(2)))
    assert seen == [True] * 5
    assert not student.training, "the student comes back in the mode it came in"


# ---- runs that cannot be right, and runs that go wrong -------------------------------------------

def _other_labels(task, names):
    return new_classifier(task.tokenizer, names, 1, 32)


def test_refused_before_the_first_step(task, student, teacher):
    no_labels, only_soft = task["transfer"], Objective([SoftTargets()])
    small = new_classifier(task.tokenizer, task.label_names, 1, 32)
    small.resize_token_embeddings(500)
    wrong_label = task["train"].map(lambda row, i: {"label": 9 if i == 7 else row["label"]}, with_indices=True)
    cases = [
        (lambda: distill(student, teacher, no_labels, soft()), "needs labels"),
        (lambda: distill(student, None, task["train"], soft()), "reads a teacher and none was given"),
        (lambda: distill(student, student, task["train"], soft()), "the same model"),
        (lambda: distill(student, small, task["train"], soft()), "vocabulary"),
        (lambda: distill(student, _other_labels(task, ("bad", "good")), task["train"], soft()), "2 labels"),
        (lambda: distill(student, _other_labels(task, task.label_names[::-1]), task["train"], soft()), "one order"),
        (lambda: distill(student, teacher, task["train"].select([]), soft()), "empty"),
        (lambda: distill(student, teacher, wrong_label, soft()), "row 7 has the label 9"),
        (lambda: distill(student, teacher, task["train"], []), "no stage"),
        (lambda: distill(student, teacher, task["train"], soft(0)), "steps is 0"),
        (lambda: distill(student, teacher, task["train"].remove_columns("input_ids"), soft()), "input_ids"),
        (lambda: distill(student, None, task["train"], Stage(Objective([MaskedLM()]), 3)), "masks none"),
        (lambda: Objective([]), "at least one term"),
        (lambda: Objective([SoftTargets(), SoftTargets(T=3)]), "share a name"),
        (lambda: SoftTargets(T=0), "above 0"),
        (lambda: SoftTargets(weight=-1), "0 or more"),
        (lambda: distill(student, teacher, no_labels, Stage(Objective([_Needs()]), 1)), "'dreams'"),
    ]
    before = fingerprint(student)
    for call, said in cases:
        with pytest.raises(KdlabError) as caught:
            call()
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert fingerprint(student) == before
    assert only_soft.teacher_needs == {"logits"}


class _Needs(Term):
    def __init__(self):
        super().__init__("dream", reads=Reads(student=("dreams",)))


class _Breaks(Term):
    def __init__(self, at, gradient_only=False):
        super().__init__("breaking term")
        self.at, self.gradient_only, self._calls = at, gradient_only, 0

    def forward(self, student, teacher, batch):
        self._calls += 1
        loss = student.logits.square().mean()
        if self._calls < self.at:
            return loss
        return (loss * 0).sqrt() if self.gradient_only else loss * math.nan


@pytest.mark.parametrize(("gradient_only", "said"), [(False, "breaking term"), (True, "gradient")])
def test_a_run_that_goes_wrong_stops_names_the_term_and_keeps_the_last_good_checkpoint(
        task, student, tmp_path, gradient_only, said):
    stage = Stage(Objective([HardLabels(), _Breaks(6, gradient_only)]), 20)
    with pytest.raises(KdlabError, match=said) as caught:
        quiet(student, task, stage, checkpoint=tmp_path / "run", checkpoint_every=2)
    assert "step 6" in str(caught.value)
    assert all(p.isfinite().all() for p in student.parameters())
    with safe_open(tmp_path / "run" / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["record"])["step"] == 4


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(task, student, teacher, tmp_path):
    quiet(student, task, soft(4), teacher, checkpoint=tmp_path / "run")
    with pytest.raises(KdlabError, match=r"another run|other models"):
        quiet(student, task, soft(4), teacher, checkpoint=tmp_path / "run", seed=8)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(KdlabError, match="no whole checkpoint"):
        quiet(student, task, soft(4), teacher, checkpoint=tmp_path / "run")


def test_limits_of_the_weights_are_exact(task, teacher):
    """peers.md 6.5: weight 0 is the same as no such term."""
    def run(terms):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        quiet(model, task, Stage(Objective(terms), 6), teacher)
        return fingerprint(model)
    assert run([SoftTargets(), HardLabels(0.0)]) == run([SoftTargets()])
    assert run([SoftTargets(0.0), HardLabels()]) == run([HardLabels()])


def test_loss_is_normalised_once(task, student, teacher):
    """peers.md 6.6, easydistill #34: the mean over a batch is the weighted mean over its parts."""
    objective, rows = Objective([SoftTargets(), HardLabels()]), Rows(task["train"], 0)
    def loss(numbers):
        batch = rows.batch(numbers)
        student.eval()
        return objective(trace(student, batch), trace_teacher(teacher, batch), batch)["loss"].item()
    whole, parts = loss(list(range(30))), (loss(list(range(10))), loss(list(range(10, 30))))
    assert whole == pytest.approx((10 * parts[0] + 20 * parts[1]) / 30, rel=1e-5)


def test_masked_language_model_pretraining_runs_and_learns(task):
    model = new_masked_lm(task.tokenizer, 1, 32, dropout=0.0)
    masking = Masking(task.tokenizer, Rows(task["transfer"], 0))
    stage = Stage(Objective([MaskedLM()]), 80, learning_rate=3e-3, transform=masking)
    run = quiet(model, task, stage, split="transfer")
    assert sum(run.history["loss"][-10:]) < 0.95 * sum(run.history["loss"][:10])


def test_bfloat16_runs_close_to_float32(task, teacher):
    def run(precision):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        return quiet(model, task, soft(6), teacher, precision=precision).history["loss"]
    assert run("bf16") == pytest.approx(run("no"), rel=0.05)


@pytest.mark.parametrize("faster", ["no", "bf16"])
def test_automatic_precision_takes_the_faster_and_leaves_no_trace(task, teacher, tmp_path, monkeypatch, faster):
    measured = precision._seconds       # the measurement is done, and its outcome replaced

    def seconds(model, batch, needs, kind, learning):
        measured(model, batch, needs, kind, learning)
        return 1.0 if kind == faster else 2.0
    monkeypatch.setattr(precision, "_seconds", seconds)

    def run(asked, **options):
        model = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=0)
        return quiet(model, task, soft(6), teacher, precision=asked, **options)
    run_auto, run_asked = run("auto", checkpoint=tmp_path / "run"), run(faster)
    assert run_auto.history == run_asked.history
    assert run_auto.report.precision == {"student": faster, "teacher": faster}
    monkeypatch.setattr(precision, "_seconds", lambda *given: 2.0 if given[3] == faster else 1.0)
    again = run("auto", checkpoint=tmp_path / "run")
    assert again.report.precision["student"] == faster, "a resumed run keeps to what it began with"


def test_automatic_precision_measures_what_the_run_computes(task, monkeypatch):
    """Logits where a term reads them, no layer above the last that is read; and the run's random numbers stay its own,
    though the batch is masked for it."""
    teacher, asked = new_masked_lm(task.tokenizer, 2, 32, seed=1), []
    masking = Masking(task.tokenizer, Rows(task["transfer"], 0))

    def measured(model, batch, needs, kind, learning):
        seen = trace(model, batch, needs)
        asked.append((learning, set(needs), seen.logits is not None and len(seen.logits), len(seen.hidden_states)))
        return 1.0
    monkeypatch.setattr(precision, "_seconds", measured)

    def run(asked):
        torch.manual_seed(0)        # of the projection
        stage = Stage(Objective([MaskedLM(), HiddenStates(((1, 1),), widths=(32, 32))]), 3, 32, transform=masking)
        return quiet(new_masked_lm(task.tokenizer, 1, 32, seed=0), task, stage, teacher, "transfer", precision=asked)
    assert run("auto").history == run("no").history
    rows = Rows(task["transfer"], 0)
    hidden = int(0.15 * rows.lengths[typical_batch(rows, 32, seed=0)].sum())
    assert asked == [(True, {"logits", "hidden_states"}, hidden, 2)] * 8 + [(False, {"hidden_states"}, False, 2)] * 8


def test_a_tie_is_no_reason_to_round_and_an_unknown_precision_is_refused(task, teacher, student, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: 1.0)
    assert quiet(student, task, soft(1), teacher, precision="auto").precision == {"student": "no", "teacher": "no"}
    with pytest.raises(KdlabError, match="no precision 'fp8'; take one of no, bf16, auto"):
        quiet(student, task, soft(1), teacher, precision="fp8")
