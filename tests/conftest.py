"""What many tests start from. Everything here is made by the tests; nothing is fetched."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")     # a test that reaches for a hub must fail, not wait
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GOMP_SPINCOUNT", "4000")     # as kdlab does, if it is imported before torch

import pytest
import torch

from kdlab.data.tasks import Task, builtin_task
from kdlab.models import new_classifier
from kdlab.worlds.corpus import World

ROOT = Path(__file__).resolve().parent.parent
SST2 = Path(os.environ.get("KDLAB_SST2") or ROOT.parent / "shared" / "data" / "sst2")


@pytest.fixture(scope="session")
def world() -> World:
    return World("restaurant")


@pytest.fixture(scope="session")
def task() -> Task:
    """A small built-in task."""
    return builtin_task("restaurant", labelled=400, unlabelled=600, seed=1)


@pytest.fixture
def student(task):
    return new_classifier(task.tokenizer, task.label_names, layers=1, width=32, seed=1)


def opinionated(model, factor: float = 8):
    """The model with its matrices enlarged, in eval mode: fresh weights would say the same of every text."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(factor)
    return model.eval()


@pytest.fixture
def teacher(task):
    return opinionated(new_classifier(task.tokenizer, task.label_names, layers=2, width=32, seed=2))


@pytest.fixture
def batch():
    """Three texts of 7, 4 and 2 tokens, of a vocabulary of 50, for models without a task."""
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:], mask[2, 2:] = 0, 0
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids.where(mask.bool(), 0), "attention_mask": mask}
