"""Words masked once: a data set with the labels of what is hidden, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset

from kdlab.data.batches import Rows
from kdlab.data.masking import Masking, mask_once
from kdlab.engine.run import QUIET
from kdlab.errors import KdlabError
from kdlab.loop import Stage, distill
from kdlab.models import new_classifier, new_masked_lm
from kdlab.terms import HardLabels, MaskedLM, Objective


@pytest.fixture
def texts(task):
    return task["transfer"]


@pytest.fixture
def masking(task, texts):
    return Masking(task.tokenizer, Rows(texts, 0))


def of(data, column):
    return np.concatenate(data[column])


def test_labels_are_what_is_hidden_and_the_rest_is_as_it_was(task, texts, masking):
    masked = mask_once(texts, masking)
    before, shown, labels = of(texts, "input_ids"), of(masked, "input_ids"), of(masked, "mlm_labels")
    hidden = labels != -100
    assert hidden.sum() == int(0.15 * len(before))
    assert (labels[hidden] == before[hidden]).all() and (shown[~hidden] == before[~hidden]).all()
    assert not np.isin(before[hidden], task.tokenizer.all_special_ids).any()
    assert 0.75 < (shown[hidden] == task.tokenizer.mask_token_id).mean() < 0.85
    assert masked["text"][:] == texts["text"][:], "other columns are kept"
    assert list(map(len, masked["input_ids"])) == list(map(len, texts["input_ids"]))


def test_each_copy_hides_other_words_and_the_seed_decides_which(texts, masking):
    def labels(**settings):
        return mask_once(texts, masking, **settings)["mlm_labels"][:]
    torch.manual_seed(7)
    two = labels(copies=2)
    torch.manual_seed(8)
    assert labels(copies=2) == two, "whatever torch's random numbers are"
    first, second = two[:600], two[600:]
    assert labels() == first != second and labels(seed=1) != first
    hidden, again = (np.concatenate(part) != -100 for part in (first, second))
    assert 0.1 < (hidden & again).sum() / hidden.sum() < 0.5


def test_rows_carry_the_labels_and_know_how_many_there_are(texts, masking):
    masked = mask_once(texts, masking)
    rows = Rows(masked, 0)
    batch = rows.batch([3, 0, 9])
    for i, row in enumerate((3, 0, 9)):
        length = len(masked[row]["input_ids"])
        assert batch["mlm_labels"][i, :length].tolist() == masked[row]["mlm_labels"]
        assert (batch["mlm_labels"][i, length:] == -100).all()
    counts = [sum(label != -100 for label in row) for row in masked["mlm_labels"]]
    assert np.diff(rows.masked_starts).tolist() == counts and rows.masked_starts[0] == 0
    assert rows.fingerprint() != Rows(masked.remove_columns("mlm_labels"), 0).fingerprint()


def spoilt(masked, kind):
    labels = masked["mlm_labels"][:]
    if kind == "too few":
        labels[4] = labels[4][:-1]
    elif kind == "nothing":
        labels = [[-100] * len(row) for row in labels]
    elif kind == "foreign":
        labels[4][1] = 10_000
    elif kind == "negative":
        labels[4][1] = -1
    return Dataset.from_dict({"input_ids": masked["input_ids"], "mlm_labels": labels})


@pytest.mark.parametrize(("kind", "said"), [
    ("too few", "row 4 has .* tokens and .* mlm_labels; give each token one"), ("nothing", "no word is masked"),
    ("foreign", "has the id 10000 and"), ("negative", "has the id -1 and"),
    ("twice", "the data have masked ones already .*; leave out transform=")])
def test_masked_data_that_are_wrong_are_told_before_the_first_step(task, texts, masking, kind, said):
    data = spoilt(mask_once(texts, masking), kind)
    stage = Stage(Objective([MaskedLM()]), 2, transform=masking if kind == "twice" else None)
    with pytest.raises(KdlabError, match=said):
        distill(new_masked_lm(task.tokenizer, 1, 32), None, data, stage, runtime=QUIET)


def test_labels_of_words_that_no_term_reads_are_left_alone(task):
    data = task["train"].map(lambda row: {"mlm_labels": [-100] * len(row["input_ids"])})
    student = new_classifier(task.tokenizer, task.label_names, 1, 32)
    assert distill(student, None, data, Stage(Objective([HardLabels()]), 2), runtime=QUIET).steps == 2


def test_masked_texts_are_not_masked_again(texts, masking):
    with pytest.raises(KdlabError, match="the texts are masked already"):
        mask_once(mask_once(texts, masking), masking)


def test_no_copy_is_refused(texts, masking):
    with pytest.raises(KdlabError, match="-1 copies of each text are to be masked; give 1 or more"):
        mask_once(texts, masking, -1)
