"""Every recipe by one calling convention, from the teacher to a classifier; its settings; and from the shell."""

from __future__ import annotations

import csv
import inspect
import json
import re
from dataclasses import fields

import pytest
import torch
from conftest import ROOT

from kdlab.cli import main
from kdlab.engine import session
from kdlab.engine.run import QUIET, Stage
from kdlab.errors import KdlabError
from kdlab.models import classifier_from, load_classifier, new_classifier, new_masked_lm, save
from kdlab.recipes import RECIPES, minilmv2, mobilebert, named
from kdlab.recipes.common import phases
from kdlab.recipes.teacher import new_teacher
from kdlab.study.sizes import Sizes
from kdlab.terms import Relations

PAPERS = [name for name in RECIPES if name != "soft-targets"]
TINY = ["--teacher-layers", "2", "--teacher-width", "32", "--teacher-epochs", "1", "--student-epochs", "1", "--seeds",
        "1", "--vocabulary", "300"]


@pytest.fixture(scope="module")
def teachers(task):
    """A pretrained BERT and IB-BERT, both untrained, and a classifier."""
    bert = new_teacher(task, layers=2, width=32)
    return {"bert": bert, "ib-bert": new_teacher(task, "ib-bert", layers=2, width=32),
            "classifier": classifier_from(bert, task.label_names)}


