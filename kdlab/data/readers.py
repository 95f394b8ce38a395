"""The named columns of one file, as it has them: the formats, and nothing about texts or labels.

CSV and TSV, JSON lines, JSON arrays, Parquet and Arrow, by extension in any case; each of them gzipped, too. A cell of
CSV or TSV is the characters that are there ("NA" and "01" are themselves). In a TSV, quotation marks are plain
characters, as in GLUE's, except where the whole file is written with quoting (`_is_quoted`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from ..errors import KdlabError

Values = dict[str, list]        # a column's name -> its cells: str, int, float, bool, None, or what a file can hold

READERS = {".csv": "comma-separated", ".tsv": "tab-separated", ".jsonl": "JSON lines", ".json": "JSON lines or a "
           "JSON array", ".parquet": "Parquet", ".arrow": "Arrow"}
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|[^"\t\r\n]*)(?:\t|\r?\n|\r|\Z)')


def kind_of(path: str | Path) -> str:
    """The extension of a file by which it is read: ".csv" of a.CSV and of a.csv.gz."""
    path = Path(str(path).lower())
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_columns(path: Path, wanted: Sequence[str], where: str | None = None, kind: str | None = None) -> Values:
    """The cells of the columns `wanted` of a file.

    Classes that a Parquet or Arrow file of `datasets` names are read as their names. where: how a sentence calls the
    file. Raises `KdlabError`, one sentence with file, row and remedy: no file, unknown extension, bytes that are not
    UTF-8, a file that is empty or cannot be read, a row longer than the header, a column that is missing or there
    twice.
    """
    where, kind = where or str(path), kind or kind_of(path)
    if not path.is_file():
        raise KdlabError(f"{where}: there is no such file; check the path")
    if kind not in READERS:
        ways = ".csv (in the spreadsheet program: Save As, CSV UTF-8)" if kind in SPREADSHEETS else \
            ", ".join(f"{end} ({what})" for end, what in READERS.items())
        raise KdlabError(f"{where}: the extension '{kind}' is not known; save the file as {ways}")
    if path.stat().st_size == 0:
        raise KdlabError(f"{where}: the file is empty; give a header line and at least one row")
    try:
        return {".csv": _separated, ".tsv": _separated, ".jsonl": _json, ".json": _json, ".parquet": _parquet,
                ".arrow": _arrow}[kind](path, wanted, where, kind)
    except KdlabError:
        raise
    except UnicodeDecodeError:
        raise KdlabError(f"{where}, row {_undecodable_row(path, kind)}: the bytes are not UTF-8; save the file "
                         "as UTF-8") from None
    except Exception as error:      # every parser has its own exceptions; the remedy is the same
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise KdlabError(f"{where}: this cannot be read as {READERS[kind]} ({reason}); correct the "
                         "file, or its extension") from None


def typed_columns(table: pa.Table, wanted: Sequence[str], where: str, classes: dict[str, list[str]]) -> Values:
    """The same of an Arrow table. classes: of columns of class numbers, the classes' names; a number that is no class,
    such as -1, is no label."""
    places = places_of(table.column_names, wanted, where)
    values = {name: table.column(place).to_pylist() for name, place in places.items()}
    for name in classes.keys() & values.keys():
        names = dict(enumerate(classes[name]))
        values[name] = [names.get(value) for value in values[name]]
    return values


def places_of(names: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, int]:
    """Where the columns `wanted` are among `names`. Raises `KdlabError` for one that is missing or there twice."""
    for name in wanted:
        if name not in names:
            raise KdlabError(f"{where}: there is no column '{name}'; name one of "
                             f"{', '.join(map(str, names))} with --text, --pair or --label")
        if (count := list(names).count(name)) > 1:
            raise KdlabError(f"{where}: there are {count} columns '{name}'; rename all but one")
    return {name: list(names).index(name) for name in wanted}


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def _lines(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="")


# ---- CSV and TSV ----------------------------------------------------------------------------------------------------

def _separated(path: Path, wanted: Sequence[str], where: str, kind: str) -> Values:
    csv.field_size_limit(2**31 - 1)     # of a cell: the module's own is 128 KiB
    separator = _separator(path, wanted, where, kind)
    quoting = csv.QUOTE_NONE if separator == "\t" and not _is_quoted(path) else csv.QUOTE_MINIMAL
    end = "\x1fthe end"
    with _lines(path) as lines:
        rows = (row for row in csv.reader(chain(lines, [end]), delimiter=separator, quoting=quoting)
                if len(row) > 1 or "".join(row).strip())
        header = next(rows)
        if header == [end]:
            raise KdlabError(f"{where}: the file is empty; give a header line and at least one row")
        places = places_of(header, wanted, where)
        values: Values = {name: [] for name in wanted}
        number, row = 0, header
        for number, row in enumerate(rows, start=1):
            if len(row) > len(header):
                raise KdlabError(f"{where}, row {number}: this cannot be read as {READERS[kind]} (the row has "
                                 f"{len(row)} cells and the header {len(header)}); put a text that has "
                                 f"{SEPARATORS[separator]} in it into quotation marks")
            for name, place in places.items():
                values[name].append(row[place] if place < len(row) else None)
    if row != [end]:
        raise KdlabError(f"{where}, row {number}: this cannot be read as {READERS[kind]} (a quotation mark is "
                         "opened and never closed); close it, or double it where it is part of a text")
    return {name: cells[:-1] for name, cells in values.items()}


def _separator(path: Path, wanted: Sequence[str], where: str, kind: str) -> str:
    """The extension's, or else one by which the header has the columns."""
    with _lines(path) as lines:
        header = next((line for line in lines if line.strip()), "")
    usual = "\t" if kind == ".tsv" else ","
    for separator in (usual, *SEPARATORS):
        if set(wanted) <= set(next(csv.reader([header], delimiter=separator), [])):
            if separator != usual:
                warnings.warn(f"{where}: the columns are separated by {SEPARATORS[separator]}, and are read so",
                              stacklevel=2)
            return separator
    return usual


