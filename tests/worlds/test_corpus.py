"""The built-in world: its two readings agree, its labels follow its posterior, its files are checked."""

import csv
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from kdlab.errors import KdlabError
from kdlab.worlds.corpus import MAX_TOKENS, World, draw_labels
from kdlab.worlds.grammar import STARS, stars_given_score
from kdlab.worlds.lexicon import COLUMNS, DATA, load_lexicon

WORLDS = ("restaurant", "clinic")


@pytest.mark.parametrize("name", WORLDS)
def test_reader_and_writer_agree_on_ten_thousand_posteriors(name):
    world = World(name)
    texts, written = world.texts(10_000, seed=3)
    read = world.posteriors(texts)
    np.testing.assert_allclose(read, written, rtol=0, atol=1e-12)
    np.testing.assert_allclose(read.sum(axis=1), 1, atol=1e-12)
    assert max(len(text.split()) for text in texts) + 2 <= MAX_TOKENS
    assert len(set(texts)) > 9_000


def test_posterior_by_hand(world):
    """good is 0.8 or whatever the file says; the arithmetic is done here from the docstring."""
    p = {word: entry.polarity for word, entry in world.lexicon.entries.items()}
    f = {word: entry.factor for word, entry in world.lexicon.entries.items()}
    cases = {
        "the soup was bland .".replace("soup", _noun(world, "food")).replace("bland", "good"): p["good"],
        "the waiter was not good .": f["not"] * p["good"],
        "the waiter was very bad .": f["very"] * p["bad"],
        "the waiter was good and nice .": (p["good"] + p["nice"]) / 2,
        "the waiter was good but the pizza was bad .": (0.5 * p["good"] + p["bad"]) / 1.5,
        "although the waiter was good , the pizza was bad .": (0.5 * p["good"] + p["bad"]) / 1.5,
        "we loved the good pizza . overall , a disaster .": (p["loved"] + p["good"] + p["disaster"]) / 3,
        "sadly , the waiter was bad .": (p["sadly"] + p["bad"]) / 2,
    }
    for text, score in cases.items():
        odds = np.exp(-((np.arange(1, 6) - 3 - score) ** 2) / (2 * 0.6**2))
        np.testing.assert_allclose(world.posterior(text), odds / odds.sum(), atol=1e-12, err_msg=text)


def _noun(world, topic):
    return world.lexicon.words("noun", topic)[0].word


def test_a_higher_score_never_means_fewer_stars():
    scores = np.linspace(-2.5, 2.5, 101)
    means = stars_given_score(scores) @ np.arange(STARS)
    assert (np.diff(means) > 0).all()


def test_label_frequencies_follow_the_posterior(world):
    _, posterior = world.texts(100_000, seed=11)
    labels = draw_labels(posterior, seed=11)
    # over all texts, and within bins of texts of like posterior, where a mix-up of rows would show
    for rows in (np.arange(len(labels)), *np.array_split(np.argsort(posterior @ np.arange(STARS)), 10)):
        expected = posterior[rows].sum(axis=0)
        observed = np.bincount(labels[rows], minlength=STARS)
        kept = expected >= 5
        if (~kept).any():
            expected = np.append(expected[kept], expected[~kept].sum())
            observed = np.append(observed[kept], observed[~kept].sum())
            expected, observed = expected + 1e-9, observed + 1e-9
        assert chisquare(observed, expected).pvalue > 1e-4


def test_same_seed_same_texts_and_other_seed_other_texts(world):
    assert world.texts(50, seed=4)[0] == world.texts(50, seed=4)[0]
    assert world.texts(50, seed=4)[0] != world.texts(50, seed=5)[0]


def test_dataset_carries_text_truth_and_label(world):
    data = world.dataset(20, seed=2)
    assert data.column_names == ["text", "truth", "label"]
    np.testing.assert_allclose(np.array(data["truth"][:]), world.posteriors(data["text"][:]), atol=1e-6)
    assert world.dataset(3, labelled=False).column_names == ["text", "truth"]


