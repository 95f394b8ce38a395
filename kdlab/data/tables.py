"""A user's texts and labels, read whole and checked row by row.

From a file (`kdlab.data.readers`), a data set that `datasets` saved, one on the Hub, or a folder that holds one. One
reader reads a file, whether it is named or lies in a folder. Everything is text here: labels become numbers in
`kdlab.data.tasks`. A row is counted from 1 below the header, as a person would count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import KdlabError
from ..files import HUB_NAME
from .readers import READERS, Values, kind_of, read_columns, typed_columns

KINDS = {bytes: "bytes", list: "a list", dict: "an object with fields"}     # that are no text


def is_data_set(name: str | Path) -> bool:
    """Whether a name is that of a data set with splits, a folder or owner/name on the Hub, and not of a file, nor of a
    lone `Dataset` that was saved."""
    path = Path(name)
    if path.is_dir():
        return not _is_one_split(path)
    return not path.exists() and bool(HUB_NAME.fullmatch(str(name))) and kind_of(path) not in READERS \
        and not path.parent.is_dir()    # a mistyped path


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read; `pair` is that of a second text, for tasks on pairs of texts."""

    text: str = "text"
    label: str = "label"
    pair: str | None = None

    @property
    def wanted(self) -> dict[str, str]:
        """What is read -> the column's name."""
        names = {"text": self.text, "pair": self.pair, "label": self.label}
        return {what: name for what, name in names.items() if name is not None}


def read_table(path: str | Path, columns: Columns) -> dict[str, list[str]]:
    """The named columns of a file, as {"text": [...], "label": [...]}, and "pair" if there is one; of a folder in which
    `Dataset.save_to_disk` saved one, too.

    Raises `KdlabError`, one sentence with file, row and remedy: what `read_columns` refuses, no rows, a row without
    text or label, a text or label that is none, such as a list.
    """
    path = Path(path)
    if _is_one_split(path):
        from datasets import load_from_disk

        return _checked(_of_dataset(load_from_disk(str(path)), columns, str(path)), columns, str(path))
    return _checked(read_columns(path, _names(columns)), columns, str(path))


def read_dataset(name: str, subset: str | None, split: str, columns: Columns) -> dict[str, list[str]]:
    """The same of a split of a data set: "owner/name" on the Hub, a folder of such files, or one that
    `DatasetDict.save_to_disk` saved, of which only what it lists is read.

    Classes that the data set names are read as their names. Raises `KdlabError` for a data set, subset or split that
    is not there, a Hub that cannot be reached, and what `read_table` refuses.
    """
    where = f"{name}, split {split}"
    try:
        with _no_bars():
            values = _of_saved(name, split, columns, where) if (Path(name) / "dataset_dict.json").is_file() else \
                _of_files(name, subset, split, columns, where)
    except KdlabError:
        raise
    except Exception as error:      # of many kinds, by what is missing
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "check --data, --subset and the split" if Path(name).is_dir() or "Couldn't reach" not in reason else \
            "where there is a network, fetch it with `hf download " \
            f"{name} --repo-type dataset --local-dir FOLDER`, and give that folder"
        raise KdlabError(f"{where}: this cannot be read ({reason}); {advice}") from None
    return _checked(values, columns, where)


def _of_saved(name: str, split: str, columns: Columns, where: str) -> Values:
    from datasets import load_from_disk

    splits = load_from_disk(name)
    if split not in splits:
        raise ValueError(f"there is no split {split}, only {', '.join(splits)}")
    return _of_dataset(splits[split], columns, where)


def _of_files(name: str, subset: str | None, split: str, columns: Columns, where: str) -> Values:
    """By the files that `datasets` finds for the split, each read by `read_columns`. A split may be a part, such as
    train[:10%], or a sum."""
    from datasets import ClassLabel, DownloadManager, ReadInstruction, load_dataset, load_dataset_builder

    builder = load_dataset_builder(name, subset)
    files = builder.config.data_files or {}
    parts = {part: part.partition("[")[0].strip() for part in split.split("+")}
    if not all(kind_of(file) in READERS for whole in parts.values() for file in files.get(whole, [""])):
        return _of_dataset(load_dataset(name, subset, split=split), columns, where)    # other formats, or no such split
    values: Values = {column: [] for column in _names(columns)}
    for part, whole in parts.items():
        read: Values = {column: [] for column in values}
        here = DownloadManager().download(list(files[whole]))
        for file, path in zip(files[whole], here, strict=True):
            for column, cells in read_columns(Path(path), list(values), str(file), kind_of(file)).items():
                read[column] += cells
        rows = len(read[columns.text])
        some = ReadInstruction.from_spec(part.strip()).to_absolute({whole: rows})[0]
        for column, cells in read.items():
            values[column] += cells[some.from_:some.to]
    for column in values:
        if isinstance(kind := (builder.info.features or {}).get(column), ClassLabel):
            names = {str(i): class_name for i, class_name in enumerate(kind.names)}
            values[column] = [cell if cell in kind.names else names.get(str(cell)) for cell in values[column]]
    return values


def _of_dataset(data, columns: Columns, where: str) -> Values:
    from datasets import ClassLabel

    classes = {column: kind.names for column, kind in data.features.items() if isinstance(kind, ClassLabel)}
    return typed_columns(data.with_format("arrow")[:], _names(columns), where, classes)


def _is_one_split(path: Path) -> bool:
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def _names(columns: Columns) -> list[str]:
    return list(dict.fromkeys(columns.wanted.values()))


def _checked(values: Values, columns: Columns, where: str) -> dict[str, list[str]]:
    if not values[columns.text]:
        raise KdlabError(f"{where}: the file has no rows; give at least one below the header")
    return {what: [_as_text(value, f"{where}, row {row}", what, column)
                   for row, value in enumerate(values[column], start=1)]
            for what, column in columns.wanted.items()}


def _as_text(value: object, where: str, what: str, column: str) -> str:
    """Labels 1 and 1.0 of a typed file are the same label."""
    if kind := KINDS.get(type(value)):
        raise KdlabError(f"{where}: the {what} in the column '{column}' is {kind}; write "
                         f"{'one label a row' if what == 'label' else 'it as text'}")
    if value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip():
        raise KdlabError(f"{where}: there is no {what} in the column '{column}'; fill it in or delete the row")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the progress bars of `datasets` off the page."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
