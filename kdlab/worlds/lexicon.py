"""The lexicon file: the words of a built-in world, which a person can read and edit.

A lexicon is a CSV file with one word a line and the columns

=========  ====================================================================================
word       lower-case letters only, each word once
role       noun, adjective, verb, opener, verdict, degree or negator
topic      nouns: one of the world's topics; adjectives: a topic, or ``any`` for all of them
polarity   adjectives, verbs, openers, verdicts: what the word alone says, in stars above (+) or
           below (-) the middle of the scale, from -2 to 2
factor     degrees and negators: what the following adjective's polarity is multiplied by
=========  ====================================================================================

To make a new domain, copy ``data/restaurant.csv`` and change the words; `kdlab.worlds.corpus.World` takes
the path. Every mistake is refused with file, line and reason.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import KdlabError
from ..files import DATA

COLUMNS = ("word", "role", "topic", "polarity", "factor")
OPINION_ROLES = ("adjective", "verb", "opener", "verdict")
FACTOR_ROLES = ("degree", "negator")
ROLES = ("noun", *OPINION_ROLES, *FACTOR_ROLES)
WORDS_OF_GRAMMAR = frozenset("the was and but although we overall a an".split())
MIN_WORDS = {"noun": 4, "adjective": 6, "verb": 4, "opener": 4, "verdict": 4, "degree": 1, "negator": 1}


@dataclass(frozen=True)
class Entry:
    """One line of the lexicon. `polarity` is 0 for nouns, degrees and negators; `factor` is 1
    wherever the role has none."""

    word: str
    role: str
    topic: str
    polarity: float
    factor: float
    line: int


@dataclass(frozen=True)
class Lexicon:
    """All entries of one file, with the look-ups the grammar needs."""

    path: Path
    entries: dict[str, Entry]
    topics: tuple[str, ...]

    def words(self, role: str, topic: str | None = None) -> list[Entry]:
        """Entries of a role, lowest polarity first; with a topic, those of it or of ``any``."""
        chosen = [e for e in self.entries.values()
                  if e.role == role and (topic is None or e.topic in (topic, "any"))]
        return sorted(chosen, key=lambda e: (e.polarity, e.word))


def available() -> list[str]:
    """Names of the lexicons that ship in ``data/``."""
    return sorted(path.stem for path in DATA.glob("*.csv"))


def load_lexicon(name: str | Path = "restaurant") -> Lexicon:
    """Read a lexicon by its shipped name or by the path of a CSV file.

    Raises `KdlabError` naming file, line and reason: no such file, not UTF-8, a missing column, an
    unknown role, a duplicate word, a polarity or factor that is no number or out of range, a topic
    with too few nouns, too few words of a role.
    """
    path = Path(name)
    if path.suffix != ".csv":
        path = DATA / f"{name}.csv"
    if not path.is_file():
        raise KdlabError(f"there is no lexicon '{name}': name one of {', '.join(available())}, "
                         "or give the path of a .csv file")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            entries = _read(path, file)
    except UnicodeDecodeError as error:
        raise KdlabError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except csv.Error as error:
        raise KdlabError(f"{path}: not a CSV file ({error}); save it as comma-separated text") from None
    topics = tuple(dict.fromkeys(e.topic for e in entries.values() if e.role == "noun"))
    _check_counts(path, entries, topics)
    return Lexicon(path, entries, topics)


def _read(path: Path, file) -> dict[str, Entry]:
    reader = csv.DictReader(file)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise KdlabError(f"{path}, line 1: no column '{missing[0]}'; the first line must name "
                         f"the columns {', '.join(COLUMNS)}")
    entries: dict[str, Entry] = {}
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise KdlabError(f"{where}: {len(reader.fieldnames)} fields are wanted, one for each of "
                             f"{', '.join(reader.fieldnames)}; add or remove commas")
        entry = _entry(where, {key: value.strip() for key, value in row.items()}, reader.line_num)
        if entry.word in entries:
            raise KdlabError(f"{where}: '{entry.word}' stands already at line {entries[entry.word].line}; "
                             "give each word once, or its role would be ambiguous")
        entries[entry.word] = entry
    return entries


def _entry(where: str, row: dict[str, str], line: int) -> Entry:
    word, role, topic = row["word"], row["role"], row["topic"]
    if not re.fullmatch("[a-z]+", word):
        raise KdlabError(f"{where}: '{word}' is not a word of lower-case letters a-z; spell it so")
    if word in WORDS_OF_GRAMMAR:
        raise KdlabError(f"{where}: '{word}' is a word of the grammar itself; choose another")
    if role not in ROLES:
        raise KdlabError(f"{where}: unknown role '{role}'; use one of {', '.join(ROLES)}")
    if role in ("noun", "adjective") and not topic:
        raise KdlabError(f"{where}: the {role} '{word}' has no topic; name one"
                         + (", or 'any'" if role == "adjective" else ""))
    if role == "noun" and topic == "any":
        raise KdlabError(f"{where}: the noun '{word}' needs a topic of its own, not 'any'")
    polarity = _number(where, row, "polarity", -2.0, 2.0) if role in OPINION_ROLES else 0.0
    factor = _number(where, row, "factor", -2.0, 2.0) if role in FACTOR_ROLES else 1.0
    if (role == "negator" and factor >= 0) or (role == "degree" and factor <= 0):
        raise KdlabError(f"{where}: the {role} '{word}' has the factor {factor:g}; a degree's is above "
                         "0 and a negator's below 0")
    return Entry(word, role, topic, polarity, factor, line)


def _number(where: str, row: dict[str, str], column: str, low: float, high: float) -> float:
    try:
        value = float(row[column])
    except ValueError:
        raise KdlabError(f"{where}: the {column} of '{row['word']}' is '{row[column]}', which is no "
                         f"number; write one from {low:g} to {high:g}") from None
    if not low <= value <= high:
        raise KdlabError(f"{where}: the {column} of '{row['word']}' is {value:g}; it must lie "
                         f"from {low:g} to {high:g}")
    return value


def _check_counts(path: Path, entries: dict[str, Entry], topics: tuple[str, ...]) -> None:
    for role, least in MIN_WORDS.items():
        count = sum(e.role == role for e in entries.values())
        if count < least:
            raise KdlabError(f"{path}, lines 2 to {len(entries) + 1}: {count} words have the role '{role}' and "
                             f"at least {least} are needed; add some")
    for entry in entries.values():
        if entry.role == "adjective" and entry.topic not in (*topics, "any"):
            raise KdlabError(f"{path}, line {entry.line}: the adjective '{entry.word}' has the topic "
                             f"'{entry.topic}', which no noun has; use one of {', '.join(topics)} or 'any'")
    for topic in topics:
        nouns = sum(e.role == "noun" and e.topic == topic for e in entries.values())
        if nouns < MIN_WORDS["noun"]:
            raise KdlabError(f"{path}, lines 2 to {len(entries) + 1}: the topic '{topic}' has {nouns} nouns and at "
                             f"least {MIN_WORDS['noun']} are needed, one for each clause of a review; add some")
        for sign, name in ((1, "positive"), (-1, "negative")):
            if not any(e.role == "adjective" and e.topic in (topic, "any") and e.polarity * sign > 0
                       for e in entries.values()):
                raise KdlabError(f"{path}, lines 2 to {len(entries) + 1}: the topic '{topic}' has no {name} "
                                 "adjective; add one")
