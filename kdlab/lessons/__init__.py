"""Exercise checks: try the learner's function on random inputs, and name the mistake it looks like.

One file a lesson says what its exercises are; `exercise` says how a function is examined.
"""

from __future__ import annotations

from collections.abc import Callable

from . import (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
)
from .exercise import Result, examine

LESSONS = (lesson_00, lesson_01, lesson_02, lesson_03, lesson_04, lesson_05, lesson_06, lesson_07, lesson_08,
           lesson_09)
EXERCISES = {number: exercise for lesson in LESSONS for number, exercise in lesson.EXERCISES.items()}


def check(number: str, function: Callable) -> Result:
    """Check the function written for exercise `number`; returns the verdict, which a notebook shows.

    Never raises: not for a wrong or unfinished function, nor for an exercise that does not exist.
    """
    if number not in EXERCISES:
        return Result(False, f"✗ there is no exercise {number}; there are {', '.join(EXERCISES)}")
    result = examine(EXERCISES[number], function)
    return Result(result.passed, f"{'✓' if result.passed else '✗'} exercise {number}: {result.said}")
