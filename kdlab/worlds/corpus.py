"""The world whose truth is known: reviews drawn from a small grammar, each with its exact p(stars | text).

`kdlab.worlds.grammar` says what a review may look like and what it means; here reviews are written. A review
has a mood and a topic, and its clauses say something about nouns, mostly in that mood. Labels are
drawn from the posterior, so no classifier can beat the one that knows it (Bayes).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .grammar import CONCEDED_WEIGHT, STARS, Opinion, parse, score, stars_given_score
from .lexicon import Entry, Lexicon, load_lexicon

LABEL_NAMES = tuple(f"{k} star{'s' if k > 1 else ''}" for k in range(1, STARS + 1))
MAX_TOKENS = 32         # of a text, with [CLS] and [SEP]

# How a review is laid out: number of clauses -> the sentences it may consist of, equally likely.
LAYOUTS = {
    1: (("one",),),
    2: (("and",), ("but",), ("although",), ("one", "one")),
    3: (("one", "and"), ("one", "but"), ("but", "one"), ("although", "one"), ("one", "one", "one")),
    4: (("and", "but"), ("although", "and"), ("one", "one", "but"), ("one", "and", "one"), ("and", "and")),
}
CLAUSE_COUNT_P = (0.12, 0.28, 0.34, 0.26)
FORMS = ("adjective", "degree", "negator", "pair", "verb", "verb adjective")
FORM_P = (0.20, 0.16, 0.10, 0.26, 0.10, 0.18)
OPENER_P = VERDICT_P = 0.35     # never both with four clauses: the text would grow too long
TOPIC_KEPT_P = 0.8              # a clause keeps to the topic of its review
MOOD_STEADINESS = 0.25          # standard deviation of an opinion around the review's mood, in stars
WORD_WINDOW = 0.3                # a word is drawn from those whose polarity is this near, in stars
BREVITY = 3.0                   # and among those in proportion to length^-3: short words are common
STRONGEST = 1.8                 # no word is sought beyond this polarity, so that no single word is it


class World:
    """A lexicon together with the grammar: draws reviews, and reads them.

    `World("restaurant")` and `World("clinic")` ship; a path names a lexicon of your own
    (see `kdlab.worlds.lexicon`).
    """

    def __init__(self, lexicon: str | Path = "restaurant") -> None:
        self.lexicon: Lexicon = load_lexicon(lexicon)

    # ---- reading -----------------------------------------------------------------------------

    def posterior(self, text: str) -> np.ndarray:
        """The exact p(stars | text), shape (5,), summing to 1.

        Raises `KdlabError` naming the word at which the text leaves the grammar.
        """
        return stars_given_score(score(self.parse(text)))

    def posteriors(self, texts: Iterable[str]) -> np.ndarray:
        """`posterior` of many texts, shape (texts, 5)."""
        return np.stack([self.posterior(text) for text in texts])

    def parse(self, text: str) -> list[Opinion]:
        """The opinions of a text in reading order; raises `KdlabError` outside the grammar."""
        return parse(self.lexicon, text)

    # ---- writing -----------------------------------------------------------------------------

    def texts(self, count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
        """`count` reviews and their posteriors, shape (count, 5). The same seed, the same texts."""
        rng = np.random.default_rng([seed, 0])
        return _Writer(self.lexicon, rng).reviews(count)

    def dataset(self, count: int, seed: int = 0, labelled: bool = True):
        """`count` reviews as a `datasets.Dataset`.

        Columns: text; truth, the posterior as 5 floats; and, if `labelled`, label in 0..4, drawn
        from it. The labels of a seed do not depend on anything but seed and count.
        """
        from datasets import Dataset, Features, List, Value

        texts, posterior = self.texts(count, seed)
        columns = {"text": texts, "truth": posterior.astype(np.float32)}
        features = {"text": Value("string"), "truth": List(Value("float32"), length=STARS)}
        if labelled:
            columns["label"] = draw_labels(posterior, seed)
            features["label"] = Value("int64")
        return Dataset.from_dict(columns, features=Features(features))


def draw_labels(posterior: np.ndarray, seed: int = 0) -> np.ndarray:
    """One label 0..4 a row, drawn from the rows of `posterior`, shape (n, 5)."""
    uniform = np.random.default_rng([seed, 1]).random(len(posterior))
    return (posterior.cumsum(axis=1) < uniform[:, None]).sum(axis=1).clip(max=STARS - 1)


class _Writer:
    """Draws many reviews at once: every choice is one array over reviews (n,) or clauses (n, 4)."""

    def __init__(self, lexicon: Lexicon, rng: np.random.Generator) -> None:
        self.lexicon, self.rng = lexicon, rng

    def reviews(self, count: int) -> tuple[list[str], np.ndarray]:
        rng = self.rng
        clauses = rng.choice(len(CLAUSE_COUNT_P), count, p=CLAUSE_COUNT_P) + 1
        layouts = [LAYOUTS[n][int(u * len(LAYOUTS[n]))]
                   for n, u in zip(clauses.tolist(), rng.random(count).tolist(), strict=True)]
        conceded = np.array([_conceded(layout) for layout in layouts], dtype=bool).reshape(count, 4)
        mood = rng.uniform(-2, 2, count)

        texts, total, weight = self._clauses(mood, conceded, np.arange(4) < clauses[:, None])
        brief = clauses < 4
        plain = brief & (np.array([layout[0] for layout in layouts]) != "but")  # "sadly , X but Y" misleads
        opener, opener_value = self._aside("opener", mood, plain & (rng.random(count) < OPENER_P))
        verdict, verdict_value = self._aside("verdict", mood, brief & (rng.random(count) < VERDICT_P))
        total += opener_value + verdict_value
        weight += (opener != "").astype(float) + (verdict != "")

        rows = zip(layouts, texts, opener.tolist(), verdict.tolist(), strict=True)
        return [_render(*row) for row in rows], stars_given_score(total / weight)

    def _clauses(self, mood: np.ndarray, conceded: np.ndarray, used: np.ndarray):
        """The clauses' texts, n lists of 4, and each review's sums of weighted values and weights."""
        rng, shape, words = self.rng, conceded.shape, self.lexicon.words
        topics = len(self.lexicon.topics)
        own = rng.integers(topics, size=(len(mood), 1))
        topic = np.where(rng.random(shape) < TOPIC_KEPT_P, own, rng.integers(topics, size=shape))
        target = mood[:, None] + MOOD_STEADINESS * rng.standard_normal(shape)
        contrary = -np.sign(mood)[:, None] * rng.uniform(0.5, 2, shape)
        target = np.where(conceded, contrary, target)

        form = rng.choice(len(FORMS), shape, p=FORM_P)
        has_verb, has_first, has_second = form >= 4, form != 4, form == 3
        modifier, factor = np.full(shape, "", dtype=object), np.ones(shape)
        for role, chosen in (("degree", form == 1), ("negator", form == 2)):
            word, entry = self._any(words(role), shape)
            modifier[chosen] = word[chosen]
            factor[chosen] = np.array([e.factor for e in words(role)])[entry][chosen]

        verb, verb_value = self._near(words("verb"), target)
        first, first_value = self._adjective(topic, np.where(has_verb, verb_value, target / factor))
        second, second_value = self._adjective(topic, first_value, unlike=first)
        value = has_verb * verb_value + has_first * factor * first_value + has_second * second_value
        weight = used * np.where(conceded, CONCEDED_WEIGHT, 1.0)

        fields = (form, self._nouns(topic), modifier, verb, first, second)
        flat = [_clause(*row) for row in zip(*(f.ravel().tolist() for f in fields), strict=True)]
        texts = [flat[i:i + 4] for i in range(0, len(flat), 4)]
        opinions = has_verb * 1 + has_first + has_second
        return texts, (weight * value).sum(axis=1), (weight * opinions).sum(axis=1)

    def _near(self, entries: list[Entry], target: np.ndarray, unlike: np.ndarray | None = None):
        """Words drawn from those within `WORD_WINDOW` of the target polarity (or the nearest), never the
        one in `unlike`, and their polarities; both shaped like `target`."""
        polarity = np.array([e.polarity for e in entries])
        names = np.array([e.word for e in entries], dtype=object)
        mass = np.concatenate([[0.0], np.cumsum([len(e.word) ** -BREVITY for e in entries])])
        target = target.clip(-STRONGEST, STRONGEST)
        low = np.searchsorted(polarity, target - WORD_WINDOW, "left").clip(max=len(entries) - 1)
        high = np.searchsorted(polarity, target + WORD_WINDOW, "right").clip(min=low + 1)
        point = mass[low] + self.rng.random(target.shape) * (mass[high] - mass[low])
        pick = (np.searchsorted(mass, point, "right") - 1).clip(low, high - 1)
        if unlike is not None:
            same = names[pick] == unlike
            pick = np.where(same, np.where(pick > 0, pick - 1, pick + 1), pick)
        return names[pick], polarity[pick]

    def _adjective(self, topic: np.ndarray, target: np.ndarray, unlike: np.ndarray | None = None):
        word, value = np.empty(topic.shape, dtype=object), np.empty(topic.shape)
        for index, name in enumerate(self.lexicon.topics):
            here = topic == index
            word[here], value[here] = self._near(self.lexicon.words("adjective", name), target[here],
                                                 None if unlike is None else unlike[here])
        return word, value

    def _nouns(self, topic: np.ndarray) -> np.ndarray:
        """One noun a clause, none twice in a review. The order is drawn anew for every review: nouns that followed one
        another alike in all of them would be a pattern to learn that means nothing."""
        rows, places = topic.shape
        noun = np.empty(topic.shape, dtype=object)
        for index, name in enumerate(self.lexicon.topics):
            names = np.array([e.word for e in self.lexicon.words("noun", name)], dtype=object)
            order = self.rng.random((rows, len(names))).argsort(axis=1)[:, :places]
            noun = np.where(topic == index, names[order], noun)
        return noun

    def _any(self, entries: list[Entry], shape: tuple[int, ...]):
        pick = self.rng.integers(len(entries), size=shape)
        return np.array([e.word for e in entries], dtype=object)[pick], pick

    def _aside(self, role: str, mood: np.ndarray, present: np.ndarray):
        """An opener or verdict in the review's mood where `present`, else "" and 0."""
        word, value = self._near(self.lexicon.words(role), mood)
        return np.where(present, word, ""), np.where(present, value, 0.0)


