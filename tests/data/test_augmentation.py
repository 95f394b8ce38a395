"""Augmentation by a masked language model: which words may change, into what, and how often."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM

from kdlab.data.augmentation import Augmenter
from kdlab.data.tasks import encode, encode_texts, train_tokenizer
from kdlab.errors import KdlabError
from kdlab.models import bert_config, new_model
from kdlab.recipes.teacher import new_teacher


@pytest.fixture(scope="module")
def bert(task):
    return new_teacher(task)


def test_originals_stay_labels_are_copied_and_the_seed_decides(task, bert):
    data = task["train"].select(range(12))
    one, two, other = (Augmenter(bert, task.tokenizer, copies=5)(data, seed=seed) for seed in (1, 1, 2))
    assert one["text"][:] == two["text"][:] != other["text"][:]
    labels = dict(zip(data["text"][:], data["label"][:], strict=True))
    seen, label = 0, None
    for text, given in zip(one["text"][:], one["label"][:], strict=True):
        if text in labels and seen < 12 and text == data["text"][seen]:
            label, seen = labels[text], seen + 1
        assert given == label
    assert seen == 12 and 12 < len(one) <= 12 * 6
    assert one["input_ids"][0] == data["input_ids"][0]


def test_no_word_changes_at_p_0_and_every_word_may_at_p_1(task, bert):
    data = encode_texts(["the pizza was good , but the waiter was rude ."], task.tokenizer)
    assert Augmenter(bert, task.tokenizer, p=0)(data)["text"][:] == data["text"][:]
    variants = Augmenter(bert, task.tokenizer, p=1.0, copies=40)(data)["text"][1:]
    columns = list(zip(*(v.split() for v in variants), strict=True))
    assert len(columns) == 11 and set(columns[4]) == {","} and set(columns[10]) == {"."}, "punctuation stays"
    assert all(1 < len(set(column)) <= 15 for i, column in enumerate(columns) if i not in (4, 10))


def test_the_part_of_words_that_changes_is_p(task, bert):
    data = task["train"].select(range(40))
    texts = Augmenter(bert, task.tokenizer, p=0.3, copies=20)(data)["text"][:]
    originals, changed, words = set(data["text"][:]), 0, 0
    for text in texts:
        if text in originals:
            current = text.replace(",", " ,").replace(".", " .").split()
            continue
        pairs = list(zip(current, text.replace(",", " ,").replace(".", " .").split(), strict=True))
        alphabetic = [(a, b) for a, b in pairs if a.isalpha()]
        changed, words = changed + sum(a != b for a, b in alphabetic), words + len(alphabetic)
    # a candidate may be the word itself, and variants without a change are dropped: near 0.3, not at it
    assert changed / words == pytest.approx(0.3, abs=0.05)


def test_candidates_are_the_masked_model_s_best(task, bert):
    """The oracle: one forward pass for one masked sentence, by hand."""
    text = "the pizza was good ."
    ids = task.tokenizer(text, return_tensors="pt")["input_ids"]
    ids[0, 4] = task.tokenizer.mask_token_id
    with torch.no_grad():
        logits = bert.eval()(ids).logits[0, 4]
    words = [w for w in task.tokenizer.convert_ids_to_tokens(logits.argsort(descending=True)) if w.isalpha()][:15]
    assert Augmenter(bert, task.tokenizer)._candidates([text])[0][3] == (14, 18, words)


def test_a_model_with_room_for_more_tokens_never_names_one(task):
    """BERT checkpoints whose vocabulary is padded to a round number have rows that no token belongs to."""
    config = bert_config(task.tokenizer, 1, 16)
    config.vocab_size += 13
    roomy = new_model(config, AutoModelForMaskedLM)
    with torch.no_grad():
        roomy.cls.predictions.bias[-13:] = 100.0            # and were it asked, it would name those
    data = encode_texts(["the pizza was good ."], task.tokenizer)
    assert len(Augmenter(roomy, task.tokenizer, p=1.0, copies=3)(data)) > 1


def test_a_word_of_several_pieces_gets_its_neighbours_among_the_embeddings(world):
    from kdlab.models import new_masked_lm
    texts = world.dataset(300, seed=1)["text"][:]
    tokenizer = train_tokenizer(texts, 150, 64)
    word = next(w for text in texts for w in text.split() if w.isalpha() and len(tokenizer.tokenize(w)) > 1)
    model = new_masked_lm(tokenizer, 1, 32)
    start, end, choices = Augmenter(model, tokenizer, candidates=4)._candidates([f"it was {word} ."])[0][2]
    assert (start, end) == (7, 7 + len(word)) and len(choices) == 4
    pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
    table = model.get_input_embeddings().weight
    nearness = torch.cosine_similarity(table, table[pieces].mean(0, keepdim=True)).tolist()
    whole = {w: nearness[i] for w, i in tokenizer.get_vocab().items() if w.isalpha()}
    assert choices == sorted(whole, key=whole.get, reverse=True)[:4]


@pytest.mark.parametrize("setting", [{"p": 1.5}, {"copies": 0}, {"candidates": 0}])
def test_settings_that_make_no_sense_are_refused(task, bert, setting):
    with pytest.raises(KdlabError, match="p is between 0 and 1 and the others are 1 or more"):
        Augmenter(bert, task.tokenizer, **setting)


def test_of_a_pair_each_text_is_varied_beside_the_other(bert, task):
    """As TinyBERT's code does it; the second text was left out once, and half inputs had whole labels."""
    data = encode(Dataset.from_dict({"text": ["the pizza was good ."], "pair": ["the waiter was rude ."],
                                     "label": [3]}), task.tokenizer)
    made = Augmenter(bert, task.tokenizer, p=1.0, copies=6)(data)
    pairs = list(zip(made["text"][:], made["pair"][:], strict=True))
    (first, second), others = pairs[0], pairs[1:]
    assert (first, second) == (data["text"][0], data["pair"][0]) and set(made["label"]) == {3}
    assert all((a == first) != (b == second) for a, b in others) and len(set(pairs)) == len(pairs)
    assert any(a != first for a, _ in others) and any(b != second for _, b in others)
    assert made["input_ids"][0] == data["input_ids"][0] and len(others) <= 12
    assert made["input_ids"][-1] == task.tokenizer(*pairs[-1])["input_ids"]
