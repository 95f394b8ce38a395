"""Models: built the same from the same seed, saved for anybody, refused when damaged."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

from kdlab.errors import KdlabError
from kdlab.models import fingerprint, give_body, load_classifier, new_classifier, new_masked_lm, save
from kdlab.study.metrics import predict


@pytest.fixture
def folder(task, student, tmp_path):
    return save(student, task.tokenizer, tmp_path / "student")


def test_same_seed_same_weights_and_the_page_keeps_its_random_state(task):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, two, three = (new_classifier(task.tokenizer, task.label_names, 1, 32, seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.rand(2), expected)
    assert fingerprint(one) == fingerprint(two) != fingerprint(three)


def test_save_and_load_give_the_same_answers(task, student, folder):
    loaded, tokenizer = load_classifier(folder)
    assert fingerprint(loaded) == fingerprint(student) and not loaded.training
    assert torch.equal(predict(loaded, task["test"]), predict(student, task["test"]))
    text = "the pizza was not very good but cheap ."
    assert tokenizer(text)["input_ids"] == task.tokenizer(text)["input_ids"]
    assert tokenizer.model_max_length == task.tokenizer.model_max_length
    assert loaded.config.id2label == dict(enumerate(task.label_names))
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}, "nothing pickled"


def test_anybody_can_load_it_without_kdlab(folder, tmp_path):
    code = ("import sys; from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T; "
            "m, t = M.from_pretrained('.'), T.from_pretrained('.'); "
            "print(m(**t('the pizza was good .', return_tensors='pt')).logits.shape, 'kdlab' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder).stdout
    assert "[1, 5]" in out and "False" in out


def test_weights_cut_short_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(KdlabError, match=r"cannot be loaded as a classifier .*; fetch or save the folder again"):
        load_classifier(folder)


def test_weights_of_another_architecture_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(KdlabError, match=r"lack 'classifier.weight'"):
        load_classifier(folder)


def test_pickled_weights_are_not_read(student, folder):
    torch.save(student.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(KdlabError, match="cannot be loaded"):
        load_classifier(folder)


def test_a_missing_folder_names_what_ships():
    with pytest.raises(KdlabError, match="restaurant-teacher"):
        load_classifier("no-such-teacher")


def test_a_failed_save_leaves_the_old_folder_whole(task, student, folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    other = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=9)
    monkeypatch.setattr(type(task.tokenizer), "save_pretrained",
                        lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(KdlabError, match=r"nothing can be written there .no space left."):
        save(other, task.tokenizer, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "no half-written folder is left"


def test_saving_again_replaces(task, folder):
    other = new_classifier(task.tokenizer, task.label_names, 1, 32, seed=9)
    save(other, task.tokenizer, folder)
    assert fingerprint(load_classifier(folder)[0]) == fingerprint(other)


def test_a_pretrained_body_is_handed_on_whole(task):
    source = new_masked_lm(task.tokenizer, 2, 32, seed=4)
    target = new_classifier(task.tokenizer, task.label_names, 2, 32, seed=5)
    give_body(source, target)
    batch = {"input_ids": torch.tensor([[2, 9, 11, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    states = [m.eval()(**batch, output_hidden_states=True).hidden_states[-1] for m in (source, target)]
    assert torch.equal(*states)
    with pytest.raises(KdlabError, match="same layers"):
        give_body(source, new_classifier(task.tokenizer, task.label_names, 3, 32))


def test_a_size_that_cannot_be_built_is_refused(task):
    with pytest.raises(KdlabError, match="heads"):
        new_classifier(task.tokenizer, task.label_names, 2, 50, heads=4)


def test_the_shipped_teacher_is_small_and_plain():
    folder = ROOT / "data" / "restaurant-teacher"
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 6_000_000
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}


def test_saving_a_model_does_not_change_what_it_is(task, student, tmp_path):
    """`save_pretrained` notes things in its configuration: else a cache would not know the model again, and of two
    processes only the one that saves would look for it elsewhere."""
    before = fingerprint(student)
    save(student, task.tokenizer, tmp_path / "student")
    assert fingerprint(student) == before == fingerprint(load_classifier(tmp_path / "student")[0])
