"""The shipped teacher keeps the promises of its card; the command in the card makes it again."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from kdlab import measure
from kdlab.corpus import World
from kdlab.models import load_classifier
from kdlab.recipes.teacher import make_teacher
from kdlab.tasks import TEST_SEED, encode


@pytest.fixture(scope="module")
def shipped():
    return load_classifier("restaurant-teacher")


@pytest.fixture(scope="module")
def test_texts(shipped):
    return encode(World("restaurant").dataset(10_000, seed=TEST_SEED), shipped[1])


def test_the_shipped_teacher_is_near_the_truth(shipped, test_texts):
    scores = measure.evaluate(shipped[0], test_texts)
    truth, labels = (torch.tensor(test_texts[name][:]) for name in ("truth", "label"))
    assert scores["accuracy"] >= 0.97 * measure.accuracy(truth, labels)
    assert scores["kl_truth"] <= 0.03


def test_the_recipe_runs_on_the_clinic_too():
    teacher, task = make_teacher("clinic", texts=200, pretraining_steps=3, fine_tuning_steps=3, progress=False)
    assert task.name == "clinic"
    assert measure.predict(teacher, task["test"].select(range(8))).shape == (8, 5)


@pytest.mark.slow
def test_the_command_makes_the_teacher_again(shipped, test_texts, tmp_path):
    """Within one point of accuracy; the very same numbers only on the same machine."""
    subprocess.run([sys.executable, "-m", "kdlab", "teacher", "restaurant", "--out", str(tmp_path / "again")],
                   check=True, cwd=ROOT)
    again, tokenizer = load_classifier(tmp_path / "again")
    assert tokenizer.get_vocab() == shipped[1].get_vocab()
    new, old = (measure.evaluate(model, test_texts) for model in (again, shipped[0]))
    assert new["accuracy"] == pytest.approx(old["accuracy"], abs=0.01)
    assert new["kl_truth"] <= 0.03
