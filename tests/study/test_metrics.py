"""Measures against hand arithmetic."""

import pytest
import torch

from kdlab.data.tasks import encode_texts
from kdlab.errors import KdlabError
from kdlab.models import new_classifier
from kdlab.study import metrics


@pytest.mark.parametrize(("layers", "width"), [(1, 32), (2, 64), (4, 128)])
def test_parameters_and_flops_by_hand(task, layers, width):
    model = new_classifier(task.tokenizer, task.label_names, layers, width)
    d, V, P, C, n = width, len(task.tokenizer), task.tokenizer.model_max_length, 5, 20
    embeddings = (V + P + 1) * d + 2 * d
    layer = 4 * (d * d + d) + 2 * d + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * d
    assert metrics.parameters(model) == embeddings + layers * layer + (d * d + d) + (C * d + C)
    a_layer = 24 * n * d * d + 4 * n * n * d        # four projections and the FFN; scores and mixing
    assert metrics.flops(model, n) == layers * a_layer + 2 * d * d + 2 * d * C


def test_flops_of_a_text_longer_than_the_positions_are_of_the_longest(task, student):
    longest = task.tokenizer.model_max_length
    assert metrics.flops(student, 10 * longest) == metrics.flops(student, longest)


def test_scores_by_hand():
    logits = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0], [5.0, 0, 0]])
    teacher = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0], [0, 9.0, 0]])
    assert metrics.accuracy(logits, torch.tensor([0, 1, 0, 1])) == 0.5
    assert metrics.fidelity(logits, teacher) == 0.5
    assert metrics.retention(0.45, 0.6) == pytest.approx(0.75)


def test_calibration_error_by_hand():
    """Four answers at confidence 0.8, of which two are right, one at 0.95, right: (4 x 0.3 + 0.05) / 5."""
    p = torch.tensor([[0.8, 0.2]] * 4 + [[0.95, 0.05]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    assert metrics.calibration_error(p.log(), labels) == pytest.approx((4 * 0.3 + 0.05) / 5, abs=1e-6)
    assert metrics.calibration_error(torch.tensor([[100.0, 0]]), torch.tensor([0])) == pytest.approx(0, abs=1e-6)


def test_distance_to_a_truth_with_zeros_is_finite_and_right():
    truth = torch.tensor([[0.5, 0.5, 0.0]])
    uniform = torch.zeros(1, 3)
    assert metrics.distance(truth, uniform) == pytest.approx((torch.tensor(1.5)).log().item(), abs=1e-6)
    assert metrics.distance(truth, truth.clamp_min(1e-30).log()) == pytest.approx(0, abs=1e-6)


def test_evaluate_reports_what_the_split_allows(task, student, teacher):
    scores = metrics.evaluate(student, task["test"], metrics.predict(teacher, task["test"]))
    assert set(scores) == {"accuracy", "calibration_error", "fidelity", "kl_teacher", "kl_truth"}
    plain = task["test"].remove_columns("truth").select(range(50))
    assert set(metrics.evaluate(student, plain)) == {"accuracy", "calibration_error"}
    with pytest.raises(KdlabError, match="no labels"):
        metrics.evaluate(student, task["transfer"])


def test_predict_keeps_the_rows_order_and_the_models_mode(task, student):
    rows = encode_texts(["the pizza was good .", "the waiter was rude but the pizza was good .", "we loved it ."],
                        task.tokenizer)
    together = metrics.predict(student.train(), rows)
    assert student.training
    alone = [metrics.predict(student, rows.select([i]))[0] for i in range(3)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)


def test_latency_is_a_time_and_leaves_the_mode_alone(student):
    student.train()
    assert metrics.latency(student, repeats=3) > 0
    assert student.training
