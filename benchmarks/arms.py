"""One training of the miniature: a method, its variant, a seed and learning rates in; scores of a classifier out.

Every arm takes the same steps of 64 texts: `general` on texts without labels, then `task` on texts with labels (or on
variants of those). A stage that a variant leaves out gives its steps to the stage that follows, so that all rows of a
method cost the same number of steps. Where that happens is a `Ground`: the built-in world with its shipped teachers, or
SST-2 with teachers made here, from scratch, on its training sentences.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from datasets import Dataset
from jobs import RUNS, key, run_all
from transformers import AutoModelForMaskedLM, PreTrainedModel

from kdlab.data.augmentation import Augmenter
from kdlab.data.tasks import TEST_SEED, Task, builtin_task, encode, file_task
from kdlab.engine.run import Runtime
from kdlab.loop import distill
from kdlab.models import classifier_from, layer_map, load_classifier, load_masked_lm, new_masked_lm, new_model, save
from kdlab.models.layer_dropping import distilbert_config, layer_drop
from kdlab.recipes import distilbert, mobilebert, soft_targets, teacher, tinybert
from kdlab.study import metrics
from kdlab.terms import HardLabels
from kdlab.worlds.corpus import World

LABELLED, UNLABELLED, TEST = 1_000, 40_000, 10_000
MOBILE = {"intra_bottleneck_size": 32, "intermediate_size": 64, "num_feedforward_networks": 4}
# Learning rates to try, of the general stage and of the task stage: four pairs for every method, about where trials on
# a validation split found its best. A method of one stage has four rates of that one.
ONE_STAGE = tuple((0.0, rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2))
RATES = {       # in an order of which the middle two are the most likely
    "distilbert": tuple(product((1e-3, 3e-3), (3e-4, 1e-3))),
    "tinybert": tuple(product((1e-3, 3e-3), (1e-3, 3e-3))),
    "mobilebert": tuple(product((3e-3, 1e-2), (1e-3, 3e-3))),
    "fine-tuning": tuple(product((1e-3, 3e-3), (3e-4, 1e-3))),
    "no teacher": ONE_STAGE,
    "soft targets": ONE_STAGE,
}
GROUNDS = ("restaurant", "sst2")
QUICK_STEPS = 60, 60
TUNING_SEED = 99                                        # apart from those that are reported
QUIET = {"runtime": Runtime(progress=False)}

# `benchmarks/fetch_sst2.py` gets them
SST2 = Path(os.environ.get("KDLAB_SST2") or Path(__file__).resolve().parent.parent.parent / "shared/data/sst2")
AUGMENTED = 2_000                                       # rows at most; their variants are more than is ever seen
TEACHER_STEPS = 3_000, 2_000                            # of 64 SST-2 sentences: masked words, labels

load_masked_lm, load_classifier = cache(load_masked_lm), cache(load_classifier)


@dataclass(frozen=True)
class Ground:
    """Where the arms meet: a task (splits train, transfer, validation, test), its pretrained BERT and IB-BERT, and the
    classifier fine-tuned from that BERT."""

    task: Task
    bert: PreTrainedModel
    ib_bert: PreTrainedModel
    teacher: PreTrainedModel


def ground(job: dict) -> Ground:
    return _sst2() if job.get("ground") == "sst2" else _restaurant(job["seed"])


@cache
def _restaurant(seed: int) -> Ground:
    task = builtin_task(labelled=LABELLED, unlabelled=UNLABELLED, seed=100 + seed)
    task.splits["test"] = _restaurant_test()
    return Ground(task, load_masked_lm("restaurant-bert")[0], load_masked_lm("restaurant-ib-bert")[0],
                  load_classifier("restaurant-teacher")[0])


@cache
def _restaurant_test() -> Dataset:
    return encode(World("restaurant").dataset(TEST, seed=TEST_SEED), load_masked_lm("restaurant-bert")[1])


@cache
def _sst2() -> Ground:
    """2,000 training rows are kept for validation; dev.tsv, which has 872, is the test split. The teachers lie in
    runs/sst2 once `make_sst2_teachers` has run."""
    task = _sst2_task()
    return Ground(task, *(load_masked_lm(RUNS / "sst2" / name)[0] for name in ("bert", "ib-bert")),
                  load_classifier(RUNS / "sst2" / "teacher")[0])


@cache
def _sst2_task() -> Task:
    task = file_task(SST2 / "train.tsv", SST2 / "dev.tsv", "sentence", "label")
    held_out = task["train"].train_test_split(2_000, seed=0)
    task.splits |= {"train": held_out["train"], "transfer": held_out["train"], "validation": held_out["test"]}
    return task


def make_sst2_teachers() -> None:
    """Pretrain a BERT and an IB-BERT on the training sentences, and fine-tune the BERT; what lies there is kept."""
    task = _sst2_task()
    for architecture in teacher.ARCHITECTURES:
        if not (RUNS / "sst2" / architecture).exists():
            model, _ = teacher.pretrain(task, TEACHER_STEPS[0], teacher.new_teacher(task, architecture))
            save(model, task.tokenizer, RUNS / "sst2" / architecture)
    if not (RUNS / "sst2" / "teacher").exists():
        bert, _ = load_masked_lm(RUNS / "sst2" / "bert")
        save(teacher.fine_tune(task, bert, TEACHER_STEPS[1])[0], task.tokenizer, RUNS / "sst2" / "teacher")


@cache
def _teacher_on_test(name: str):
    where = ground({"ground": name, "seed": 0})
    return metrics.predict(where.teacher, where.task["test"])


def job(method: str, variant: str, seed: int, steps: tuple[int, int], rates: tuple[float, float], **more) -> dict:
    """What `scores` is to train; steps and rates of the general stage and of the task stage."""
    return {"method": method, "variant": variant, "seed": seed, "general": steps[0], "task": steps[1],
            "general_rate": rates[0], "task_rate": rates[1], **more}


def tuned(arms: list[tuple[str, str]], steps: tuple[int, int], store: Path,
          **more) -> dict[tuple[str, str], tuple[float, float]]:
    """For each (method, variant) the learning rates that do best on validation; every arm has as many to try: four, or
    on SST-2, whose trainings take longer, the middle two of them."""
    tried = slice(None) if "ground" not in more else slice(1, 3)
    grid = {(arm, rates): job(*arm, TUNING_SEED, steps, rates, tuning=True, **more)
            for arm in arms for rates in RATES[arm[0]][tried]}
    results = run_all(scores, list(grid.values()), store)
    return {arm: max(RATES[arm[0]][tried], key=lambda rates: results[key(grid[arm, rates])]["accuracy"])
            for arm in arms}


def scores(job: dict) -> dict:
    """The scores of the classifier that `job` describes: on validation for "tuning", else on the test split."""
    torch.manual_seed(job["seed"])
    model, task = METHODS[job["method"]](job), ground(job).task
    if job.get("tuning"):
        scores = metrics.evaluate(model, task["validation"])
    else:
        scores = metrics.evaluate(model, task["test"], _teacher_on_test(job.get("ground", GROUNDS[0])))
    return scores | {"parameters": metrics.parameters(model),
                     "flops": metrics.flops(model, task.tokenizer.model_max_length)}


def _distilbert(job: dict) -> PreTrainedModel:
    """Variants: full, full+ (distilled a second time), without soft, masked or cosine, without teacher (masked words
    alone), random (weights)."""
    here, seed, variant = ground(job), job["seed"], job["variant"]
    task, bert, fine_tuned = here.task, here.bert, here.teacher
    student = layer_drop(bert)
    if variant == "random":
        student = new_model(distilbert_config(bert), AutoModelForMaskedLM, seed)
    left_out = {"without soft": ("soft",), "without masked": ("masked",), "without cosine": ("cosine",),
                "without teacher": ("soft", "cosine")}
    weights = dict.fromkeys(left_out.get(variant, ()), 0.0)
    distilbert.general(task, bert, job["general"], student, distilbert.triple_loss(student, bert, **weights),
                       seed=seed, learning_rate=job["general_rate"], **QUIET)
    guide = fine_tuned if variant == "full+" else None
    return distilbert.on_task(task, student, job["task"], guide, seed, job["task_rate"], batch_size=64, **QUIET)[0]


def _tinybert(job: dict) -> PreTrainedModel:
    """Variants: full; without general, task, augmentation, embedding, prediction, transformer, attention or hidden;
    top; bottom."""
    here, seed, variant = ground(job), job["seed"], job["variant"]
    task, bert, fine_tuned = here.task, here.bert, here.teacher
    without = variant.removeprefix("without ")
    parts = tuple(part for part in tinybert.PARTS if part != without
                  and not (without == "transformer" and part in ("hidden", "attention")))
    student = tinybert.new_student(task, bert, seed=seed)
    preset = {"top": layer_map.top, "bottom": layer_map.bottom}.get(variant, layer_map.uniform)
    layers = preset(student.config.num_hidden_layers, bert.config.num_hidden_layers)

    def losses():
        return tinybert.intermediate(student, bert, layers, parts, seed)
    general, first = job["general"], job["task"] // 2
    if without == "general":
        general, first = 0, first + general
    if general:
        tinybert.general(task, bert, general, student, losses(), seed, job["general_rate"], **QUIET)
    if without == "task":
        stage = soft_targets.no_teacher(job["task"], learning_rate=job["task_rate"])
        distill(student, None, task["train"], stage, seed=seed, **QUIET)
        return student
    data = task["train"]
    if without != "augmentation":
        rows = data.shuffle(seed).select(range(AUGMENTED)) if len(data) > AUGMENTED else data
        data = Augmenter(bert, task.tokenizer)(rows, seed)
    second = job["task"] - job["task"] // 2
    settings = {"seed": seed, "learning_rate": job["task_rate"], **QUIET}
    if without == "prediction":
        tinybert.on_task(data, student, fine_tuned, first, 0, losses(), **settings)
        tinybert.on_task(task["train"], student, fine_tuned, 0, second, prediction=HardLabels(), **settings)
    else:
        tinybert.on_task(data, student, fine_tuned, first, second, losses(), **settings)
    return student


def _mobilebert(job: dict) -> PreTrainedModel:
    """Variants: progressive, joint, auxiliary; bare (masked LM alone), distilled (L_PD alone), without attention,
    without feature_maps. Three quarters of the general steps transfer knowledge."""
    here, seed, variant = ground(job), job["seed"], job["variant"]
    task, ib_bert = here.task, here.ib_bert
    parts = tuple(part for part in mobilebert.TRANSFERS if variant != f"without {part}")
    if variant in ("bare", "distilled"):
        parts = ()
    transfer = 3 * job["general"] // 4
    strategy = variant if variant in mobilebert.STRATEGIES else "progressive"
    student, _ = mobilebert.general(
        task, ib_bert, transfer, job["general"] - transfer, strategy, mobilebert.new_student(ib_bert, seed, **MOBILE),
        parts, variant != "bare", seed, job["general_rate"], **QUIET)
    return distilbert.on_task(task, student, job["task"], None, seed, job["task_rate"], batch_size=64, **QUIET)[0]


def _no_teacher(job: dict) -> PreTrainedModel:
    """Variants: the student of a recipe, on labels alone for all the steps."""
    task = ground(job).task
    student = classifier_from(_untrained(job), task.label_names, job["seed"])
    stage = soft_targets.no_teacher(job["general"] + job["task"], learning_rate=job["task_rate"])
    distill(student, None, task["train"], stage, seed=job["seed"], **QUIET)
    return student


def _fine_tuning(job: dict) -> PreTrainedModel:
    """Variants: the student of a recipe, pretrained by masked words without a teacher, then fine-tuned on labels."""
    task, seed = ground(job).task, job["seed"]
    student, _ = teacher.pretrain(task, job["general"], _untrained(job), job["general_rate"], seed, **QUIET)
    return distilbert.on_task(task, student, job["task"], None, seed, job["task_rate"], batch_size=64, **QUIET)[0]


def _soft_targets(job: dict) -> PreTrainedModel:
    """Variants: the student of a recipe, from the fine-tuned teacher's soft targets on unlabelled texts, all steps."""
    here, seed = ground(job), job["seed"]
    task = here.task
    student = classifier_from(_untrained(job), task.label_names, seed)
    stage = soft_targets.with_teacher(job["general"] + job["task"], learning_rate=job["task_rate"])
    distill(student, here.teacher, task["transfer"], stage, seed=seed, **QUIET)
    return student


def _untrained(job: dict) -> PreTrainedModel:
    """The recipe's student with random weights."""
    here = ground(job)
    if job["variant"] == "distilbert":
        return new_model(distilbert_config(here.bert), AutoModelForMaskedLM, job["seed"])
    if job["variant"] == "tinybert":
        heads = here.bert.config.num_attention_heads
        return new_masked_lm(here.task.tokenizer, 2, 64, heads, 0.0, job["seed"])
    return new_model(mobilebert.new_student(here.ib_bert, **MOBILE).config, AutoModelForMaskedLM, job["seed"])


METHODS = {"distilbert": _distilbert, "tinybert": _tinybert, "mobilebert": _mobilebert, "no teacher": _no_teacher,
           "fine-tuning": _fine_tuning, "soft targets": _soft_targets}
