"""Labels as a file spells them, and the numbers of classes: the data's own, or a model's."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Sequence

from transformers import PretrainedConfig

from ..errors import KdlabError

WHOLE = re.compile(r"(-?\d+)\.0+")                              # 1.0 is 1
NONE = ("nan", "na", "n/a", "none", "null", "<na>")             # what stands for no label in a column of numbers
MOST_FRACTIONS = 10                                             # classes that are numbers such as 3.5; more are scores
Tables = dict[str, dict[str, list[str]]]                        # split -> what is read -> one a row


def label_names_of(config: PretrainedConfig) -> tuple[str, ...]:
    """The names of a model's classes by class number, in whatever order config.json lists them.

    Raises `KdlabError` where the numbers are not 0, 1, 2, ...
    """
    named = {int(key): str(name) for key, name in config.id2label.items()}
    if sorted(named) != list(range(len(named))):
        raise KdlabError(f"{config.name_or_path or 'the model'}: id2label in config.json names the classes "
                         f"{', '.join(map(str, sorted(named)))}; number them 0, 1, 2, ...")
    return tuple(named[i] for i in range(len(named)))


def class_labels(tables: Tables, sources: dict[str, str],
                 theirs: Sequence[str] | None = None) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """The names of the classes, and each split's labels as their numbers.

    Blanks around a label are no part of it, which is said, and 1.0 is 1. theirs: a model's names, which give the order
    (see `class_numbers`); without them the sorted distinct labels of train do, numbers as numbers. Raises `KdlabError`
    for labels that differ only in case or blanks, for what is no label, for a single class, and for a label that train,
    or the model, does not have.
    """
    labels = {split: _cleaned(table["label"], sources[split]) for split, table in tables.items()}
    rows = [(sources[split], row, label) for split in labels for row, label in enumerate(labels[split], start=1)]
    _refuse_what_is_none(rows)
    every = sorted({label for _, _, label in rows}, key=_numbers_first)
    both = " and ".join(dict.fromkeys(sources.values()))
    _refuse_look_alikes(every, both)
    if theirs is not None:
        number = class_numbers(theirs, every, both)
    else:
        number = {name: i for i, name in enumerate(sorted(set(labels["train"]), key=_numbers_first))}
        if len(number) < 2:
            raise KdlabError(f"{sources['train']}: every row has the label '{next(iter(number))}'; a classifier needs "
                             "at least two")
        for source, row, label in rows:
            if label not in number:
                raise KdlabError(f"{source}, row {row}: the label '{label}' does not occur in {sources['train']}; "
                                 "correct it, or add training rows that have it")
    return tuple(theirs or number), {split: [number[label] for label in found] for split, found in labels.items()}


def class_numbers(theirs: Sequence[str], ours: Sequence[str], source: str = "the data") -> dict[str, int]:
    """Each of the data's labels -> the number of the model's class of that name, which may be in other case.

    Data need not have all of the model's classes. Where the data's labels are numbers below the number of classes, or
    the model's are nameless (LABEL_0, LABEL_1, ...) and as many as the data's, they are taken to be in one order, which
    is said: only the model's answers can tell (`kdlab.study.label_check`). Raises `KdlabError` where it cannot be told
    which label is which.
    """
    exact, folded = ({fold(name): i for i, name in enumerate(theirs)} for fold in (str, _folded))
    if len(folded) < len(theirs):       # of names that differ only in case, each is its own
        folded = {}
    by_name = {name: exact.get(name, folded.get(_folded(name))) for name in ours}
    if None not in by_name.values() and len(set(by_name.values())) == len(ours):
        return by_name
    if not any(_folded(name) in folded for name in ours):
        taken = None
        if all(name.isdecimal() and str(int(name)) == name and int(name) < len(theirs) for name in ours):
            taken = {name: int(name) for name in ours}
        elif list(theirs) == [f"LABEL_{i}" for i in range(len(ours))]:
            taken = {name: i for i, name in enumerate(ours)}
        if taken is not None:
            if not _nameless(theirs) or list(taken) != [str(i) for i in taken.values()]:
                told = ", ".join(f"{name} = {theirs[i]}" for name, i in taken.items())
                warnings.warn(f"{source}: nothing says which label is which of the teacher's classes; they are taken "
                              f"in order ({told})", stacklevel=2)
            return taken
    raise KdlabError(f"{source}: the labels are {', '.join(ours)} and the teacher's {', '.join(theirs)}; write the "
                     "teacher's into the data, or their numbers, 0, 1, 2, ..., in the teacher's order")


def numbers(values: Iterable[str], source: str) -> list[float]:
    """The labels of a regression. Raises `KdlabError` for one that is no finite number."""
    out = []
    for row, value in enumerate(values, start=1):
        if not math.isfinite(number := _number(value)):
            raise KdlabError(f"{source}, row {row}: the label '{value}' is no number, and this task is a regression; "
                             "correct it, or leave out --regression")
        out.append(number)
    return out


def _cleaned(labels: list[str], source: str) -> list[str]:
    bare = [label.strip() for label in labels]
    if (blank := sum(a != b for a, b in zip(bare, labels, strict=True))):
        warnings.warn(f"{source}: {blank:,} labels have blanks around them, which are left out", stacklevel=3)
    return [WHOLE.sub(r"\1", label) if WHOLE.fullmatch(label) else label for label in bare]


def _refuse_what_is_none(rows: list[tuple[str, int, str]]) -> None:
    names = {label for _, _, label in rows}
    numeric = {label for label in names if math.isfinite(_number(label))}
    scores = numeric == names and len(names) > MOST_FRACTIONS
    for source, row, label in rows:
        if scores and not _number(label).is_integer():
            raise KdlabError(f"{source}, row {row}: the label is {label}, one of {len(names)} numbers; add "
                             "--regression where they are scores to be met, or write the classes as words")
        if label.startswith("[") and label.endswith("]"):
            raise KdlabError(f"{source}, row {row}: the label '{label}' is a list; write one label a row")
        if numeric and label.lower() in NONE and not {name for name in names - numeric if name.lower() not in NONE}:
            raise KdlabError(f"{source}, row {row}: the label '{label}' is no number, and the others are; fill it in "
                             "or delete the row")
        if label == "-1" and (names == {"-1"} or "0" in names):
            raise KdlabError(f"{source}, row {row}: the label is -1, which marks rows without a label, as in GLUE's "
                             "test files; delete them, or take a split that has labels, or write a word where it is a "
                             "class")


def _refuse_look_alikes(names: Iterable[str], source: str) -> None:
    alike: dict[object, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(_folded(name), []).append(name)
    if pairs := [same for same in alike.values() if len(same) > 1]:
        told = "; ".join(" and ".join(f"'{name}'" for name in same) for same in pairs)
        raise KdlabError(f"{source}: labels differ only in how they are written ({told}); write each class in one way")


def _folded(name: str) -> str | float:
    """What labels that differ only in case, blanks or a number's spelling have in common."""
    return number if math.isfinite(number := _number(name)) else " ".join(name.casefold().split())


def _nameless(theirs: Sequence[str]) -> bool:
    return list(theirs) == [f"LABEL_{i}" for i in range(len(theirs))]


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan


def _numbers_first(name: str) -> tuple[int, float, str]:
    number = _number(name)
    return (0, number, name) if math.isfinite(number) else (1, 0.0, name)
