"""Losses against hand arithmetic, torch, gradcheck, and the defects that shipped in other kits."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from kdlab import losses

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(2, 7))   # places, places, classes
TEMPERATURES = st.floats(0.3, 20)


def _draw(shape, seed, dtype=torch.float64):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_soft_targets_by_hand():
    """T = 2, two classes: p = (1/4, 3/4), q = (1/2, 1/2), so KL = 1/4 ln(1/2) + 3/4 ln(3/2)."""
    teacher = 2 * torch.tensor([[0.25, 0.75]], dtype=torch.float64).log()
    student = torch.zeros(1, 2, dtype=torch.float64)
    expected = 4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert losses.soft_targets(student, teacher, T=2.0).item() == pytest.approx(expected, abs=1e-12)


@given(shape=SHAPES, T=TEMPERATURES, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_soft_targets_against_torch(shape, T, seed):
    student, teacher = _draw(shape, seed), _draw(shape, seed + 1)
    flat = (x.flatten(0, -2) for x in (student, teacher))
    s, t = flat
    expected = T**2 * F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean")
    assert losses.soft_targets(student, teacher, T).item() == pytest.approx(expected.item(), abs=1e-6, rel=1e-9)


@given(shape=SHAPES, T=TEMPERATURES, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_gradient_is_T_times_q_minus_p(shape, T, seed):
    student, teacher = _draw(shape, seed).requires_grad_(), _draw(shape, seed + 1)
    losses.soft_targets(student, teacher, T).backward()
    places = student.numel() // student.shape[-1]
    expected = T * (F.softmax(student / T, -1) - F.softmax(teacher / T, -1)) / places
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-8, atol=1e-10)


def test_peer_defect_1_missing_T_squared_the_gradient_keeps_its_size():
    """peers.md 6.1; keras-io #870: without T^2 the gradient falls 50-fold from T = 1 to 8."""
    norms = []
    for T in (1.0, 2.0, 4.0, 8.0):
        student = _draw((64, 5), 0).requires_grad_()
        losses.soft_targets(student, _draw((64, 5), 1), T).backward()
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 3


def test_peer_defect_mean_over_classes():
    """haitongli #2: twice the classes with the same distribution must not halve the loss."""
    student, teacher = _draw((8, 5), 0), _draw((8, 5), 1)
    wide = [F.pad(x, (0, 5), value=-1e9) for x in (student, teacher)]
    assert losses.soft_targets(*wide).item() == pytest.approx(losses.soft_targets(student, teacher).item())


def test_peer_defect_3_padding_in_the_mean():
    """optipfair #34, peers.md 6.3: what stands in masked places, and how many there are, is of no account."""
    student, teacher, mask = _draw((3, 4, 5), 0), _draw((3, 4, 5), 1), torch.ones(3, 4)
    expected = losses.soft_targets(student, teacher, mask=mask)
    padded = [F.pad(x, (0, 0, 0, 3), value=value) for x, value in ((student, math.nan), (teacher, math.inf))]
    longer = F.pad(mask, (0, 3))
    assert losses.soft_targets(*padded, mask=longer).item() == pytest.approx(expected.item())
    assert losses.soft_targets(student, teacher).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_peer_defect_7_nan_gradient_on_a_one_hot_teacher(T):
    """Soup #736: finite loss, NaN gradient."""
    teacher = torch.tensor([[0.0, -math.inf, -math.inf], [1e4, -1e4, 0.0]])
    student = torch.tensor([[1.0, 2.0, 3.0], [1e4, -1e4, 0.0]], requires_grad=True)
    loss = losses.soft_targets(student, teacher, T)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    expected = -T**2 * F.log_softmax(student[0] / T, -1)[0] / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_teacher_receives_no_gradient():
    student, teacher = _draw((2, 3), 0).requires_grad_(), _draw((2, 3), 1).requires_grad_()
    losses.soft_targets(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None


def test_direction_of_kl():
    p, q = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 0.0]])
    forward = (F.softmax(p, -1) * (F.log_softmax(p, -1) - F.log_softmax(q, -1))).sum()
    assert losses.kl_divergence(p, q).item() == pytest.approx(forward.item(), rel=1e-5)
    assert losses.kl_divergence(p, q).item() != pytest.approx(losses.kl_divergence(q, p).item(), rel=1e-2)
    assert losses.kl_divergence(p, p).item() == 0


