"""Terms that read layers: what they compute, what they refuse before the first step, and that they teach."""

from __future__ import annotations

import pytest
import torch
from conftest import opinionated
from transformers import ElectraConfig, ElectraForSequenceClassification

from kdlab import losses
from kdlab.data.batches import Rows
from kdlab.engine.run import QUIET
from kdlab.errors import KdlabError
from kdlab.loop import Stage, distill
from kdlab.models import layer_map, new_classifier
from kdlab.models.tracing import trace, trace_teacher
from kdlab.terms import (
    AttentionProbabilities,
    AttentionScores,
    HardLabels,
    HiddenCosine,
    HiddenStates,
    Hint,
    Objective,
    Patient,
    Relations,
    SoftTargets,
)


@pytest.fixture
def wide(task):
    """A teacher of 4 layers x 48 with 2 heads."""
    return opinionated(new_classifier(task.tokenizer, task.label_names, 4, 48, heads=2, dropout=0.1, seed=2), 6)


@pytest.fixture
def thin(task):
    """A student of 2 layers x 32 with 2 heads."""
    return new_classifier(task.tokenizer, task.label_names, 2, 32, heads=2, dropout=0.0, seed=1)


MAP = layer_map.uniform(2, 4)
WIDTHS = (32, 48)
TERMS = {
    "embeddings": lambda: HiddenStates(((0, 0),), widths=WIDTHS, name="embeddings"),
    "hidden states": lambda: HiddenStates(MAP, widths=WIDTHS),
    "attention scores": lambda: AttentionScores(MAP),
    "attention probabilities": lambda: AttentionProbabilities(layer_map.last(2, 4)),
    "hint": lambda: Hint(1, 2, widths=WIDTHS),
    "patient": lambda: Patient(layer_map.skip(2, 4), widths=WIDTHS),
    "value relations": lambda: Relations(layer_map.last(2, 4)),
    "query relations": lambda: Relations(layer_map.last(2, 4), of="queries", heads=4),
    "key relations": lambda: Relations(layer_map.last(2, 4), of="keys"),
}


@pytest.mark.parametrize("name", TERMS)
def test_every_term_falls_when_it_is_followed(name, thin, wide, task):
    run = distill(thin, wide, task["train"].select(range(64)),
                  Stage(Objective([TERMS[name]()]), 40, learning_rate=3e-3), runtime=QUIET)
    loss = run.history["loss"]
    assert sum(loss[-5:]) < 0.75 * sum(loss[:5]), (loss[:5], loss[-5:])


def test_terms_read_the_layers_that_the_map_names(thin, wide, task):
    batch = Rows(task["train"], 0).batch([0, 5, 9])
    student, teacher = trace(thin, batch, {"hidden_states", "attention"}), \
        trace_teacher(wide, batch, {"hidden_states", "attention"})
    mask = batch["attention_mask"]
    hidden = HiddenStates(MAP, widths=WIDTHS)
    expected = sum(losses.hidden_mse(hidden.projection(student.hidden_states[m]), teacher.hidden_states[n], mask)
                   for m, n in ((1, 2), (2, 4)))
    torch.testing.assert_close(hidden(student, teacher, batch), expected)
    scores = AttentionScores(((2, 3),))(student, teacher, batch)
    expected = losses.attention_mse(student.attention[1].scores(), teacher.attention[2].scores(), mask)
    torch.testing.assert_close(scores, expected)
    patient = Patient(((1, 2),), widths=WIDTHS)
    torch.testing.assert_close(patient(student, teacher, batch), losses.patient(
        patient.projection(student.hidden_states[1])[:, 0], teacher.hidden_states[2][:, 0]))


def test_peer_defect_14_value_relations_are_those_of_minilm_s_equations(thin, wide, task):
    """peers.md 6.14: relation transfer was never published as code. Equations 2 to 4, written out over heads."""
    batch = Rows(task["train"], 0).batch([3, 7])
    student = trace(thin, batch, {"attention"}).attention[1]
    teacher = trace_teacher(wide, batch, {"attention"}).attention[3]
    total, count = 0.0, 0
    for text in range(2):
        n = int(batch["attention_mask"][text].sum())
        for head in range(2):
            relation = [torch.softmax(v[text, head, :n] @ v[text, head, :n].T / v.shape[-1] ** 0.5, dim=-1)
                        for v in (teacher.values, student.values)]
            total += (relation[0] * (relation[0] / relation[1]).log()).sum().item()
            count += n
    term = Relations(((2, 4),))
    assert term(trace(thin, batch, {"attention"}), trace_teacher(wide, batch, {"attention"}), batch).item() == \
        pytest.approx(total / count, rel=1e-4)


