"""What a review means: the grammar of the built-in worlds, and its reader.

    review    ->  [OPENER ,] sentence+ [overall , a VERDICT .]
    sentence  ->  clause .  |  clause and clause .  |  clause but clause .  |  although clause , clause .
    clause    ->  the NOUN was [DEGREE | NEGATOR] ADJECTIVE
               |  the NOUN was ADJECTIVE and ADJECTIVE
               |  we VERB the [ADJECTIVE] NOUN

What a reader may conclude is a fixed function of the text:

* every adjective, verb, opener and verdict is one opinion, worth its polarity in the lexicon;
* a degree or negator multiplies the polarity of the adjective behind it ("not" by -0.7);
* an opinion in a conceded clause (before "but", or after "although") counts half;
* the score is the weighted mean of the opinions, in stars from the middle of the scale;
* p(k stars) is proportional to exp(-(k - 3 - score)^2 / (2 s^2)), k = 1..5, s = `SPREAD`.

The grammar is LL(1): one look at the next word tells what follows, so a text has one parse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import KdlabError
from .lexicon import Lexicon

STARS = 5
SPREAD = 0.6            # s above, in stars
CONCEDED_WEIGHT = 0.5


@dataclass(frozen=True)
class Opinion:
    """One opinion found in a text: the word, its value in stars after degree or negation, its weight."""

    word: str
    value: float
    weight: float


def stars_given_score(score: np.ndarray) -> np.ndarray:
    """p(stars | score), shape (..., 5), of scores of shape (...) in stars from the middle."""
    offsets = np.arange(STARS) - (STARS - 1) / 2
    logits = -((offsets - np.asarray(score, dtype=np.float64)[..., None]) ** 2) / (2 * SPREAD**2)
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def score(opinions: list[Opinion]) -> float:
    """The weighted mean of a text's opinions, in stars from the middle of the scale."""
    return sum(o.weight * o.value for o in opinions) / sum(o.weight for o in opinions)


def parse(lexicon: Lexicon, text: str) -> list[Opinion]:
    """The opinions of a text in reading order; raises `KdlabError` outside the grammar."""
    return _Reader(lexicon, text).review()


class _Reader:
    """Recursive descent over the words of one text; one method a rule of the grammar."""

    def __init__(self, lexicon: Lexicon, text: str) -> None:
        self.entries = lexicon.entries
        self.text = text
        self.tokens = text.split()
        self.at = 0
        self.opinions: list[Opinion] = []

    def review(self) -> list[Opinion]:
        if self.role() == "opener":
            self.opinion(1.0)
            self.expect(",")
        while self.word() not in (None, "overall"):
            self.sentence()
        if self.word() == "overall":
            self.expect("overall")
            self.expect(",")
            self.expect("a", "an")
            self.opinion(1.0, "verdict")
            self.expect(".")
        if self.word() is not None or not self.opinions:
            self.fail("a sentence")
        return self.opinions

    def sentence(self) -> None:
        if self.word() == "although":
            self.expect("although")
            self.clause(CONCEDED_WEIGHT)
            self.expect(",")
            self.clause(1.0)
        else:
            first = len(self.opinions)
            self.clause(1.0)
            if self.word() == "but":
                self.opinions[first:] = [Opinion(o.word, o.value, CONCEDED_WEIGHT)
                                         for o in self.opinions[first:]]
            if self.word() in ("and", "but"):
                self.expect("and", "but")
                self.clause(1.0)
        self.expect(".")

    def clause(self, weight: float) -> None:
        if self.word() == "we":
            self.expect("we")
            self.opinion(weight, "verb")
            self.expect("the")
            if self.role() == "adjective":
                self.opinion(weight)
            self.entry("noun")
            return
        self.expect("the")
        self.entry("noun")
        self.expect("was")
        if self.role() in ("degree", "negator"):
            factor = self.entry("degree", "negator").factor
            self.opinion(weight, "adjective", factor=factor)
            return
        self.opinion(weight, "adjective")
        if self.word() == "and" and self.role(ahead=1) == "adjective":
            self.expect("and")
            self.opinion(weight, "adjective")

    def opinion(self, weight: float, *roles: str, factor: float = 1.0) -> None:
        entry = self.entry(*(roles or (self.role(),)))
        self.opinions.append(Opinion(entry.word, factor * entry.polarity, weight))

    def word(self, ahead: int = 0) -> str | None:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else None

    def role(self, ahead: int = 0) -> str | None:
        entry = self.entries.get(self.word(ahead))
        return entry.role if entry else None

    def entry(self, *roles: str):
        if self.role() not in roles:
            self.fail(" or ".join(roles))
        self.at += 1
        return self.entries[self.tokens[self.at - 1]]

    def expect(self, *words: str) -> None:
        if self.word() not in words:
            self.fail(" or ".join(f"'{w}'" for w in words))
        self.at += 1

    def fail(self, wanted: str) -> None:
        found = f"'{self.word()}'" if self.word() else "the end"
        start = " ".join(self.tokens[max(0, self.at - 3):self.at])
        raise KdlabError(f"the text leaves the grammar at word {self.at + 1}: {found} stands where "
                         f"{wanted} should" + (f" (after '... {start}')" if start else "")
                         + "; the true posterior is known only for texts of the built-in grammar")
