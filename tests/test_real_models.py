"""The way out of the miniature world: models and data as a Hub would give them, pairs, regressions, what is saved."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SST2, opinionated
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    RobertaConfig,
    pipeline,
)

from kdlab.cli import main
from kdlab.data.batches import Rows
from kdlab.data.labels import class_numbers
from kdlab.data.tasks import file_task, hub_task, train_tokenizer
from kdlab.engine.run import QUIET, Runtime, Stage
from kdlab.errors import KdlabError
from kdlab.loop import distill
from kdlab.models import load_classifier, load_student, new_classifier, new_model, save
from kdlab.models.layer_dropping import shallower
from kdlab.models.tracing import trace
from kdlab.recipes.soft_targets import no_teacher, with_teacher
from kdlab.study import metrics
from kdlab.study.onnx_export import export
from kdlab.terms import HardLabels, HiddenStates, Objective, SoftTargets

QUICK = ["--student-layers", "1", "--student-width", "32", "--student-epochs", "2", "--seeds", "1", "--batch-size",
         "32", "--student-learning-rate", "3e-3", "--max-tokens", "32"]


def frame_of(world, size: int, seed: int) -> pd.DataFrame:
    data = world.dataset(size, seed=seed)
    return pd.DataFrame({"text": data["text"][:], "label": ["bad" if y < 2 else "good" for y in data["label"][:]]})


@pytest.fixture(scope="module")
def reviews(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews")
    for name, size, seed in (("train", 400, 1), ("dev", 100, 2)):
        frame_of(world, size, seed).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def bert_folder(reviews):
    """A fine-tuned BERT as a Hub would give it: two segments, upper case in its labels."""
    texts = pd.read_csv(reviews / "train.csv").text
    tokenizer = train_tokenizer(texts, 500, 64, pairs=True)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=64, id2label={0: "GOOD", 1: "BAD"},
                        label2id={"GOOD": 0, "BAD": 1})
    teacher = opinionated(new_model(config, AutoModelForSequenceClassification), 3)
    return save(teacher, tokenizer, reviews / "bert")


def command(reviews, out, *more) -> list[str]:
    return ["distill", "--data", str(reviews / "train.csv"), "--eval", str(reviews / "dev.csv"), "--out", str(out),
            *QUICK, *more]


def test_a_teacher_from_a_folder_and_a_student_of_some_of_its_layers(reviews, bert_folder, tmp_path, capsys):
    assert main(command(reviews, tmp_path / "out", "--teacher", str(bert_folder), "--student", "layer-drop",
                        "--student-layers", "2")) == 0
    assert "student, with teacher" in capsys.readouterr().out
    student, _ = load_classifier(tmp_path / "out" / "student")
    assert type(student) is BertForSequenceClassification and student.config.num_hidden_layers == 2
    assert student.config.id2label == {0: "GOOD", 1: "BAD"}, "the labels keep the teacher's order and spelling"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["labels"] == ["GOOD", "BAD"] and report["scores"]["student, with teacher"]["fidelity"]["mean"] > 0.9
    assert not (tmp_path / "out" / "teacher").exists(), "what was given is not written again"
    assert not (tmp_path / "out" / "progress").exists()
    card = (tmp_path / "out" / "student" / "README.md").read_text()
    assert "distilled on train" in card, "the task is named after its file"
    assert "pipeline_tag: text-classification" in card
    assert f"{report['scores']['teacher']['accuracy']['mean']:.4f}" in card and "GOOD, BAD" in card


def test_the_saved_student_needs_no_kdlab(reviews, bert_folder, tmp_path):
    """In a process where kdlab cannot be imported, the plain classes give the same logits."""
    assert main(command(reviews, tmp_path / "out", "--teacher", str(bert_folder))) == 0
    student, tokenizer = load_classifier(tmp_path / "out" / "student")
    text = "the soup was good , but the host was rude ."
    expected = student(**tokenizer(text, return_tensors="pt")).logits[0].tolist()
    code = f"""if True:
        import json, sys
        sys.modules["kdlab"] = None
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
        model = AutoModelForSequenceClassification.from_pretrained({str(tmp_path / "out" / "student")!r})
        tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / "out" / "student")!r})
        logits = model(**tokenizer({text!r}, return_tensors="pt")).logits[0].tolist()
        answer = pipeline("text-classification", {str(tmp_path / "out" / "student")!r})({text!r})[0]
        print(json.dumps([logits, answer]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    logits, answer = json.loads(done.stdout.splitlines()[-1])
    assert logits == pytest.approx(expected, abs=1e-6)
    assert answer["label"] == ["GOOD", "BAD"][int(np.argmax(expected))]


def test_a_run_of_the_command_that_was_stopped_goes_on(reviews, bert_folder, tmp_path, monkeypatch):
    from kdlab.recipes import soft_targets
    from kdlab.study import experiment

    arguments = command(reviews, tmp_path / "out", "--teacher", str(bert_folder))
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "write_text", lambda *_: exec("raise KeyboardInterrupt"))
        assert main(arguments) == 130
    assert not (tmp_path / "out" / "report.json").exists() and (tmp_path / "out" / "student").exists()
    trained = []
    real = experiment.distill
    for module in (experiment, soft_targets):
        monkeypatch.setattr(module, "distill", lambda *given, **named: trained.append(real(*given, **named))
                            or trained[-1])
    assert main(arguments) == 0
    speeds = [run.report.steps_per_second for run in trained if run.steps > 1]      # one step is tried first
    assert speeds == [0, 0], "both were finished, and are not run again"


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_families_as_teachers(kind, task):
    config = {"roberta": RobertaConfig, "distilbert": DistilBertConfig}[kind](
        vocab_size=len(task.tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, dim=32, hidden_dim=64, n_layers=3, n_heads=2,
        pad_token_id=task.tokenizer.pad_token_id, id2label=dict(enumerate(task.label_names)))
    teacher = opinionated(new_model(config, AutoModelForSequenceClassification), 3)
    student = shallower(teacher, 2)
    assert type(student) is type(teacher) and student.config.num_hidden_layers == 2
    kept = {name: value for name, value in student.state_dict().items() if ".layer.1." in name}
    for name, value in kept.items():
        assert torch.equal(value, teacher.state_dict()[name.replace(".layer.1.", ".layer.2.")]), "first and last"
    distill(student, teacher, task["train"], with_teacher(3), runtime=QUIET)
    assert len(kept) > 5


def test_a_student_with_a_tokenizer_of_its_own(reviews, bert_folder, tmp_path):
    """It learns what the teacher says of each text, row by row, and nothing token by token."""
    texts = pd.read_csv(reviews / "train.csv").text
    tokenizer = train_tokenizer(texts[:50], 150, 64)
    other = new_classifier(tokenizer, ("x", "y"), 1, 32)
    save(other, tokenizer, tmp_path / "other")
    assert main(command(reviews, tmp_path / "out", "--teacher", str(bert_folder), "--student",
                        str(tmp_path / "other"))) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["scores"]["student, with teacher"]["fidelity"]["mean"] > 0.75
    teacher, theirs = load_classifier(bert_folder)
    task = file_task(reviews / "train.csv", reviews / "dev.csv", tokenizer=theirs, label_names=("GOOD", "BAD"))
    ours = task.recoded(tokenizer)
    student, _ = load_student(tmp_path / "other", task.label_names)

    def run(precision="no", **options):
        fresh, _ = load_student(tmp_path / "other", task.label_names)
        return distill(fresh, teacher, ours["train"], with_teacher(4), teacher_data=task["train"],
                       runtime=Runtime(precision, progress=False), **options).history["loss"]
    assert run() == pytest.approx(run(cache=tmp_path / "cache"), rel=1e-4)
    rows, asked = Rows(ours["train"], 0), []
    hook = teacher.register_forward_pre_hook(lambda module, _, given: asked.append(given["input_ids"]),
                                             with_kwargs=True)
    run(precision="bf16")
    hook.remove()
    words = [{tuple(x for x in row.tolist() if x) for row in ids} for ids in asked]
    known = {tuple(ids) for ids in task["train"]["input_ids"]}
    assert all(texts <= known for texts in words) and len(rows) == len(task["train"])
    inside = Stage(Objective([HiddenStates(((1, 1),))]), 1)
    with pytest.raises(KdlabError, match="token by token, and they cut texts into different tokens"):
        distill(student, teacher, ours["train"], inside, teacher_data=task["train"], runtime=QUIET)
    with pytest.raises(KdlabError, match="399"):
        distill(student, teacher, ours["train"], with_teacher(1), teacher_data=task["train"].select(range(399)),
                runtime=QUIET)


# ---- pairs and regressions ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Which of two shelves holds more: the answer is in the order, which segments or positions have to tell."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    words = "one two three four five six seven eight nine".split()
    for name, size in (("train", 1_200), ("dev", 200)):
        a, b = rng.integers(0, 9, (2, size))
        pd.DataFrame({"left": [f"{words[i]} books" for i in a], "right": [f"{words[j]} books" for j in b],
                      "label": np.where(a > b, "more", "not more"), "score": (a - b) / 2.0 + rng.normal(0, 0.1, size)}
                     ).to_json(folder / f"{name}.jsonl", orient="records", lines=True)
    return folder


def test_pairs_are_encoded_as_the_tokenizer_does_it_and_reach_the_model(pairs):
    task = file_task(pairs / "train.jsonl", pairs / "dev.jsonl", "left", pair="right", vocabulary=100)
    assert task.is_on_pairs and not task.is_regression
    row = task["train"][0]
    expected = task.tokenizer(row["text"], row["pair"])
    assert row["input_ids"] == expected["input_ids"] and row["token_type_ids"] == expected["token_type_ids"]
    assert sum(row["token_type_ids"]) == 3, "two words and the end of the second text"
    model = opinionated(new_classifier(task.tokenizer, task.label_names, 1, 32))
    assert model.config.type_vocab_size == 2
    batch = Rows(task["train"], 0).batch([0, 1])
    told = task.tokenizer(*(list(task["train"][c][:2]) for c in ("text", "pair")), padding=True, return_tensors="pt")
    torch.testing.assert_close(trace(model, batch).logits, model(**told).logits)
    assert not torch.allclose(trace(model, batch).logits,
                              trace(model, {k: v for k, v in batch.items() if k != "token_type_ids"}).logits)


def test_a_pairs_task_from_file_to_report(pairs, tmp_path):
    assert main(["distill", "--data", str(pairs / "train.jsonl"), "--eval", str(pairs / "dev.jsonl"), "--text", "left",
                 "--pair", "right", "--out", str(tmp_path / "out"), *QUICK, "--teacher-layers", "2",
                 "--teacher-width", "64", "--teacher-epochs", "12", "--teacher-learning-rate", "2e-3",
                 "--student-layers", "2", "--student-epochs", "20", "--student-learning-rate", "1e-3"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["scores"]["teacher"]["accuracy"]["mean"] > 0.9
    assert report["scores"]["student, with teacher"]["accuracy"]["mean"] > 0.85
    answer = pipeline("text-classification", str(tmp_path / "out" / "student"))
    assert answer({"text": "nine books", "text_pair": "one books"})["label"] == "more"


def test_a_regression_from_file_to_report(pairs, tmp_path):
    """As the papers treat STS-B: squared error, and correlations for scores."""
    assert main(["distill", "--data", str(pairs / "train.jsonl"), "--eval", str(pairs / "dev.jsonl"), "--text", "left",
                 "--pair", "right", "--label", "score", "--regression", "--out", str(tmp_path / "out"), *QUICK,
                 "--teacher-layers", "2", "--teacher-width", "64", "--teacher-epochs", "12", "--student-epochs", "20",
                 "--teacher-learning-rate", "2e-3"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["scores"]["teacher"]) == {"pearson", "spearman", "mse"}
    assert report["scores"]["teacher"]["pearson"]["mean"] > 0.9
    assert report["scores"]["student, with teacher"]["fidelity"]["mean"] > 0.9
    assert "pearson" in (tmp_path / "out" / "report.txt").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "student")
    assert model.config.problem_type == "regression"
    answer = pipeline("text-classification", str(tmp_path / "out" / "student"))
    assert answer({"text": "nine books", "text_pair": "one books"})["score"] > 2, "the output as it is"


def test_the_losses_of_a_regression_are_torchs(pairs):
    task = file_task(pairs / "train.jsonl", pairs / "dev.jsonl", "left", "score", pair="right", regression=True,
                     vocabulary=100)
    student, teacher = (opinionated(new_classifier(task.tokenizer, task.label_names, 1, 32, seed=i)) for i in (0, 1))
    batch = Rows(task["train"], 0).batch(range(16))
    ours, theirs = (trace(model, batch) for model in (student, teacher))
    mse = torch.nn.functional.mse_loss
    assert HardLabels()(ours, None, batch).item() == pytest.approx(mse(ours.logits[:, 0], batch["labels"]).item())
    assert SoftTargets()(ours, theirs, batch).item() == pytest.approx(mse(ours.logits, theirs.logits).item())
    scores = metrics.evaluate(student, task["test"])
    x, y = metrics.predict(student, task["test"])[:, 0].double(), torch.tensor(task["test"]["label"][:])
    assert scores["pearson"] == pytest.approx(torch.corrcoef(torch.stack([x, y]))[0, 1].item())
    classes = new_classifier(task.tokenizer, ("a", "b"), 1, 32)
    with pytest.raises(KdlabError, match="with a fraction and the student tells 2 classes apart"):
        distill(classes, None, task["train"], no_teacher(1), runtime=QUIET)


# ---- data sets and labels -------------------------------------------------------------------------------------------

def test_a_folder_that_holds_a_data_set(reviews, tmp_path):
    for name, split in (("train", "train"), ("dev", "validation")):
        (tmp_path / f"{split}.csv").write_bytes((reviews / f"{name}.csv").read_bytes())
    ours, theirs = (make(str(place), vocabulary=300) for make, place in (
        (hub_task, tmp_path), (lambda place, **more: file_task(place, reviews / "dev.csv", **more),
                               reviews / "train.csv")))
    assert ours["train"]["input_ids"][:] == theirs["train"]["input_ids"][:]
    assert ours["test"]["label"][:] == theirs["test"]["label"][:] and ours.label_names == theirs.label_names
    with pytest.raises(KdlabError, match=r"split dev: this cannot be read .* check --data, --subset and the split"):
        hub_task(str(tmp_path), test="dev")


def test_classes_of_a_data_set_are_read_by_their_names(reviews, tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["worse", "better"])})
    for split in ("train", "validation"):
        data = Dataset.from_dict({"text": ["a b", "c d"] * 5, "label": [0, 1] * 5}, features=features)
        data.to_parquet(tmp_path / f"{split}.parquet")
    task = hub_task(str(tmp_path), vocabulary=50)
    assert task.label_names == ("better", "worse") and task["train"]["label"][:2] == [1, 0]


def test_without_a_network_a_hub_name_gives_one_sentence_with_the_remedy(capsys):
    for arguments, said in ((["--data", "nyu-mll/glue", "--subset", "sst2"], "--repo-type dataset --local-dir FOLDER"),
                            (["--data", str(SST2 / "dev.tsv"), "--eval", str(SST2 / "dev.tsv"), "--text", "sentence",
                              "--teacher", "textattack/bert-base-uncased-SST-2"], "--local-dir FOLDER")):
        assert main(["distill", *arguments, "--out", "nowhere"]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_labels_are_put_in_the_teachers_order():
    assert class_numbers(("NEG", "POS"), ["pos", "neg"]) == {"pos": 1, "neg": 0}
    assert class_numbers(("b", "a"), ["a", "b"]) == {"a": 1, "b": 0}
    assert class_numbers(("a", "b", "c"), ["c", "a"]) == {"c": 2, "a": 0}, "data need not have all classes"
    with pytest.warns(UserWarning, match=r"taken in order \(0 = NEGATIVE, 1 = POSITIVE\)"):
        assert class_numbers(("NEGATIVE", "POSITIVE"), ["0", "1"]) == {"0": 0, "1": 1}
    with pytest.warns(UserWarning, match=r"taken in order \(no = LABEL_0, yes = LABEL_1\)"):
        assert class_numbers(("LABEL_0", "LABEL_1"), ["no", "yes"]) == {"no": 0, "yes": 1}
    for theirs in (("x", "y"), ("a", "c", "d")):
        with pytest.raises(KdlabError, match=r"write the teacher's into the data"):
            class_numbers(theirs, ["a", "b"])


# ---- the last step --------------------------------------------------------------------------------------------------

def test_onnx_says_the_same_and_eight_bits_nearly(reviews, bert_folder, tmp_path, capsys):
    ort = pytest.importorskip("onnxruntime")
    assert main(["export", str(bert_folder), "--eval", str(reviews / "dev.csv"), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert [line.split("  ")[0] for line in said.splitlines()[1:4]] == ["torch", "onnx", "onnx int8"]
    model, tokenizer = load_classifier(bert_folder)
    texts = ["the soup was good .", "good", "we liked the soup , but the host was rude , and the soup was cold ."]
    for text in texts:      # other lengths and another number of texts than at the export
        given = tokenizer([text] * 3, return_tensors="pt")
        session = ort.InferenceSession(str(tmp_path / "model.onnx"))
        (logits,) = session.run(["logits"], {name: values.numpy() for name, values in given.items()})
        torch.testing.assert_close(torch.from_numpy(logits), model(**given).logits, rtol=1e-3, atol=1e-4)
    task = file_task(reviews / "dev.csv", reviews / "dev.csv", tokenizer=tokenizer, label_names=("GOOD", "BAD"))
    found = export(model, task, tmp_path)
    assert found["onnx"]["accuracy"] == found["torch"]["accuracy"]
    assert abs(found["onnx int8"]["accuracy"] - found["torch"]["accuracy"]) < 0.1
    assert found["onnx int8"]["megabytes"] < 0.75 * found["onnx"]["megabytes"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_sst2_end_to_end_with_a_bert_shaped_folder(tmp_path):
    texts = pd.read_csv(SST2 / "train.tsv", sep="\t", quoting=3)
    texts.head(4_000).to_csv(tmp_path / "train.csv", index=False)
    tokenizer = train_tokenizer(texts.sentence, 4_000, 64, pairs=True)
    teacher = new_classifier(tokenizer, ("negative", "positive"), 4, 128)
    task = file_task(tmp_path / "train.csv", SST2 / "dev.tsv", "sentence", tokenizer=tokenizer,
                     label_names=("negative", "positive"))
    distill(teacher, None, task["train"], no_teacher(300, learning_rate=5e-4), runtime=QUIET)
    save(teacher, tokenizer, tmp_path / "teacher")
    assert main(["distill", "--data", str(tmp_path / "train.csv"), "--eval", str(SST2 / "dev.tsv"), "--text",
                 "sentence", "--teacher", str(tmp_path / "teacher"), "--student", "layer-drop", "--student-layers", "2",
                 "--out", str(tmp_path / "out"), "--seeds", "2", "--student-learning-rate", "3e-4"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["scores"]["teacher"]["accuracy"]["mean"] > 0.65
    assert report["scores"]["student, with teacher"]["fidelity"]["mean"] > 0.8
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out" / "student")
    assert loaded.get_vocab() == tokenizer.get_vocab()
