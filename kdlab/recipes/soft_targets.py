"""Soft targets: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), the method every other is compared with.

Section 2: the student's objective is a weighted sum of

1. the loss with the teacher's soft targets, both models at the same temperature T, and
2. the cross-entropy with the hard labels at T = 1, for which a considerably lower weight works best.

The first carries T^2, so that the balance of the two survives a change of T.
"""

from __future__ import annotations

from ..loop import Stage
from ..terms import HardLabels, Objective, SoftTargets

SOFT_WEIGHT, HARD_WEIGHT = 0.9, 0.1


def with_teacher(steps: int, T: float = 2.0, labelled: bool = False, **settings) -> Stage:
    """The student's stage: soft targets, plus hard labels where the transfer set has them.

    settings: further fields of `Stage`, such as learning_rate and batch_size.
    """
    if not labelled:
        return Stage(Objective([SoftTargets(1.0, T)]), steps, name="soft targets", **settings)
    return Stage(Objective([SoftTargets(SOFT_WEIGHT, T), HardLabels(HARD_WEIGHT)]), steps,
                 name="soft targets and hard labels", **settings)


def no_teacher(steps: int, smoothing: float = 0.0, **settings) -> Stage:
    """The baseline at the same budget: the same student on hard labels alone."""
    return Stage(Objective([HardLabels(1.0, smoothing)]), steps, name="hard labels", **settings)