@pytest.fixture(scope="module")
def few(world, tmp_path_factory):
    """A tiny file of somebody's."""
    here = tmp_path_factory.mktemp("few")
    for name, size, seed in (("train", 80, 1), ("dev", 30, 2)):
        data = world.dataset(size, seed=seed)
        with (here / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            rows.writerows(zip(data["text"][:], ("bad" if y < 2 else "good" for y in data["label"][:]), strict=True))
    return here


def brief(recipe, **more) -> dict:
    """The miniature's settings with two steps a phase."""
    short = {name: phase | {"steps": 4 if name == "transfer" else 2, "batch_size": 8}
             for name, phase in phases(recipe.MINIATURE).items()}
    return recipe.MINIATURE | short | {"augmented_rows": 3} | more


def command(here, out, *more) -> list[str]:
    return ["distill", "--data", str(here / "train.csv"), "--eval", str(here / "dev.csv"), "--out", str(here / out),
            *TINY, *more]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_settings_are_fields_of_a_stage_or_say_where_they_come_from(name):
    recipe = named(name)
    known = {field.name for field in fields(Stage)} | {"epochs"}
    assert set(phases(recipe.PAPER)) == set(phases(recipe.MINIATURE)) and recipe.PAPER.keys() == recipe.MINIATURE.keys()
    source = inspect.getsource(recipe)
    for settings in (recipe.PAPER, recipe.MINIATURE):
        for phase in phases(settings).values():
            assert set(phase) <= known and ("steps" in phase or "epochs" in phase)
    for key in recipe.PAPER:
        lines = re.findall(rf'^    "{key}": .*$|^.*, "{key}": .*$', source, re.M)
        assert any("#" in line for line in lines), f"{name}: {key} has no source"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_teacher_to_classifier(task, teachers, name):
    recipe, said = named(name), []
    pretrained = teachers[getattr(recipe, "TEACHER", "bert")]
    before = {key: weight.clone() for key, weight in pretrained.state_dict().items()}
    settings = brief(recipe)
    student, run = recipe.recipe(task, teachers["classifier"], pretrained, settings, say=said.append, runtime=QUIET)
    assert student.config.num_labels == 5 and student.get_output_embeddings() is None and not said
    assert run.steps == run.report.steps == sum(phase["steps"] for phase in phases(settings).values())
    assert run.history["step"] == list(range(1, run.steps + 1))
    assert all(len(column) == run.steps for column in run.history.values())
    assert all(torch.equal(weight, before[key]) for key, weight in pretrained.state_dict().items())
    again, _ = recipe.recipe(task, teachers["classifier"], pretrained, settings, runtime=QUIET)
    assert all(torch.equal(one, two) for one, two in zip(student.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", ["distilbert", "mobilebert"])
def test_a_missing_language_head_is_one_sentence(task, teachers, name):
    recipe = named(name)
    for pretrained, given in ((None, "none was given"), (teachers["classifier"], "a BertForSequenceC.* has none")):
        with pytest.raises(KdlabError, match=f"needs a pretrained teacher with its language head.*{given}") as caught:
            recipe.recipe(task, teachers["classifier"], pretrained, brief(recipe), runtime=QUIET)
        assert "pass pretrained=, or --pretrained" in str(caught.value)
    with pytest.raises(KdlabError, match=r"MobileBERT learns from an IB-BERT.* is a BertForMaskedLM"):
        mobilebert.recipe(task, teachers["classifier"], teachers["bert"], brief(mobilebert), runtime=QUIET)


@pytest.mark.parametrize(("name", "missing"), [("tinybert", 2), ("minilmv2", 1)])
def test_what_can_be_done_without_is_left_out_and_said(task, teachers, name, missing):
    recipe, said = named(name), []
    _, run = recipe.recipe(task, teachers["classifier"], None, brief(recipe), say=said.append, runtime=QUIET)
    assert len(said) == missing and all("--pretrained" in sentence for sentence in said)
    assert run.history["stage"][0] == "general distillation"


def test_minilmv2_compares_three_relations_of_one_layer_whatever_the_heads(task, teachers):
    student = minilmv2.student_for(task, None, settings=minilmv2.MINIATURE | {"student": {"layers": 2, "width": 64}})
    objective = minilmv2.relations(student, teachers["bert"], heads=8, layer=1)
    assert [(type(term), term.of, term.layers, term.weight) for term in objective.terms] == [
        (Relations, kind, ((2, 1),), 1.0) for kind in ("queries", "keys", "values")]
    assert not list(objective.parameters()), "nothing is learned besides the student"
    assert student.config.num_attention_heads != teachers["bert"].config.num_attention_heads


def test_attention_dropout_is_off_while_mobilebert_copies_attention(task, teachers):
    from kdlab.recipes.common import masking_of, texts_of
    student = mobilebert.student_for(task, None, teachers["ib-bert"])
    masking = masking_of(task, texts_of(task), mobilebert.PAPER["masking"])
    *blocks, last = mobilebert.stages(student, "progressive", 8, 4, masking)
    assert not any(stage.attention_dropout for stage in blocks) and last.attention_dropout


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_runs_from_the_shell_on_a_file(few, capsys, name):
    assert main(command(few, name, "--recipe", name)) == 0
    said = capsys.readouterr().out
    assert said.index("teacher, pretraining") < said.index("student, with teacher, seed 0")
    assert f"recipe: {name}" in said
    report = json.loads((few / name / "report.json").read_text())
    assert list(report["scores"]) == ["teacher", "student, no teacher", "student, with teacher"]
    assert len({run["steps"] for run in report["runs"].values()}) == 1, "equal budgets"
    assert report["recipe"] == name and not report["paper"]
    assert load_classifier(few / name / "student")[0].config.num_labels == 2
    assert named(name).__doc__.split(":")[0] in (few / name / "student" / "README.md").read_text()
    assert not (few / name / "progress").exists() and not (few / name / "tried").exists()


def test_an_interrupted_recipe_goes_on_to_the_same_student(few, monkeypatch):
    more = ("--recipe", "distilbert", "--checkpoint-every", "1", "--student-epochs", "4")
    assert main(command(few, "whole", *more)) == 0
    step, left = session.Session.step, []

    def stop_at(self):
        done = step(self)
        left.pop()
        if not left:
            raise KeyboardInterrupt
        return done
    monkeypatch.setattr(session.Session, "step", stop_at)
    for steps in (8, 5):    # trial 2, teachers 2 + 2, general stage 2 of 4; then trial 2, its other 2, 1 of the task
        left[:] = range(steps)
        assert main(command(few, "halves", *more)) == 130
        assert not (few / "halves" / "student").exists()
    monkeypatch.setattr(session.Session, "step", step)
    assert main(command(few, "halves", *more)) == 0
    one, two = ((few / out / "student" / "model.safetensors").read_bytes() for out in ("whole", "halves"))
    assert one == two


def test_a_pretrained_model_alone_is_fine_tuned_into_the_teacher(few, task, capsys):
    save(new_masked_lm(task.tokenizer, 2, 32), task.tokenizer, few / "masked")
    assert main(command(few, "from-masked", "--recipe", "minilmv2", "--pretrained", str(few / "masked"))) == 0
    assert "teacher, pretraining" not in capsys.readouterr().out
    assert not (few / "from-masked" / "pretrained").exists() and (few / "from-masked" / "teacher").exists()


@pytest.mark.parametrize(("more", "said"), [
    (("--recipe", "mobilebert", "--student-layers", "1"), "student-layers is no setting of the recipe mobilebert"),
    (("--recipe", "minilmv2", "--T", "2"), "T is no setting of the recipe minilmv2"),
    (("--recipe", "tinybert", "--student", "layer-drop"), "--student is for soft targets"),
    (("--recipe", "minilmv2", "--student-width", "36"), "8 relation heads; take a number that divides both widths"),
    (("--recipe", "tinybert", "--student-layers", "3"), "a student of 3 layers cannot take one each"),
    (("--recipe", "distilbert", "--teacher", "classifier"), "--pretrained on the command line"),
])
def test_what_a_recipe_cannot_do_is_one_sentence_before_any_training(few, task, capsys, more, said):
    if "--teacher" in more:
        model = new_classifier(task.tokenizer, ("bad", "good"), 1, 32)
        more = (*more[:-1], str(save(model, task.tokenizer, few / "classifier")))
    assert main(command(few, "wrong", *more)) == 2
    caught = capsys.readouterr()
    assert said in caught.err and caught.err.count("\n") == 1 and "teacher, pretraining" not in caught.out
    assert not (few / "wrong").exists()


def test_the_paper_s_settings_stand_unless_a_size_is_given():
    for name in RECIPES:
        recipe = named(name)
        assert Sizes().settings_of(recipe, 1_000, paper=True) == recipe.PAPER
    own = Sizes(student_width=64, student_epochs=2.0, batch_size=10, student_learning_rate=1e-4).settings_of(
        named("tinybert"), 1_000, paper=True)
    assert own["student"] == {"layers": 4, "width": 64}
    assert sum(phase["steps"] for phase in phases(own).values()) == pytest.approx(200, abs=3)
    assert {phase["learning_rate"] for phase in phases(own).values()} == {1e-4}
    assert {phase["warmup"] for phase in phases(own).values() if "warmup" in phase} == {0.0, 0.1}


def test_a_new_paper_is_one_file_and_one_line_of_the_registry():
    places = [path.relative_to(ROOT).as_posix() for path in (ROOT / "kdlab").rglob("*.py")
              if re.search(r"minilmv2\b", path.read_text())]
    assert sorted(places) == ["kdlab/recipes/__init__.py"]
