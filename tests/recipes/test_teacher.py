"""The shipped teacher keeps the promises of its card; the command in the card makes it again."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from kdlab.data.batches import Rows
from kdlab.data.masking import Masking
from kdlab.data.tasks import TEST_SEED, encode
from kdlab.engine.run import QUIET
from kdlab.losses import IGNORED
from kdlab.models import load_classifier, load_masked_lm
from kdlab.models.tracing import trace_teacher
from kdlab.recipes.teacher import ARCHITECTURES, make_teacher
from kdlab.study import metrics
from kdlab.worlds.corpus import World
from kdlab.worlds.lexicon import DATA


@pytest.fixture(scope="module")
def shipped():
    return load_classifier("restaurant-teacher")


@pytest.fixture(scope="module")
def test_texts(shipped):
    return encode(World("restaurant").dataset(10_000, seed=TEST_SEED), shipped[1])


def test_the_shipped_teacher_is_near_the_truth(shipped, test_texts):
    scores = metrics.evaluate(shipped[0], test_texts)
    truth, labels = (torch.tensor(test_texts[name][:]) for name in ("truth", "label"))
    assert scores["accuracy"] >= 0.97 * metrics.accuracy(truth, labels)
    assert scores["kl_truth"] <= 0.03


def guessed(model, tokenizer, texts) -> float:
    """The part of evenly drawn masked words that the model guesses."""
    rows = Rows(texts.select(range(1_000)), tokenizer.pad_token_id)
    torch.manual_seed(0)
    batch = Masking(tokenizer, rows, smoothing=0.0)(rows.batch(list(range(1_000))))
    hidden = batch["mlm_labels"] != IGNORED
    answers = trace_teacher(model, batch).logits[hidden].argmax(dim=-1)
    return (answers == batch["mlm_labels"][hidden]).double().mean().item()


@pytest.mark.parametrize("name", ["restaurant-bert", "restaurant-ib-bert"])
def test_the_shipped_pretrained_models_guess_masked_words(name, test_texts):
    """A grammar's function words are easy; well above them only who has learnt its adjectives too."""
    assert guessed(*load_masked_lm(name), test_texts) > 0.5


def test_the_data_folder_stays_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 12_000_000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_recipe_runs_on_the_clinic_too(architecture):
    pretrained, teacher, task = make_teacher("clinic", texts=200, pretraining_steps=3, fine_tuning_steps=3,
                                             architecture=architecture, runtime=QUIET)
    assert task.name == "clinic" and pretrained.config.model_type == teacher.config.model_type
    assert metrics.predict(teacher, task["test"].select(range(8))).shape == (8, 5)


@pytest.mark.slow
def test_the_command_makes_the_teacher_again(shipped, test_texts, tmp_path):
    """Within one point of accuracy; the very same numbers only on the same machine."""
    subprocess.run([sys.executable, "-m", "kdlab", "teacher", "restaurant", "--out", str(tmp_path)],
                   check=True, cwd=ROOT)
    again, tokenizer = load_classifier(tmp_path / "restaurant-teacher")
    assert tokenizer.get_vocab() == shipped[1].get_vocab()
    new, old = (metrics.evaluate(model, test_texts) for model in (again, shipped[0]))
    assert new["accuracy"] == pytest.approx(old["accuracy"], abs=0.01)
    assert new["kl_truth"] <= 0.03
    assert guessed(*load_masked_lm(tmp_path / "restaurant-bert"), test_texts) > 0.5
