"""The exercise checks: each classic mistake gets its own hint, written here as a learner would write it."""

import pytest
import torch
import torch.nn.functional as F

from kdlab.check import EXERCISES, check

MISTAKES = {
    "T^2 missing": ("1.2", lambda s, t, T: F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1),
                                                    reduction="batchmean"), "T^2 is missing"),
    "averaged over classes": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="mean"), "averaged over classes"),
    "teacher and student swapped": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(t / T, -1), F.softmax(s / T, -1), reduction="batchmean"), "teacher and student are swapped"),
    "wrong axis": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, 0), F.softmax(t / T, 0), reduction="batchmean"), "wrong axis"),
    "probabilities for log-probabilities": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean"),
        "probabilities were passed where log-probabilities belong"),
    "log target": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, -1), F.log_softmax(t / T, -1), reduction="batchmean"),
        "log-probabilities were passed where probabilities belong"),
    "mean and no T^2": ("1.2", lambda s, t, T: F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1)),
                        "two things"),
    "softmax over the wrong axis": ("1.1", lambda z, T: torch.softmax(z / T, 0), "wrong axis"),
    "T multiplies": ("1.1", lambda z, T: torch.softmax(z * T, -1), "divide by T"),
    "T ignored": ("1.1", lambda z, T: torch.softmax(z, -1), "T has no effect"),
    "T cancels": ("1.1", lambda z, T: z.exp() / T / (z.exp() / T).sum(-1, keepdim=True), "T has no effect"),
    "one sum for all": ("1.1", lambda z, T: (z / T).exp() / (z / T).exp().sum(), "keepdim"),
    "no p": ("1.2", lambda s, t, T: T**2 * ((t / T).log_softmax(-1) - (s / T).log_softmax(-1)).sum(-1).mean(),
             "factor p"),
    "raw logits": ("1.2", lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(-1), t / T, reduction="batchmean"),
                   "raw logits"),
    "nothing softened": ("1.2", lambda s, t, T: T**2 * F.kl_div(s.log_softmax(-1), t.softmax(-1),
                                                               reduction="batchmean"), "nothing is softened"),
    "sign": ("1.3", lambda s, t, T: T * ((t / T).softmax(-1) - (s / T).softmax(-1)) / len(s), "sign"),
    "of one text": ("1.3", lambda s, t, T: ((s / T).softmax(-1) - (t / T).softmax(-1)) / T, "one text's KL"),
    "no 1/B": ("1.3", lambda s, t, T: T * ((s / T).softmax(-1) - (t / T).softmax(-1)), "1/B is missing"),
    "label without its share": ("1.4", lambda y, C, e: torch.full((len(y), C), e / C).scatter(
        1, y[:, None], 1 - e), "own share"),
    "argmax of all": ("0.1", lambda s, t: (s.argmax() == t.argmax()).float(), "dim=-1"),
    "rounded": ("0.2", lambda s, t: round(s / t, 2), "rounded"),
    "others only": ("1.4", lambda y, C, e: torch.full((len(y), C), e / (C - 1)).scatter(
        1, y[:, None], 1 - e), "other classes only"),
    "counts": ("0.1", lambda s, t: (s.argmax(-1) == t.argmax(-1)).sum(), "divide by the number"),
    "axis": ("0.1", lambda s, t: (s.argmax(0) == t.argmax(0)).float().mean(), "dim=-1"),
    "swapped": ("0.2", lambda s, t: t / s, "swapped"),
}


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_classic_mistake_gets_its_own_hint(name):
    number, wrong, hint = MISTAKES[name]
    result = check(number, wrong)
    assert not result.passed
    assert hint in result.said


@pytest.mark.parametrize("number", EXERCISES)
def test_the_right_function_passes_and_no_mistake_is_right_or_another_mistake(number):
    exercise = EXERCISES[number]
    assert check(number, exercise.right).passed
    hints = [check(number, wrong).said for wrong, _ in exercise.mistakes]
    expected = [hint for _, hint in exercise.mistakes]
    assert [said.split(": ", 1)[1] for said in hints] == expected


@pytest.mark.parametrize(("function", "said"), [
    (lambda s, t, T: ..., "not written yet"), (lambda s, t, T: None, "not written yet"),
    (lambda s, t, T: f"{T:.0%}", "returned a str"), (lambda s, t, T: s @ t, "shapes, or numbers: ("),
    (lambda s, t, T: s / t.shape["x"], "stopped with TypeError"), (lambda s: s, "stopped with TypeError"),
    (lambda s, t, T: s, "the shape"), (lambda s, t, T: torch.tensor(float("inf")), "infinite or NaN"),
    (lambda s, t, T: torch.tensor(3.0), "should give"),
])
def test_anything_else_gets_a_sentence(function, said):
    result = check("1.2", function)
    assert not result.passed and said in result.said


def test_an_unknown_exercise_is_named():
    with pytest.raises(KeyError, match=r"there is no exercise 9\.9"):
        check("9.9", lambda: 0)


def test_the_gradient_exercise_agrees_with_autograd():
    def gradient(student, teacher, T):
        student = student.double().requires_grad_()
        loss = T**2 * F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher.double() / T, -1),
                               reduction="batchmean")
        loss.backward()
        return student.grad
    assert check("1.3", gradient).passed


def test_the_numbers_shown_are_those_that_differ():
    def almost(labels, C, e):
        right = (1 - e) * F.one_hot(labels, C).double() + e / C
        right[-1] = 0.123
        return right
    said = check("1.4", almost).said
    assert "gives [0.123, 0.123, 0.123, 0.123, 0.123] and should give [0." in said
