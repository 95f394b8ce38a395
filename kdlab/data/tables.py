"""A user's texts and labels, read whole and checked row by row.

From a file (CSV, TSV, JSONL and Parquet by extension), from a data set on the Hub or from a folder that holds one.
Everything is text here: labels become numbers in `kdlab.data.tasks`. A row is counted from 1 below the header, as a
person would count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import KdlabError
from ..files import HUB_NAME

READERS = {".csv": "comma-separated", ".tsv": "tab-separated", ".jsonl": "JSON lines", ".parquet": "Parquet"}


def is_data_set(name: str | Path) -> bool:
    """Whether a name is that of a data set, a folder or owner/name on the Hub, and not of a file."""
    return Path(name).is_dir() or bool(HUB_NAME.fullmatch(str(name)) and Path(name).suffix not in READERS)


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
    """The named columns of a file, as {"text": [...], "label": [...]}, and "pair" if there is one.

    Raises `KdlabError`, one sentence with file, row and remedy: no file, unknown extension, bytes
    that are not UTF-8, a file that is empty or cannot be read, a missing column, a row without text or
    label.
    """
    path = Path(path)
    if not path.is_file():
        raise KdlabError(f"{path}: there is no such file; check the path")
    if path.suffix not in READERS:
        raise KdlabError(f"{path}: the extension '{path.suffix}' is not known; save the file as "
                         + ", ".join(f"{end} ({what})" for end, what in READERS.items()))
    frame = _read(path)
    return _checked(frame, columns, str(path))


def read_dataset(name: str, subset: str | None, split: str, columns: Columns) -> dict[str, list[str]]:
    """The same of a split of a data set: "owner/name" on the Hub, or a folder of such files.

    Classes that the data set names are read as their names. Raises `KdlabError` for a data set, subset or split that
    is not there, a Hub that cannot be reached, and what `read_table` refuses.
    """
    from datasets import ClassLabel, load_dataset

    where = f"{name}, split {split}"
    try:
        with _no_bars():
            data = load_dataset(name, subset, split=split)
    except Exception as error:      # of many kinds, by what is missing
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "check --data, --subset and the split" if Path(name).is_dir() or "Couldn't reach" not in reason else \
            "where there is a network, fetch it with `hf download " \
            f"{name} --repo-type dataset --local-dir FOLDER`, and give that folder"
        raise KdlabError(f"{where}: this cannot be read ({reason}); {advice}") from None
    frame = data.to_pandas()
    for column in columns.wanted.values():
        if isinstance(kind := data.features.get(column), ClassLabel):
            names = dict(enumerate(kind.names))
            frame[column] = frame[column].map(lambda value, names=names: names.get(value))
    return _checked(frame, columns, where)


def _checked(frame: pd.DataFrame, columns: Columns, where: str) -> dict[str, list[str]]:
    for column in columns.wanted.values():
        if column not in frame.columns:
            raise KdlabError(f"{where}: there is no column '{column}'; name one of "
                             f"{', '.join(map(str, frame.columns))} with --text, --pair or --label")
    if frame.empty:
        raise KdlabError(f"{where}: the file has no rows; give at least one below the header")
    table = {}
    for what, column in columns.wanted.items():
        values = frame[column]
        missing = values.isna() | (values.astype(str).str.strip() == "")
        if missing.any():
            row = int(missing.to_numpy().argmax()) + 1
            raise KdlabError(f"{where}, row {row}: there is no {what} in the column '{column}'; fill it "
                             "in or delete the row")
        table[what] = [_as_text(value) for value in values]
    return table


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


def _read(path: Path) -> pd.DataFrame:
    if path.stat().st_size == 0:
        raise KdlabError(f"{path}: the file is empty; give a header line and at least one row")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        # Quotation marks are plain characters in TSV files such as GLUE's.
        tab = {"sep": "\t", "quoting": 3} if path.suffix == ".tsv" else {}
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", **tab)
    except UnicodeDecodeError:
        raise KdlabError(f"{path}, row {_undecodable_row(path)}: the bytes are not UTF-8; save the file "
                         "as UTF-8") from None
    except Exception as error:      # every parser has its own exceptions; the remedy is the same
        reason = str(error).splitlines()[0].rstrip(".")
        raise KdlabError(f"{path}: this cannot be read as {READERS[path.suffix]} ({reason}); correct the "
                         "file, or its extension") from None


def _undecodable_row(path: Path) -> int:
    """Row of the first line that is not UTF-8; the header is row 0 of CSV and TSV."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number - (path.suffix != ".jsonl")
    return 0


def _as_text(value: object) -> str:
    """Labels 1 and 1.0 of a typed file are the same label."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
