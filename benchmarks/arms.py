"""One training of the miniature: a method, its variant, a seed and learning rates in; scores of a classifier out.

Every arm takes the same steps of 64 texts: `general` on 40,000 texts without stars, then `task` on 1,000 with stars
(or on variants of those). A stage that a variant leaves out gives its steps to the stage that follows, so that all
rows of a method cost the same number of steps. Teachers are the shipped ones, never trained here.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from jobs import key, run_all
from transformers import AutoModelForMaskedLM, PreTrainedModel

from kdlab import layer_map, measure
from kdlab.augment import Augmenter
from kdlab.corpus import MAX_TOKENS, World
from kdlab.distill import distill
from kdlab.layer_drop import distilbert_config, layer_drop
from kdlab.models import classifier_from, load_classifier, load_masked_lm, new_masked_lm, new_model
from kdlab.objectives import HardLabels
from kdlab.recipes import distilbert, mobilebert, soft_targets, teacher, tinybert
from kdlab.tasks import TEST_SEED, Task, builtin_task, encode

LABELLED, UNLABELLED, TEST = 1_000, 40_000, 10_000
MOBILE = {"intra_bottleneck_size": 32, "intermediate_size": 64, "num_feedforward_networks": 4}
# Learning rates to try, of the general stage and of the task stage: four pairs for every method, about where trials on
# a validation split found its best. A method of one stage has four rates of that one.
ONE_STAGE = tuple((0.0, rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2))
RATES = {
    "distilbert": tuple(product((1e-3, 3e-3), (3e-4, 1e-3))),
    "tinybert": tuple(product((1e-3, 3e-3), (1e-3, 3e-3))),
    "mobilebert": tuple(product((3e-3, 1e-2), (1e-3, 3e-3))),
    "fine-tuning": tuple(product((1e-3, 3e-3), (3e-4, 1e-3))),
    "no teacher": ONE_STAGE,
    "soft targets": ONE_STAGE,
}
TUNING_SEED = 99                                        # apart from those that are reported
QUIET = {"progress": False}

load_masked_lm, load_classifier = cache(load_masked_lm), cache(load_classifier)


@cache
def task_of(seed: int) -> Task:
    return builtin_task(labelled=LABELLED, unlabelled=UNLABELLED, seed=100 + seed)


@cache
def test_split():
    return encode(World("restaurant").dataset(TEST, seed=TEST_SEED), load_masked_lm("restaurant-bert")[1])


@cache
def _teacher_on_test():
    return measure.predict(load_classifier("restaurant-teacher")[0], test_split())


def job(method: str, variant: str, seed: int, steps: tuple[int, int], rates: tuple[float, float], **more) -> dict:
    """What `scores` is to train; steps and rates of the general stage and of the task stage."""
    return {"method": method, "variant": variant, "seed": seed, "general": steps[0], "task": steps[1],
            "general_rate": rates[0], "task_rate": rates[1], **more}


def tuned(arms: list[tuple[str, str]], steps: tuple[int, int],
          store: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """For each (method, variant) the learning rates that do best on validation; every arm has as many to try."""
    grid = {(arm, rates): job(*arm, TUNING_SEED, steps, rates, tuning=True) for arm in arms for rates in RATES[arm[0]]}
    results = run_all(scores, list(grid.values()), store)
    return {arm: max(RATES[arm[0]], key=lambda rates: results[key(grid[arm, rates])]["accuracy"]) for arm in arms}


def scores(job: dict) -> dict:
    """The scores of the classifier that `job` describes: on validation for "tuning", else on the test split."""
    torch.manual_seed(job["seed"])
    model = METHODS[job["method"]](job)
    data = task_of(job["seed"])["validation"] if job.get("tuning") else test_split()
    return measure.evaluate(model, data, None if job.get("tuning") else _teacher_on_test()) | {
        "parameters": measure.parameters(model), "flops": measure.flops(model, MAX_TOKENS)}


def _distilbert(job: dict) -> PreTrainedModel:
    """Variants: full, full+ (distilled a second time), without soft, masked or cosine, without teacher (masked words
    alone), random (weights)."""
    task, seed, variant = task_of(job["seed"]), job["seed"], job["variant"]
    bert, fine_tuned = load_masked_lm("restaurant-bert")[0], load_classifier("restaurant-teacher")[0]
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
    task, seed, variant = task_of(job["seed"]), job["seed"], job["variant"]
    bert, fine_tuned = load_masked_lm("restaurant-bert")[0], load_classifier("restaurant-teacher")[0]
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
        distill(student, task["train"], stage, seed=seed, **QUIET)
        return student
    data = task["train"]
    if without != "augmentation":
        data = Augmenter(bert, task.tokenizer)(data, seed)
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
    task, seed, variant = task_of(job["seed"]), job["seed"], job["variant"]
    ib_bert = load_masked_lm("restaurant-ib-bert")[0]
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
    student = classifier_from(_untrained(job), task_of(job["seed"]).label_names, job["seed"])
    stage = soft_targets.no_teacher(job["general"] + job["task"], learning_rate=job["task_rate"])
    distill(student, task_of(job["seed"])["train"], stage, seed=job["seed"], **QUIET)
    return student


def _fine_tuning(job: dict) -> PreTrainedModel:
    """Variants: the student of a recipe, pretrained by masked words without a teacher, then fine-tuned on labels."""
    task, seed = task_of(job["seed"]), job["seed"]
    student, _ = teacher.pretrain(task, job["general"], _untrained(job), job["general_rate"], seed, **QUIET)
    return distilbert.on_task(task, student, job["task"], None, seed, job["task_rate"], batch_size=64, **QUIET)[0]


def _soft_targets(job: dict) -> PreTrainedModel:
    """Variants: the student of a recipe, from the fine-tuned teacher's soft targets on unlabelled texts, all steps."""
    task, seed = task_of(job["seed"]), job["seed"]
    student = classifier_from(_untrained(job), task.label_names, seed)
    stage = soft_targets.with_teacher(job["general"] + job["task"], learning_rate=job["task_rate"])
    distill(student, task["transfer"], stage, load_classifier("restaurant-teacher")[0], seed=seed, **QUIET)
    return student


def _untrained(job: dict) -> PreTrainedModel:
    """The recipe's student with random weights."""
    bert, tokenizer = load_masked_lm("restaurant-bert")
    if job["variant"] == "distilbert":
        return new_model(distilbert_config(bert), AutoModelForMaskedLM, job["seed"])
    if job["variant"] == "tinybert":
        return new_masked_lm(tokenizer, 2, 64, bert.config.num_attention_heads, 0.0, job["seed"])
    ib_bert = load_masked_lm("restaurant-ib-bert")[0]
    return new_model(mobilebert.new_student(ib_bert, **MOBILE).config, AutoModelForMaskedLM, job["seed"])


METHODS = {"distilbert": _distilbert, "tinybert": _tinybert, "mobilebert": _mobilebert, "no teacher": _no_teacher,
           "fine-tuning": _fine_tuning, "soft targets": _soft_targets}
