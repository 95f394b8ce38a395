"""Losses over hidden states and attention: against hand arithmetic and torch, for random shapes and masks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab import losses
from kdlab.models.tracing import Attention

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(2, 5))  # B, heads, L, width
SEEDS = st.integers(0, 999)
ATTENTION = (losses.attention_mse, losses.attention_kl)
HIDDEN = (losses.hidden_mse, losses.hidden_cosine, losses.hint)


def draw(*shape, seed=0, dtype=torch.float64):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_mask(batch, length, seed=0):
    """Between 1 and `length` real tokens in each text, real ones first."""
    lengths = torch.randint(1, length + 1, (batch, 1), generator=torch.Generator().manual_seed(seed))
    return (torch.arange(length) < lengths).long()


@given(shape=SHAPES, seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_hidden_losses_against_torch_on_the_real_tokens_alone(shape, seed):
    B, _, L, width = shape
    student, teacher, mask = draw(B, L, width, seed=seed), draw(B, L, width, seed=seed + 1), draw_mask(B, L, seed)
    s, t = student[mask.bool()], teacher[mask.bool()]
    expected = {losses.hidden_mse: F.mse_loss(s, t),
                losses.hidden_cosine: F.cosine_embedding_loss(s, t, torch.ones(len(s))),
                losses.hint: 0.5 * (s - t).norm(dim=-1).square().mean()}
    for loss, value in expected.items():
        assert loss(student, teacher, mask).item() == pytest.approx(value.item(), abs=1e-6)


@given(shape=SHAPES, seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_attention_losses_against_loops_over_texts_heads_and_queries(shape, seed):
    B, heads, L, _ = shape
    student, teacher = draw(B, heads, L, L, seed=seed), draw(B, heads, L, L, seed=seed + 1)
    mask, squares, divergences = draw_mask(B, L, seed), [], []
    for b in range(B):
        n = int(mask[b].sum())
        for a in range(heads):
            for i in range(n):
                s, t = student[b, a, i, :n], teacher[b, a, i, :n]
                squares += [(s[j] - t[j]).item() ** 2 for j in range(n)]
                log_s, log_t = s.log_softmax(-1), t.log_softmax(-1)
                divergences.append(F.kl_div(log_s, log_t, reduction="sum", log_target=True).item())
    assert losses.attention_mse(student, teacher, mask).item() == pytest.approx(sum(squares) / len(squares), abs=1e-6)
    assert losses.attention_kl(student, teacher, mask).item() == pytest.approx(sum(divergences) / len(divergences),
                                                                               abs=1e-6)


@given(shape=SHAPES, seed=SEEDS)
@settings(deadline=None, max_examples=30)
def test_patient_is_twice_one_minus_the_cosine(shape, seed):
    B, _, _, width = shape
    student, teacher = draw(B, width, seed=seed), draw(B, width, seed=seed + 1)
    expected = 2 * F.cosine_embedding_loss(student, teacher, torch.ones(B))
    assert losses.patient(student, teacher).item() == pytest.approx(expected.item(), abs=1e-6)


def test_each_by_hand():
    """One text of two real tokens and one of padding; numbers small enough for paper."""
    student = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[0.0, 2.0], [6.0, 8.0], [0.0, 0.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert losses.hidden_mse(student, teacher, mask).item() == pytest.approx((1 + 4 + 9 + 16) / 4)
    assert losses.hidden_cosine(student, teacher, mask).item() == pytest.approx((1 - 0 + 1 - 1) / 2, abs=1e-6)
    assert losses.hint(student, teacher, mask).item() == pytest.approx((5 + 25) / 2 / 2)
    assert losses.patient(student[:, 0], teacher[:, 0]).item() == pytest.approx(2.0)
    scores = torch.zeros(1, 1, 3, 3)
    towards_first = scores.clone()
    towards_first[..., 0] = math.log(3)         # 3/4 and 1/4 among the two real keys
    assert losses.attention_kl(scores, towards_first, mask).item() == pytest.approx(
        0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5), rel=1e-5)
    assert losses.attention_mse(scores, towards_first, mask).item() == pytest.approx(math.log(3) ** 2 / 2, rel=1e-5)
    values = torch.tensor([[[[2.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]]])
    assert losses.relation_scores(values).tolist() == [[[[2.0, 1.0], [1.0, 1.0]]]]      # / sqrt(4)


@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION, losses.patient])
def test_gradcheck_and_no_gradient_for_the_teacher(loss):
    mask = draw_mask(2, 4, seed=1)
    shape = {losses.patient: (2, 3)}.get(loss, (2, 2, 4, 4) if loss in ATTENTION else (2, 4, 3))
    rest = () if loss is losses.patient else (mask,)
    teacher = draw(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, *rest), draw(*shape).requires_grad_())
    loss(draw(*shape).requires_grad_(), teacher, *rest).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION])
def test_peer_defect_3_padding_changes_nothing_whatever_stands_in_it(loss):
    """peers.md 6.3. Padding columns are added that hold NaN and infinity; loss and gradient stay."""
    mask = draw_mask(3, 5)
    shape = (3, 2, 5, 5) if loss in ATTENTION else (3, 5, 4)
    pads = (0, 3, 0, 3) if loss in ATTENTION else (0, 0, 0, 3)
    student, teacher = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    expected = loss(student, teacher, mask)
    expected.backward()
    longer = F.pad(student.detach(), pads, value=7.0).requires_grad_()
    padded = loss(longer, F.pad(teacher, pads, value=math.nan), F.pad(mask, (0, 3)))
    padded.backward()
    assert padded.item() == pytest.approx(expected.item(), abs=1e-12)
    kept = longer.grad[..., :5, :5] if loss in ATTENTION else longer.grad[:, :5]
    torch.testing.assert_close(kept, student.grad)
    assert longer.grad.sum().item() == pytest.approx(student.grad.sum().item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [*HIDDEN, *ATTENTION])
def test_finite_in_half_precision_with_padding_present(loss, dtype):
    """methods.md 10.2: scores masked with the smallest number of one precision are infinite in another."""
    mask = draw_mask(3, 5)
    shape = (3, 2, 5, 5) if loss in ATTENTION else (3, 5, 4)
    student = (100 * draw(*shape)).to(dtype).requires_grad_()
    teacher = (100 * draw(*shape, seed=1)).to(dtype)
    value = loss(student, teacher, mask)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and student.grad.isfinite().all()
    assert value.item() == pytest.approx(loss(student.double(), teacher.double(), mask).item(), rel=1e-3)


def test_zero_exactly_where_student_and_teacher_agree():
    mask, scores, states = draw_mask(2, 4), draw(2, 2, 4, 4), draw(2, 4, 3)
    assert all(loss(scores, scores, mask).item() == pytest.approx(0, abs=1e-12) for loss in ATTENTION)
    assert all(loss(states, states, mask).item() == pytest.approx(0, abs=1e-12) for loss in HIDDEN)
    assert losses.hidden_cosine(3 * states, states, mask).item() == pytest.approx(0, abs=1e-12), "lengths are free"
    assert losses.attention_kl(scores + 5, scores, mask).item() == pytest.approx(0, abs=1e-12), "so is a constant"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_are_multiplied_in_float32(dtype):
    """300 * 300 has no float16, and bfloat16 has 8 bits: half a per cent."""
    states = (300 + draw(2, 2, 4, 8)).to(dtype)
    for found, exact in ((losses.relation_scores(states), losses.relation_scores(states.double())),
                         (Attention(states, states, states, 8**-0.5).scores(),
                          Attention(*[states.double()] * 3, 8**-0.5).scores())):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)
