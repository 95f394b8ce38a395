"""Whether a teacher's classes are the data's, in the data's order: its own answers tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from torch import Tensor

from ..errors import KdlabError

FOUR_ERRORS = math.log(3.2e-5)      # of chance, to be four standard errors off to one side
SHOWN = 12                          # classes in the table of a message


def check_labels(teacher_logits: Tensor, labels: Tensor | Sequence[int], label_names: Sequence[str],
                 trust: bool = False) -> None:
    """Raise `KdlabError` where the teacher's answers fit the labels far better in another order of the classes.

    teacher_logits (n, C) on labelled rows; labels (n,), numbers of the classes label_names (C,). Of all C! orders the
    one with most hits is found, and each cycle in it, such as two classes that changed places, is judged by itself, on
    the rows whose label and answer are both of its classes. It counts where three things hold. As they are, the hits
    are no more than chance gives or at most half of the other order's. The other order's are more, by a sign test on
    the rows where just one of the two is right. And they are more than where answers and labels have nothing to do
    with each other (a teacher that gives one answer to all fits no order). "More" is by the odds of four standard
    errors, 3.2e-5, divided by the C! orders to choose from: of two classes in the wrong order 16 rows are enough, and
    a teacher that is merely bad passes. trust: pass anyway.
    """
    table = confusion(teacher_logits, labels, len(label_names))
    if trust or (order := order_that_fits(table)) is None:
        return
    right, better = np.trace(table), sum(table[label, answer] for answer, label in enumerate(order))
    raise KdlabError(
        f"the teacher's classes are not in the order of the data's labels: as they are {right / table.sum():.3f} of "
        f"its answers are right, and {better / table.sum():.3f} if its classes are, in this order, "
        f"{', '.join(label_names[label] for label in order)}; correct id2label in the teacher's config.json or the "
        f"labels in the data, or go on with --trust-label-order\n{_shown(table, label_names)}")


def confusion(teacher_logits: Tensor, labels: Tensor | Sequence[int], classes: int) -> np.ndarray:
    """How often label i is answered by class j, (C, C)."""
    table = np.zeros((classes, classes), np.int64)
    answers = teacher_logits[:, :classes].float().argmax(dim=-1).cpu().numpy()
    np.add.at(table, (np.asarray(labels), answers), 1)
    return table


def order_that_fits(table: np.ndarray) -> list[int] | None:
    """The label of each of the teacher's classes, by what `check_labels` says, or None if it is the order given."""
    classes = len(table)
    level = FOUR_ERRORS - math.lgamma(classes + 1)
    answer_of = linear_sum_assignment(-(table * (classes + 1) + np.eye(classes, dtype=np.int64)))[1]    # ties stay
    order = list(range(classes))
    for cycle in _cycles(answer_of):
        among = table[np.ix_(cycle, cycle)]         # the label of place i in a cycle is answered by class i + 1
        rows = max(among.sum(), 1)
        chance = np.outer(among.sum(1), among.sum(0)) / rows
        given, chance_given = np.trace(among), np.trace(chance)
        other, chance_other = (np.trace(np.roll(counts, -1, axis=1)) for counts in (among, chance))
        if (given <= chance_given or other >= 2 * given) \
                and binom.logsf(other - 1, given + other, 0.5) < level \
                and binom.logsf(other - 1, rows, chance_other / rows) < level:
            for i in cycle:
                order[answer_of[i]] = i
    return None if order == list(range(classes)) else order


def _cycles(permutation: Sequence[int]) -> list[list[int]]:
    """The cycles of two and more."""
    left, cycles = set(range(len(permutation))), []
    while left:
        cycle = [min(left)]
        while (following := int(permutation[cycle[-1]])) != cycle[0]:
            cycle.append(following)
        left -= set(cycle)
        cycles += [cycle] if len(cycle) > 1 else []
    return cycles


def _shown(table: np.ndarray, label_names: Sequence[str]) -> str:
    """The confusion table as text: a row a label, a column an answer; of many classes, those most often confused."""
    wrong = table.sum(0) + table.sum(1) - 2 * np.diag(table)
    some = sorted(np.argsort(-wrong, kind="stable")[:SHOWN])
    names = [label_names[i] for i in some]
    width = max(len("data \\ teacher"), *map(len, names))
    lines = [f"{name:>{width}}" + "".join(f"  {table[i, j]:>{max(len(label_names[j]), 6)}}" for j in some)
             for i, name in zip(some, names, strict=True)]
    head = f"{'data ' + chr(92) + ' teacher':>{width}}" + "".join(f"  {name:>6}" for name in names)
    return "\n".join([head, *lines])
