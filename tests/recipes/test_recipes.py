"""The three recipes: their defaults are the papers', their stages what the papers say, and they run."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT

from kdlab.data.augmentation import Augmenter
from kdlab.data.batches import Rows
from kdlab.data.masking import Masking
from kdlab.engine.run import QUIET
from kdlab.errors import KdlabError
from kdlab.loop import distill
from kdlab.models import classifier_from, layer_map
from kdlab.recipes import distilbert, mobilebert, tinybert
from kdlab.recipes.teacher import new_teacher
from kdlab.terms import (
    AttentionProbabilities,
    AttentionScores,
    HardLabels,
    HiddenCosine,
    HiddenStates,
    MaskedLM,
    SoftTargets,
)

MOBILE = {"intra_bottleneck_size": 16, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert(task):
    return new_teacher(task)


@pytest.fixture(scope="module")
def ib_bert(task):
    return new_teacher(task, "ib-bert")


@pytest.fixture
def masking(task):
    return Masking(task.tokenizer, Rows(task["transfer"], 0))


def weights(objective):
    return [(type(term), term.weight) for term in objective.terms]


def snapshot(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_distilbert_s_defaults_are_those_of_the_released_code(task, bert):
    student = distilbert.layer_drop(bert)
    stage = distilbert.general_stage(student, bert, Rows(task["transfer"], 0), task.tokenizer, 10)
    assert weights(stage.objective) == [(SoftTargets, 5), (MaskedLM, 2), (HiddenCosine, 1)]
    assert stage.objective.terms[0].T == 2 and not stage.objective.terms[0].only_masked
    assert stage.objective.terms[2].layers == ((2, 4),)
    assert (stage.batch_size, stage.learning_rate, stage.betas, stage.eps) == (250, 5e-4, (0.9, 0.98), 1e-6)
    assert (stage.weight_decay, stage.warmup, stage.clip) == (0, 0.05, 5)
    assert weights(distilbert.triple_loss(student, bert, masked=0)) == [(SoftTargets, 5), (HiddenCosine, 1)]
    assert weights(distilbert.task_stage(3, True).objective) == [(SoftTargets, 0.5), (HardLabels, 0.5)]
    assert weights(distilbert.task_stage(3, False).objective) == [(HardLabels, 1)]


def test_distilbert_from_pretrained_teacher_to_classifier(task, bert, teacher):
    before = snapshot(bert)
    student, run = distilbert.general(task, bert, steps=4, runtime=QUIET)
    assert set(run.history) == {"step", "stage", "loss", "soft targets", "masked LM", "cosine"}
    assert run.history["loss"][2] == pytest.approx(5 * run.history["soft targets"][2] + 2 * run.history["masked LM"][2]
                                                   + run.history["cosine"][2], rel=1e-5)
    classifier, run = distilbert.on_task(task, student, steps=3, runtime=QUIET)
    assert run.history["stage"] == ["fine-tuning"] * 3 and classifier.config.num_labels == 5
    classifier, run = distilbert.on_task(task, student, steps=3, teacher=teacher, runtime=QUIET)
    assert run.history["stage"] == ["task distillation"] * 3
    assert all(torch.equal(weight, before[name]) for name, weight in bert.state_dict().items())


def test_texts_masked_once_let_the_recipes_use_a_cache(task, bert, ib_bert, tmp_path):
    _, run = distilbert.general(task, bert, 3, masked_copies=2, cache=tmp_path / "one", runtime=QUIET)
    assert str(run.report.teacher).startswith("cache, filled") and run.report.rows == 2 * len(task["transfer"])
    mobile = mobilebert.new_student(ib_bert, **MOBILE)
    _, run = mobilebert.general(task, ib_bert, 4, 3, student=mobile, masked_copies=1, cache=tmp_path / "two",
                                runtime=QUIET)
    assert str(run.report.teacher).startswith("cache, filled") and run.report.rows == len(task["transfer"])
    _, run = distilbert.general(task, bert, 3, cache=tmp_path / "one", runtime=QUIET)
    assert "changed every time" in str(run.report.teacher)


def test_soft_targets_of_language_models_read_real_tokens_or_the_masked_ones(task, bert, masking):
    from kdlab import losses
    from kdlab.models.tracing import trace, trace_teacher
    torch.manual_seed(0)
    batch = masking(Rows(task["transfer"], 0).batch([0, 4, 8]))
    student = distilbert.layer_drop(bert, ((1, 2),)).eval()
    seen, known = trace(student, batch), trace_teacher(bert, batch)
    for only_masked, places in ((False, batch["attention_mask"].bool()), (True, batch["mlm_labels"] != -100)):
        expected = losses.soft_targets(seen.logits[places], known.logits[places], 2.0)
        torch.testing.assert_close(SoftTargets(only_masked=only_masked)(seen, known, batch), expected)


def test_tinybert_s_defaults_are_the_paper_s(task, bert, teacher):
    student = tinybert.new_student(task, bert)
    assert student.config.num_attention_heads == bert.config.num_attention_heads and student.config.hidden_size == 64
    objective = tinybert.intermediate(student, bert)
    assert weights(objective) == [(HiddenStates, 1), (HiddenStates, 1), (AttentionScores, 1)]
    assert [term.layers for term in objective.terms] == [((0, 0),), ((1, 2), (2, 4)), ((1, 2), (2, 4))]
    assert tinybert.general_stage(student, bert, 9).transform is None, "general distillation reads unmasked text"
    first, second = tinybert.task_stages(student, bert, 7, 3)
    assert (first.steps, first.batch_size, first.learning_rate, first.decay, first.warmup) == (7, 32, 5e-5, False, 0)
    assert weights(second.objective) == [(SoftTargets, 1)] and second.objective.terms[0].T == 1 and second.warmup == 0.1
    bottom = tinybert.intermediate(student, bert, layer_map.bottom(2, 4), parts=("attention",))
    assert weights(bottom) == [(AttentionScores, 1)] and bottom.terms[0].layers == ((1, 1), (2, 2))


def test_tinybert_through_both_stages(task, bert):
    fine_tuned = classifier_from(bert, task.label_names)
    student, run = tinybert.general(task, bert, steps=3, runtime=QUIET)
    assert "soft targets" not in run.history, "no prediction loss in the general stage"
    untouched = student.classifier.weight.clone()
    data = Augmenter(bert, task.tokenizer, copies=2)(task["train"].select(range(20)))
    run = tinybert.on_task(data, student, fine_tuned, intermediate_steps=3, prediction_steps=2, runtime=QUIET)
    assert run.history["stage"] == ["intermediate layers"] * 3 + ["prediction"] * 2
    assert run.history["soft targets"][:3] == [None] * 3 and run.history["attention scores"][3:] == [None] * 2
    assert not torch.equal(student.classifier.weight, untouched)


def test_mobilebert_s_student_starts_with_the_teacher_s_embeddings_and_head(task, ib_bert):
    student = mobilebert.new_student(ib_bert, **MOBILE)
    embeddings = "mobilebert.embeddings"
    for part in (f"{embeddings}.word_embeddings.weight", f"{embeddings}.embedding_transformation.weight",
                 "cls.predictions.dense.weight", "cls.predictions.bias"):
        assert torch.equal(student.state_dict()[part], ib_bert.state_dict()[part]), part
    config = student.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_feedforward_networks, config.normalization_type,
            config.hidden_act) == (ib_bert.config.hidden_size, 4, 4, "no_norm", "relu")


def test_mobilebert_s_strategies_are_three_choices_of_the_same_list(task, ib_bert, masking):
    student = mobilebert.new_student(ib_bert, **MOBILE)
    auxiliary, joint, progressive = (mobilebert.stages(student, name, 8, 4, masking) for name in mobilebert.STRATEGIES)
    assert [sum(stage.steps for stage in plan) for plan in (auxiliary, joint, progressive)] == [12, 12, 12]
    knowledge = [(HiddenStates, 1), (AttentionProbabilities, 1)]
    final = [(MaskedLM, 0.5), (SoftTargets, 0.5)]
    assert [weights(stage.objective) for stage in auxiliary] == [knowledge + final]
    assert [weights(stage.objective) for stage in joint] == [knowledge, final]
    assert [weights(stage.objective) for stage in progressive] == [knowledge] * 4 + [final]
    assert [stage.objective.terms[0].layers for stage in progressive[:4]] == [((i, i),) for i in (1, 2, 3, 4)]
    assert joint[0].objective.terms[1].layers == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert final == [(MaskedLM, 0.5), (SoftTargets, 0.5)] and progressive[-1].objective.terms[1].only_masked
    assert progressive[-1].rates == () and joint[0].rates == ()
    with pytest.raises(KdlabError, match="no strategy 'sudden'; take one of auxiliary, joint, progressive"):
        mobilebert.stages(student, "sudden", 8, 4, masking)


def test_progressive_transfer_trains_the_block_at_work_and_those_below_slowly(task, ib_bert, masking):
    student = mobilebert.new_student(ib_bert, **MOBILE)
    third = mobilebert.stages(student, "progressive", 40, 1, masking, batch_size=16, learning_rate=1e-3)[2]
    before = snapshot(student)
    distill(student, ib_bert, task["transfer"], third, runtime=QUIET)
    moved = {name: (weight - before[name]).abs().mean().item() for name, weight in student.state_dict().items()
             if name.endswith("attention.self.value.weight")}
    one, two, three, four = moved.values()
    assert four == 0 and three > 3 * two > 0 and three > 3 * one > 0
    frozen = [name for name in before if "encoder" not in name]
    assert frozen and all(torch.equal(student.state_dict()[name], before[name]) for name in frozen)


@pytest.mark.parametrize("optimiser", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad,
                                       torch.optim.RMSprop, torch.optim.NAdam])
def test_layer_rates_are_honoured_by_every_optimiser(task, ib_bert, masking, optimiser):
    """In MobileBERT's released code only LAMB did so (methods.md 5): here the rate belongs to the parameters."""
    student = mobilebert.new_student(ib_bert, **MOBILE)
    stage = mobilebert.stages(student, "progressive", 8, 1, masking, learning_rate=1e-2)[1]
    before = snapshot(student)
    optimizer = optimiser(stage.parameter_groups(student), weight_decay=0.1)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: (weight - before[name]).abs().mean().item() for name, weight in student.state_dict().items()}
    layer = "mobilebert.encoder.layer.{}.attention.self.value.weight"
    assert moved[layer.format(1)] == pytest.approx(10 * moved[layer.format(0)], rel=0.1)
    assert moved[layer.format(2)] == moved["mobilebert.embeddings.word_embeddings.weight"] == 0