@given(shape=SHAPES, seed=st.integers(0, 999))
@settings(deadline=None)
def test_jensen_shannon_against_scipy(shape, seed):
    p, q = _draw(shape, seed), _draw(shape, seed + 1)
    a, b = (x.softmax(-1).flatten(0, -2).numpy() for x in (p, q))
    expected = (jensenshannon(a, b, axis=-1) ** 2).mean()
    assert losses.jensen_shannon(p, q).item() == pytest.approx(expected, abs=1e-6)
    assert losses.jensen_shannon(q, p).item() == pytest.approx(expected, abs=1e-6), "the same both ways round"


@pytest.mark.parametrize("loss", [losses.soft_targets, losses.kl_divergence, losses.cross_entropy,
                                  losses.jensen_shannon])
def test_gradcheck(loss):
    teacher = _draw((3, 4), 1)
    arguments = (lambda s: loss(s, teacher)) if loss is losses.soft_targets else (lambda s: loss(teacher, s))
    assert torch.autograd.gradcheck(arguments, _draw((3, 4), 0).requires_grad_())


@given(shape=SHAPES, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_cross_entropy_is_entropy_plus_kl(shape, seed):
    p, q = _draw(shape, seed), _draw(shape, seed + 1)
    total = losses.entropy(p) + losses.kl_divergence(p, q)
    assert losses.cross_entropy(p, q).item() == pytest.approx(total.item(), abs=1e-9)
    categorical = torch.distributions.Categorical(logits=p)
    assert losses.entropy(p).item() == pytest.approx(categorical.entropy().mean().item(), abs=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_labels_by_hand(smoothing):
    logits, labels = _draw((4, 5), 0), torch.tensor([0, 4, -100, 2])
    log_q, kept = F.log_softmax(logits, -1), [0, 1, 3]
    expected = sum(-((1 - smoothing) * log_q[i, labels[i]] + smoothing * log_q[i].mean()) for i in kept) / 3
    assert losses.hard_labels(logits, labels, smoothing).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    student, teacher = _draw((8, 3000), 0).to(dtype), _draw((8, 3000), 1).to(dtype)
    loss = losses.soft_targets(student, teacher)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(losses.soft_targets(student.double(), teacher.double()).item(), rel=1e-5)


@given(shape=SHAPES, seed=st.integers(0, 999), T=TEMPERATURES)
@settings(deadline=None, max_examples=30)
def test_peer_defect_6_a_batch_is_the_mean_of_its_parts(shape, seed, T):
    """peers.md 6.6: normalised once, so that the loss does not depend on how rows are cut into batches."""
    student, teacher = _draw((2 * shape[0], *shape[1:]), seed), _draw((2 * shape[0], *shape[1:]), seed + 1)
    halves = [losses.soft_targets(s, t, T).item() for s, t in
              zip(student.chunk(2), teacher.chunk(2), strict=True)]
    assert losses.soft_targets(student, teacher, T).item() == pytest.approx(sum(halves) / 2, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_peer_defect_7_nan_gradient_of_either_direction(reverse):
    """A near one-hot distribution on either side of the divergence leaves a finite gradient on the other."""
    sharp, flat = torch.tensor([[200.0, -200.0, 0.0]]), torch.zeros(1, 3, requires_grad=True)
    pair = (flat, sharp) if reverse else (sharp, flat)
    loss = losses.kl_divergence(*pair)
    loss.backward()
    assert loss.isfinite() and flat.grad.isfinite().all() and flat.grad.abs().sum() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_labels_where_no_place_counts_are_zero_with_no_gradient(smoothing):
    logits = torch.randn(4, 3, requires_grad=True)
    loss = losses.hard_labels(logits, torch.full((4,), losses.IGNORED), smoothing)
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros(4, 3))


OUT = -math.inf
DIVERGENCES = {
    "forward": losses.kl_divergence, "reverse": lambda p, q, mask=None: losses.kl_divergence(q, p, mask),
    "jensen-shannon": losses.jensen_shannon, "cross-entropy": losses.cross_entropy,
    "cross-entropy, learning p": lambda p, q, mask=None: losses.cross_entropy(q, p, mask),
    "soft targets": lambda p, q, mask=None: losses.soft_targets(q, p, 2.0, mask),
    "entropy": lambda p, q, mask=None: losses.entropy(q, mask) + 0 * p.nan_to_num(0, 0, 0).sum(),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_class_that_both_rule_out_is_as_if_it_were_not_there(name):
    """In value, and in the gradient, which is 0 for the class; logits of two padded vocabularies look like this."""
    loss, p, q = DIVERGENCES[name], _draw((3, 4), 1), _draw((3, 4), 0)
    assert torch.autograd.gradcheck(lambda s: loss(p, s), q.clone().requires_grad_())
    found = []
    for more in (0, 2):
        student = F.pad(q, (0, more), value=OUT).requires_grad_()
        loss(F.pad(p, (0, more), value=OUT), student).backward()
        found.append((loss(F.pad(p, (0, more), value=OUT), student).item(), student.grad))
    (value, gradient), (padded, longer) = found
    assert padded == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(longer, F.pad(gradient, (0, 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["reverse", "jensen-shannon", "entropy", "cross-entropy, learning p"])
def test_a_class_that_the_student_alone_rules_out_leaves_a_finite_gradient(name):
    """q = (1/2, 1/2, 0) and p = (1/4, 1/4, 1/2), so that the mean of the two is (3/8, 3/8, 1/4)."""
    p = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).log()
    q = torch.tensor([[0.0, 0.0, OUT]], dtype=torch.float64, requires_grad=True)
    loss = DIVERGENCES[name](p, q)
    loss.backward()
    jensen = (math.log(4 / 3) + (0.5 * math.log(2 / 3) + 0.5 * math.log(2))) / 2
    expected = {"reverse": math.log(2), "jensen-shannon": jensen, "entropy": math.log(2),
                "cross-entropy, learning p": 2 * math.log(2)}[name]
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(q.grad, torch.zeros(1, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_probability_too_small_for_a_float_weighs_nothing():
    """e^-200 is 0 in float32; 0 times the infinity of a class that the other rules out would be NaN."""
    p, q = torch.tensor([[0.0, -200.0]]), torch.tensor([[0.0, OUT]], requires_grad=True)
    for loss in (losses.kl_divergence(p, q), losses.cross_entropy(p, q)):
        assert loss.item() == 0
        assert torch.equal(torch.autograd.grad(loss, q)[0], torch.zeros(1, 2))


SPARSE = (torch.tensor([0, 2]).expand(3, 5, 2), torch.tensor([0.25, 0.75], dtype=torch.float64).expand(3, 5, 2))
MASKED = {**DIVERGENCES,
          "hard labels": lambda p, q, mask: losses.hard_labels(q, torch.where(mask.bool(), 1, losses.IGNORED)),
          "hard labels, smoothed": lambda p, q, mask: losses.hard_labels(
              q, torch.where(mask.bool(), 1, losses.IGNORED), 0.1),
          "sparse": lambda p, q, mask: losses.sparse_soft_targets(
              q, SPARSE[0], SPARSE[1].where(mask.bool()[..., None], p[..., :2]), p[..., 0], 2.0, mask)}


@pytest.mark.parametrize("trash", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", MASKED)
def test_what_stands_in_a_masked_place_reaches_no_gradient(name, trash):
    loss, mask = MASKED[name], (torch.arange(5) < torch.tensor([[5], [2], [0]])).long()
    found = []
    for value in (0.5, trash):
        p, q = (_draw((3, 5, 4), seed).where(mask.bool()[..., None], value) for seed in (0, 1))
        q.requires_grad_()
        loss(p, q, mask).backward()
        found.append((loss(p, q, mask).item(), q.grad))
    assert found[0][0] == found[1][0] and found[1][1].abs().sum() > 0
    assert torch.equal(found[0][1], found[1][1]) and not found[1][1][~mask.bool()].any()


def test_a_temperature_divides_in_float32():
    """A student near its teacher: the difference is what rounding takes away first."""
    teacher = (100 + _draw((16, 50), 0)).bfloat16()
    student = (teacher.double() + _draw((16, 50), 1) / 3).bfloat16()

    def gradient(dtype):
        given = student.to(dtype).requires_grad_()
        losses.soft_targets(given, teacher.to(dtype), 3.0).backward()
        return given.grad.double()
    exact = gradient(torch.float64)
    assert (gradient(torch.bfloat16) - exact).norm() < 0.01 * exact.norm()