def test_relation_heads_split_the_joined_heads(thin, wide, task):
    """With as many relation heads as heads nothing changes; with others the widths are cut anew (MiniLMv2)."""
    batch = Rows(task["train"], 0).batch([3, 7])
    student, teacher = trace(thin, batch, {"attention"}), trace_teacher(wide, batch, {"attention"})
    plain, same, more = (Relations(((2, 4),), heads=heads)(student, teacher, batch) for heads in (None, 2, 8))
    torch.testing.assert_close(plain, same)
    values = student.attention[1].values
    joined = torch.cat([values[:, 0], values[:, 1]], dim=-1)            # (B, L, 32)
    relations = Relations(((2, 4),), heads=8).scores(student, 2)
    torch.testing.assert_close(relations[:, 3], joined[..., 12:16] @ joined[..., 12:16].transpose(1, 2) / 2)
    assert more.item() != pytest.approx(plain.item())


def test_fast_kernels_stay_where_no_term_reads_attention():
    assert Objective([HiddenStates(MAP, widths=WIDTHS)]).student_needs == {"hidden_states"}
    assert Objective([AttentionScores(MAP)]).teacher_needs == {"attention"}


def test_projections_are_trained_and_seeded_and_left_behind(thin, wide, task):
    one, two, other = (HiddenStates(MAP, widths=WIDTHS, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.projection.weight, two.projection.weight)
    assert not torch.equal(one.projection.weight, other.projection.weight)
    names = list(thin.state_dict())
    distill(thin, wide, task["train"], Stage(Objective([one]), 2), runtime=QUIET)
    assert not torch.equal(one.projection.weight, two.projection.weight) and list(thin.state_dict()) == names


@pytest.mark.parametrize(("term", "said"), [
    (lambda: HiddenStates(((1, 5),), widths=WIDTHS), r"maps layer 5 of the teacher, which has the layers 0 to 4"),
    (lambda: HiddenStates(((3, 4),), widths=WIDTHS), r"maps layer 3 of the student, which has the layers 0 to 2"),
    (lambda: AttentionScores(((0, 1),)), r"maps layer 0 of the student, which has the layers 1 to 2"),
    (lambda: HiddenStates(MAP), r"width 32 \(student\) and 48 \(teacher\); give it widths=\(32, 48\)"),
    (lambda: HiddenCosine(MAP), r"width 32 \(student\) and 48 \(teacher\)"),
    (lambda: Hint(1, 2, widths=(32, 64)), r"projects from width 32 to 64"),
    (lambda: Relations(MAP, heads=5), r"states of width 32 into 5 relation heads"),
    (lambda: Relations(MAP, of="hats"), r"not of 'hats'"),
    (lambda: AttentionScores(()), r"empty layer map"),
])
def test_a_term_that_cannot_compare_the_two_is_refused_before_the_first_step(term, said, thin, wide, task):
    before = {k: v.clone() for k, v in thin.state_dict().items()}
    with pytest.raises(KdlabError, match=said):
        distill(thin, wide, task["train"], Stage(Objective([term()]), 5), runtime=QUIET)
    assert all(torch.equal(v, before[k]) for k, v in thin.state_dict().items())


def test_peer_defect_4_other_head_counts_are_refused_with_what_to_do(wide, task):
    """peers.md 6.4 and DESIGN.md: zip() over the shorter list would compare some heads and forget the rest."""
    other = new_classifier(task.tokenizer, task.label_names, 2, 32, heads=4)
    for term in (AttentionScores(MAP), AttentionProbabilities(MAP), Relations(MAP)):
        with pytest.raises(KdlabError, match="4 heads and the teacher 2; build the student with heads=2"):
            distill(other, wide, task["train"], Stage(Objective([term]), 1), runtime=QUIET)
    distill(other, wide, task["train"], Stage(Objective([Relations(MAP, heads=4)]), 1), runtime=QUIET)


def test_an_architecture_without_capture_is_refused_before_the_first_step(wide, task):
    config = ElectraConfig(vocab_size=len(task.tokenizer), num_hidden_layers=2, hidden_size=32, embedding_size=32,
                           num_attention_heads=2, num_labels=5)
    stage = Stage(Objective([AttentionScores(MAP)]), 1)
    with pytest.raises(KdlabError, match="architecture 'electra'"):
        distill(ElectraForSequenceClassification(config), wide, task["train"], stage, runtime=QUIET)


@pytest.mark.parametrize("soft", [0.0, 0.5, 1.0])
def test_peer_defect_5_the_ends_of_alpha_are_exact(soft, thin, wide, task):
    """peers.md 6.5: at weight 0 a loss has no part in the gradient, at weight 1 it is alone."""
    batch = Rows(task["train"], 0).batch(list(range(8)))
    student, teacher = trace(thin.eval(), batch), trace_teacher(wide, batch)
    terms = SoftTargets(soft), HardLabels(1 - soft)
    parts = Objective(terms)(student, teacher, batch)
    expected = soft * losses.soft_targets(student.logits, teacher.logits) \
        + (1 - soft) * losses.hard_labels(student.logits, batch["labels"])
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    if soft in (0.0, 1.0):
        alone = parts["soft targets" if soft else "hard labels"]
        gradients = [torch.autograd.grad(x, thin.classifier.weight, retain_graph=True)[0]
                     for x in (parts["loss"], alone)]
        assert torch.equal(*gradients)