def test_rates_for_parameters_that_are_not_there_are_refused(task, student, teacher):
    from kdlab.loop import Stage
    from kdlab.terms import Objective
    stage = Stage(Objective([HardLabels()]), 1, rates=(("bert.encoder.layer.7.", 0.1),))
    with pytest.raises(KdlabError, match=r"rate 0.1 is for parameters named 'bert.encoder.layer.7....'"):
        distill(student, None, task["train"], stage, runtime=QUIET)


def test_peer_defect_13_a_mobilebert_learns_from_an_ib_bert_by_all_three_strategies(task, ib_bert):
    """peers.md 6.13: no teacher for MobileBERT was ever released."""
    for strategy in mobilebert.STRATEGIES:
        student, run = mobilebert.general(task, ib_bert, 4, 2, strategy, mobilebert.new_student(ib_bert, **MOBILE),
                                          runtime=QUIET)
        assert run.steps == 6
        assert classifier_from(student, task.label_names).config.num_labels == 5


def test_each_recipe_is_one_sitting():
    for path in (ROOT / "kdlab" / "recipes").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 150, path.name


def test_peer_defect_11_augmentation_reads_one_word_at_a_time(task, bert, monkeypatch):
    """peers.md 6.11: one forward pass for each word made it eight times slower."""
    from kdlab.data import augmentation as augment
    calls = []
    monkeypatch.setattr(augment, "trace_teacher", lambda model, batch: calls.append(len(batch["input_ids"]))
                        or augment_trace(model, batch))
    Augmenter(bert, task.tokenizer, copies=1)(task["train"].select(range(60)))
    assert sum(calls) > 300 and len(calls) == -(-sum(calls) // augment.BATCH)


def augment_trace(model, batch):
    from kdlab.models.tracing import trace_teacher
    return trace_teacher(model, batch)