def _is_quoted(path: Path) -> bool:
    """Whether a TSV was written with quoting: each cell that has a quotation mark is enclosed in them, with those
    inside doubled, and either the header is or a cell that must be (one with a mark, a tab or a line's end in it)."""
    with _open(path) as stream:
        if not any(b'"' in line for line in stream):
            return False
    with _lines(path) as lines:
        text = lines.read()
    place, needed = 0, text.startswith('"')
    while place < len(text):
        if not (cell := CELL.match(text, place)):
            return False
        needed = needed or bool(cell[1] and re.search(r'["\t\r\n]', cell[1]))
        place = cell.end()
    return needed


# ---- JSON, Parquet, Arrow -------------------------------------------------------------------------------------------

def _json(path: Path, wanted: Sequence[str], where: str, kind: str) -> Values:
    values: Values = {name: [] for name in wanted}
    seen: dict[str, None] = {}
    number = 0
    for number, row in enumerate(_objects(path, where, kind), start=1):
        if not isinstance(row, dict):
            raise KdlabError(f"{where}, row {number}: this cannot be read as {READERS[kind]} (it is no object); write "
                             'each row as {"column": value, ...}')
        seen |= dict.fromkeys(row)
        for name in wanted:
            values[name].append(row.get(name))
    if number:
        places_of(list(seen), wanted, where)
    return values


def _objects(path: Path, where: str, kind: str) -> Iterator[object]:
    with _lines(path) as lines:
        numbered = enumerate((line for line in lines if line.strip()), start=1)
        for number, line in numbered:
            try:
                if number == 1 and line.lstrip().startswith("["):
                    yield from json.loads(line + lines.read(), object_pairs_hook=_once_each)
                    return
                yield json.loads(line, object_pairs_hook=_once_each)
            except UnicodeDecodeError:
                raise
            except ValueError as error:
                raise KdlabError(f"{where}, row {number}: this cannot be read as {READERS[kind]} ({error}); write one "
                                 "object a line, or one array of objects") from None


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' is there twice")
    return row


def _parquet(path: Path, wanted: Sequence[str], where: str, kind: str) -> Values:
    with _open(path) as stream:
        file = pa.parquet.ParquetFile(stream)
        places_of(file.schema_arrow.names, wanted, where)
        return typed_columns(file.read(list(wanted)), wanted, where, _classes(file.schema_arrow))


def _arrow(path: Path, wanted: Sequence[str], where: str, kind: str) -> Values:
    with _open(path) as stream:
        content = pa.py_buffer(stream.read())
    form = pa.ipc.open_file if content[:6].to_pybytes() == b"ARROW1" else pa.ipc.open_stream
    table = form(content).read_all()
    return typed_columns(table, wanted, where, _classes(table.schema))


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """What the library `datasets` wrote beside the columns: of those of class numbers, the classes' names."""
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = (told.get("info") or {}).get("features") or {}
    return {name: kind["names"] for name, kind in features.items()
            if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" and kind.get("names")}


def _undecodable_row(path: Path, kind: str) -> int:
    """Row of the first line that is not UTF-8; the header is row 0 of CSV and TSV."""
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number - (kind in (".csv", ".tsv"))
    return 0