def _conceded(layout: tuple[str, ...]) -> list[bool]:
    """Which of a review's four clause places hold a conceded clause."""
    flags = [flag for sentence in layout
             for flag in ([False] if sentence == "one" else [sentence in ("but", "although"), False])]
    return flags + [False] * (4 - len(flags))


def _clause(form: int, noun: str, modifier: str, verb: str, first: str, second: str) -> str:
    if form == 0:
        return f"the {noun} was {first}"
    if form in (1, 2):
        return f"the {noun} was {modifier} {first}"
    if form == 3:
        return f"the {noun} was {first} and {second}"
    return f"we {verb} the {noun}" if form == 4 else f"we {verb} the {first} {noun}"


def _render(layout: tuple[str, ...], clauses: list[str], opener: str, verdict: str) -> str:
    parts, at = [f"{opener} ,"] if opener else [], 0
    for sentence in layout:
        if sentence == "one":
            parts.append(f"{clauses[at]} .")
        elif sentence == "although":
            parts.append(f"although {clauses[at]} , {clauses[at + 1]} .")
        else:
            parts.append(f"{clauses[at]} {sentence} {clauses[at + 1]} .")
        at += 1 if sentence == "one" else 2
    if verdict:
        parts.append(f"overall , {'an' if verdict[0] in 'aeiou' else 'a'} {verdict} .")
    return " ".join(parts)
