"""What an exercise is, and how a learner's function is examined: on random inputs, against the right one and the
classic wrong ones. One that agrees with a wrong one gets the hint for that mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 8           # random inputs a check tries


@dataclass(frozen=True)
class Exercise:
    """What a learner is to write. `mistakes`: wrong functions of the same inputs, each with its hint."""

    goal: str
    right: Callable
    inputs: Callable[[torch.Generator], tuple]
    mistakes: tuple[tuple[Callable, str], ...]


@dataclass(frozen=True)
class Result:
    """Whether a check passed, and the sentence that says so."""

    passed: bool
    said: str

    def __repr__(self) -> str:
        return self.said


def examine(exercise: Exercise, function: Callable) -> Result:
    generator = torch.Generator().manual_seed(0)
    cases = [exercise.inputs(generator) for _ in range(DRAWS)]
    answers = []
    for case in cases:
        try:
            answer = function(*(x.clone() if isinstance(x, Tensor) else x for x in case))
        except Exception as error:
            given = ", ".join(map(_given, case))
            return Result(False, f"your function stopped with {type(error).__name__}: {error} (it was given "
                                 f"tensors of these shapes, or numbers: {given})")
        if answer is None or answer is Ellipsis:
            return Result(False, "not written yet: replace the ... and run the cell again")
        try:
            answers.append(torch.as_tensor(answer, dtype=torch.float64))
        except (TypeError, ValueError):
            return Result(False, f"your function returned a {type(answer).__name__}; it should return "
                                 "a number or a tensor of numbers")
    right = [torch.as_tensor(exercise.right(*case), dtype=torch.float64) for case in cases]
    if _agree(answers, right):
        return Result(True, "right. " + exercise.goal)
    for wrong, hint in exercise.mistakes:
        if _agree(answers, [torch.as_tensor(wrong(*case), dtype=torch.float64) for case in cases]):
            return Result(False, hint)
    for ours, theirs in zip(answers, right, strict=True):   # of all cases: a list's length may depend on the input
        if ours.shape != theirs.shape:
            return Result(False, f"the result has the shape {tuple(ours.shape)}; it should have "
                                 f"{tuple(theirs.shape)}. {exercise.goal}")
    if any(not a.isfinite().all() for a in answers):
        return Result(False, "some results are infinite or NaN; try large logits, and let torch.softmax or "
                             "log_softmax do the exponentials, which subtract the maximum first")
    ours, theirs = max(zip(answers, right, strict=True), key=lambda pair: (pair[0] - pair[1]).abs().max())
    if ours.dim():
        width = ours.shape[-1]
        row = (ours - theirs).abs().argmax().item() // width
        ours, theirs = (x.reshape(-1, width)[row] for x in (ours, theirs))
    return Result(False, f"not yet: on one random input it gives {_short(ours)} and should give "
                         f"{_short(theirs)}. {exercise.goal}")


def _agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
               for a, b in zip(ours, theirs, strict=True))


def _given(x: object) -> str:
    """An input in short: a tensor's shape, a number, or what else it is (a function)."""
    if isinstance(x, Tensor):
        return str(tuple(x.shape))
    return f"{x:.4g}" if isinstance(x, int | float) else f"a {type(x).__name__}"


def _short(x: Tensor) -> str:
    numbers = ", ".join(f"{v:.4g}" for v in x.flatten().tolist())
    return numbers if x.numel() == 1 else f"[{numbers}]"


def logits(g: torch.Generator, *shape: int, scale: float = 2.0) -> Tensor:
    """Random inputs for an exercise."""
    return scale * torch.randn(*shape, generator=g)


def pair(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Student and teacher logits of a batch."""
    batch = int(torch.randint(6, 12, (), generator=g))
    return logits(g, batch, 5), logits(g, batch, 5)


def temperature(g: torch.Generator) -> float:
    return 1.5 + 3 * torch.rand((), generator=g).item()
