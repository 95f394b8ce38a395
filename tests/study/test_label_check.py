"""Are the teacher's classes in the data's order: what is told, and what is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.errors import KdlabError
from kdlab.study.label_check import check_labels, confusion, order_that_fits


def answers(labels, order, classes, accuracy=1.0, seed=0):
    """Logits of a teacher that is right at this rate, and whose class order[label] stands for a label."""
    rng = np.random.default_rng(seed)
    told = np.where(rng.random(len(labels)) < accuracy, labels, rng.integers(0, classes, len(labels)))
    return torch.nn.functional.one_hot(torch.tensor([order[i] for i in told]), classes).float()


@given(st.integers(2, 8).flatmap(lambda c: st.tuples(st.permutations(range(c)), st.integers(0, 99))))
@settings(deadline=None, max_examples=60)
def test_any_wrong_order_is_found_and_named(case):
    """Of 400 rows and a teacher of 0.8 and more: any order of 2 to 8 classes, two that changed places among them."""
    order, seed = case
    classes = len(order)
    labels = np.random.default_rng(seed).integers(0, classes, 400)
    names = [f"class{i}" for i in range(classes)]
    logits = answers(labels, order, classes, 0.75, seed)
    if list(order) == list(range(classes)):
        check_labels(logits, torch.tensor(labels), names)
        return
    fits = [order.index(j) for j in range(classes)]
    with pytest.raises(KdlabError, match=f"in this order, {', '.join(names[i] for i in fits)}; correct id2label"):
        check_labels(logits, torch.tensor(labels), names)
    check_labels(logits, torch.tensor(labels), names, trust=True)


def test_the_sentence_has_both_scores_the_table_and_the_way_on():
    labels = torch.tensor([0, 1, 2] * 20)
    with pytest.raises(KdlabError) as caught:
        check_labels(answers(labels.numpy(), [2, 0, 1], 3), labels, ("ENTAILMENT", "NEUTRAL", "NO"))
    sentence, *table = str(caught.value).splitlines()
    assert "as they are 0.000 of its answers are right, and 1.000 if" in sentence
    assert "NEUTRAL, NO, ENTAILMENT" in sentence and "--trust-label-order" in sentence
    assert [line.split() for line in table[1:]] == [["ENTAILMENT", "0", "0", "20"], ["NEUTRAL", "20", "0", "0"],
                                                    ["NO", "0", "20", "0"]]


@pytest.mark.parametrize("table", [
    [[30, 30], [30, 30]],                   # no better than chance
    [[10, 0], [90, 0]],                     # one answer to all, and not the more frequent label
    [[400, 100], [250, 250]],               # a teacher that is bad at one class
    [[30, 40], [40, 30]],                   # somewhat the other way round, on few rows
    [[4_000, 4_500, 1_500], [1_500, 4_000, 4_500], [4_500, 1_500, 4_000]],      # bad, and better than chance
    [[3_600, 1_850, 0], [0, 0, 0], [1_850, 0, 0]],    # two orders that fit it alike
    [[0, 8], [7, 0]],                       # too few rows to tell
    [[0, 0], [0, 0]],
    [[50, 0, 0], [0, 40, 10], [0, 28, 22]],  # two classes that it hardly tells apart
])
def test_what_is_no_wrong_order(table):
    assert order_that_fits(np.array(table)) is None


def test_sixteen_rows_are_enough_for_two_classes():
    assert order_that_fits(np.array([[0, 8], [8, 0]])) == [1, 0]


def test_a_weak_teacher_the_wrong_way_round_is_found_too():
    assert order_that_fits(np.array([[300, 450], [450, 300]])) == [1, 0], "it scores .4, below chance"
    assert order_that_fits(np.array([[200, 300, 0], [300, 200, 0], [0, 0, 2_000]])) == [1, 0, 2], "two of three classes"


def test_no_teacher_of_chance_is_refused():
    """5,000 of them: C! orders to choose from, and none seems better than it is."""
    rng = np.random.default_rng(0)
    for classes, rows in itertools.product((2, 3, 6, 12), (20, 100, 1_000)):
        for _ in range(400):
            table = confusion(torch.from_numpy(rng.random((rows, classes))), rng.integers(0, classes, rows), classes)
            assert order_that_fits(table) is None


def test_data_that_lack_some_of_the_classes():
    labels = np.array([0, 2] * 30)
    check_labels(answers(labels, [0, 1, 2], 3), labels, ("a", "b", "c"))
    with pytest.raises(KdlabError, match="in this order"):
        check_labels(answers(labels, [2, 1, 0], 3), labels, ("a", "b", "c"))
