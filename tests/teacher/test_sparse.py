"""A few tokens in place of a distribution: in the mean they say the same, and with all tokens exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical

from kdlab import losses
from kdlab.models import sparse
from kdlab.models.sparse import sparse_targets


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(0, 6), st.integers(1, 6), st.floats(0.3, 8))
def test_weights_are_a_distribution_that_keeps_the_likeliest_and_their_rest(seed, vocabulary, likeliest, drawn, T):
    logits = 4 * torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(seed))
    kept = sparse_targets(logits, T, torch.arange(seed, seed + 5), likeliest, drawn)
    p = (logits / T).softmax(-1)
    torch.testing.assert_close(kept.weights.sum(-1), torch.ones(5))
    torch.testing.assert_close(kept.entropy, Categorical(logits=logits / T).entropy(), rtol=1e-4, atol=1e-5)
    count = min(likeliest, vocabulary)
    values = p.sort(dim=-1, descending=True).values
    torch.testing.assert_close(kept.weights[:, :count], values[:, :count])
    torch.testing.assert_close(p.gather(-1, kept.classes[:, :count]), values[:, :count])
    assert kept.classes.shape[-1] == (vocabulary if likeliest >= vocabulary else likeliest + drawn)
    for row, weights in zip(kept.classes, kept.weights, strict=True):
        others = row[count:][weights[count:] > 0]
        assert not set(row[:count].tolist()) & set(others.tolist()), "what is kept for itself is not drawn as well"


def test_in_the_mean_over_places_the_weights_are_the_teacher_s_probabilities():
    logits, places = 2 * torch.randn(30, generator=torch.Generator().manual_seed(1)), 20_000
    kept = sparse_targets(logits.expand(places, 30), 2.0, torch.arange(places), likeliest=4, drawn=3)
    mean = torch.zeros(30).index_add(0, kept.classes.flatten(), kept.weights.flatten()) / places
    torch.testing.assert_close(mean, (logits / 2).softmax(-1), rtol=0, atol=2e-4)


@pytest.mark.parametrize("likeliest", [0, 4, 30])
def test_in_the_mean_loss_and_gradient_are_those_of_soft_targets(likeliest):
    generator, places = torch.Generator().manual_seed(2), 20_000
    teacher, start = (2 * torch.randn(30, generator=generator) for _ in range(2))
    kept = sparse_targets(teacher.expand(places, 30), 2.0, torch.arange(places), likeliest, drawn=3)
    student, same = start.clone().requires_grad_(), start.clone().requires_grad_()
    few = losses.sparse_soft_targets(student.expand(places, 30), kept.classes, kept.weights, kept.entropy, 2.0)
    whole = losses.soft_targets(same, teacher, 2.0)
    for loss in (few, whole):
        loss.backward()
    torch.testing.assert_close(few, whole, rtol=1e-3, atol=0)
    torch.testing.assert_close(student.grad, same.grad, rtol=0, atol=1e-5 if likeliest == 30 else 5e-4)


def test_a_mask_chooses_the_places_that_count():
    generator = torch.Generator().manual_seed(3)
    teacher, student = (torch.randn(6, 9, generator=generator) for _ in range(2))
    kept, mask = sparse_targets(teacher, 2.0, torch.arange(6), 9), torch.tensor([1, 0, 0, 1, 1, 0]).bool()
    student[~mask] = torch.nan
    masked = losses.sparse_soft_targets(student, kept.classes, kept.weights, kept.entropy, 2.0, mask)
    torch.testing.assert_close(masked, losses.soft_targets(student[mask], teacher[mask], 2.0))


def test_the_same_place_draws_the_same_tokens_in_any_company():
    logits = torch.randn(50, 100, generator=torch.Generator().manual_seed(4))
    whole = sparse_targets(logits, 1.0, torch.arange(50), 5, 5)
    part = sparse_targets(logits[20:23], 1.0, torch.arange(20, 23), 5, 5)
    assert torch.equal(whole.classes[20:23], part.classes) and torch.equal(whole.weights[20:23], part.weights)
    elsewhere = sparse_targets(logits[20:23], 1.0, torch.arange(120, 123), 5, 5)
    assert not torch.equal(elsewhere.classes, part.classes), "and at another place others"


def test_many_places_are_computed_some_at_a_time_to_the_same_end(monkeypatch):
    logits = torch.randn(50, 100, generator=torch.Generator().manual_seed(4))
    whole = sparse_targets(logits, 1.0, torch.arange(50), 5, 5)
    monkeypatch.setattr(sparse, "AT_ONCE", 700)
    parts = sparse_targets(logits, 1.0, torch.arange(50), 5, 5)
    for name in ("classes", "weights", "entropy"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_what_weighs_nothing_adds_nothing_where_the_student_rules_it_out_too():
    teacher, student = torch.tensor([[3.0, 1.0, -torch.inf]]), torch.tensor([[1.0, 2.0, -torch.inf]])
    student.requires_grad_()
    kept = sparse_targets(teacher, 1.0, torch.arange(1), 3)
    loss = losses.sparse_soft_targets(student, kept.classes, kept.weights, kept.entropy, 1.0)
    torch.testing.assert_close(loss, losses.soft_targets(student, teacher, 1.0))
    loss.backward()
    assert student.grad.isfinite().all()


def test_a_token_that_is_ruled_out_is_never_drawn():
    logits = torch.zeros(200, 20)
    logits[:, 5:15] = -torch.inf
    kept = sparse_targets(logits, 1.0, torch.arange(200), 2, 4)
    assert not ((kept.classes >= 5) & (kept.classes < 15)).any() and kept.entropy.isfinite().all()
