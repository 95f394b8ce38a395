"""A user's file of texts and labels, read whole and checked row by row.

CSV, TSV, JSONL and Parquet by extension. Everything is text here: labels become numbers in
`kdlab.tasks`. A row is counted from 1 below the header, as a person would count.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .errors import KdlabError

READERS = {".csv": "comma-separated", ".tsv": "tab-separated", ".jsonl": "JSON lines", ".parquet": "Parquet"}


def read_table(path: str | Path, text: str, label: str) -> dict[str, list[str]]:
    """The columns `text` and `label` of a file, as {"text": [...], "label": [...]}.

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
    for column in (text, label):
        if column not in frame.columns:
            raise KdlabError(f"{path}: there is no column '{column}'; name one of "
                             f"{', '.join(map(str, frame.columns))} with --text or --label")
    if frame.empty:
        raise KdlabError(f"{path}: the file has no rows; give at least one below the header")
    columns = {}
    for name, column in (("text", text), ("label", label)):
        values = frame[column]
        missing = values.isna() | (values.astype(str).str.strip() == "")
        if missing.any():
            row = int(missing.to_numpy().argmax()) + 1
            raise KdlabError(f"{path}, row {row}: there is no {name} in the column '{column}'; fill it "
                             "in or delete the row")
        columns[name] = [_as_text(value) for value in values]
    return columns


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