@pytest.mark.parametrize("name", WORLDS)
def test_a_noun_does_not_tell_the_next(name):
    """Within a topic, and within one draw, any noun follows any other about equally often; none comes twice."""
    world = World(name)
    nouns = {e.word for topic in world.lexicon.topics for e in world.lexicon.words("noun", topic)}
    topic_of = {word: world.lexicon.entries[word].topic for word in nouns}
    reviews = [[word for word in text.split() if word in nouns] for text in world.texts(20_000, seed=8)[0]]
    assert all(len(set(review)) == len(review) for review in reviews)
    pairs = Counter(pair for review in reviews for pair in pairwise(review) if topic_of[pair[0]] == topic_of[pair[1]])
    for topic in world.lexicon.topics:
        here = [e.word for e in world.lexicon.words("noun", topic)]
        observed = [pairs[a, b] for a, b in permutations(here, 2)]
        assert chisquare(observed).pvalue > 1e-4


@pytest.mark.parametrize(("text", "said"), [
    ("", "the end"), ("hello world", "'hello'"), ("the waiter was", "the end"), ("the waiter was good", "'.'"),
    ("the good waiter .", "noun"), ("the waiter was very .", "adjective"), ("overall , a disaster", "'.'"),
    ("the waiter was good . the", "the end"), ("The waiter was good .", "'The'"),
    ("the waiter was good and .", "'.'"),
])
def test_a_text_outside_the_grammar_is_refused(world, text, said):
    with pytest.raises(KdlabError, match="leaves the grammar") as caught:
        world.posterior(text)
    assert said in str(caught.value)


def _rows(name="restaurant"):
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("name", WORLDS)
def test_a_shipped_lexicon_is_of_the_promised_size_and_shape(name):
    lexicon = load_lexicon(name)
    assert 600 <= len(lexicon.entries) <= 1_000
    assert len(lexicon.topics) == 4
    for topic in lexicon.topics:
        polarity = np.array([e.polarity for e in lexicon.words("adjective", topic)])
        assert np.histogram(polarity, bins=np.arange(-2, 2.1, 0.5))[0].min() >= 6


@pytest.mark.parametrize(("change", "line", "said"), [
    (lambda rows: [row[:3] + row[4:] for row in rows], 1, "no column 'polarity'"),
    (lambda rows: rows[:9] + [["soupy", "nuon", "food", "", ""]] + rows[9:], 10, "unknown role 'nuon'"),
    (lambda rows: rows[:9] + [rows[4]] + rows[9:], 10, "stands already at line 5"),
    (lambda rows: rows + [["yummyish", "adjective", "food", "high", ""]], None, "no number"),
    (lambda rows: rows + [["yummyish", "adjective", "food", "nan", ""]], None, "must lie"),
    (lambda rows: rows + [["yummyish", "adjective", "food", "7", ""]], None, "must lie"),
    (lambda rows: rows + [["yummyish", "adjective", "parking", "1", ""]], None, "'parking'"),
    (lambda rows: rows + [["Yummy!", "adjective", "food", "1", ""]], None, "lower-case"),
    (lambda rows: rows + [["the", "noun", "food", "", ""]], None, "grammar itself"),
    (lambda rows: rows + [["barely", "negator", "", "", "0.5"]], None, "below 0"),
    (lambda rows: rows + [["short", "adjective"]], None, "fields are wanted"),
    (lambda rows: rows + [["garage", "noun", "parking", "", ""]], None, "the topic 'parking' has 1 nouns"),
    (lambda rows: [row for row in rows if row[1] != "verb"], None, "0 words have the role 'verb'"),
])
def test_a_malformed_lexicon_is_refused_with_file_line_and_reason(tmp_path, change, line, said):
    rows = change(_rows())
    path = _write(tmp_path / "mine.csv", rows)
    with pytest.raises(KdlabError) as caught:
        World(path)
    message = str(caught.value)
    assert str(path) in message and said in message
    assert "line" in message
    if line:
        assert f"line {line}:" in message
    assert "\n" not in message


def test_a_missing_or_undecodable_lexicon_is_refused(tmp_path):
    with pytest.raises(KdlabError, match="restaurant"):
        World("bakery")
    path = tmp_path / "bytes.csv"
    path.write_bytes(",".join(COLUMNS).encode() + b"\ncaf\xe9,noun,food,,\n")
    with pytest.raises(KdlabError, match="UTF-8"):
        World(path)


def test_a_lexicon_of_ones_own_makes_a_world(tmp_path):
    rows = [[cell.replace("pizza", "sushi") for cell in row] for row in _rows()]
    world = World(_write(tmp_path / "sushi.csv", rows))
    assert any("sushi" in text for text in world.texts(500)[0])
