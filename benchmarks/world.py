"""Is the built-in world fit to teach distillation? It must show what the papers show, and this measures it.

(a) Masked-word pretraining helps: with few labels, a pretrained and fine-tuned teacher beats the same
    network from scratch by at least 5 points of accuracy.
(b) A 2-layer student at one budget of steps: scratch < KD on the same texts < KD on unlabelled texts, each
    step larger than twice its standard error.

Every side tunes its own learning rate, from a grid of the same size, on the validation split; the table
reports the test split (10,000 texts).

    python benchmarks/world.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdlab.data.tasks import TEST_SEED, builtin_task, encode
from kdlab.engine.run import QUIET
from kdlab.loop import distill
from kdlab.models import load_classifier, load_masked_lm, new_classifier
from kdlab.recipes import soft_targets
from kdlab.recipes.teacher import fine_tune, pretrain
from kdlab.study import metrics
from kdlab.worlds.corpus import World

LABELS_A, LABELS_B, UNLABELLED = 300, 1_000, 40_000
TEACHER_RATES, STUDENT_RATES = (1e-4, 3e-4, 1e-3), (1e-3, 3e-3)


def tuned(train: Callable, rates: Sequence[float], seeds: Sequence[int], tuning_seeds: Sequence[int],
          validation, test) -> tuple[float, list[float]]:
    """The learning rate that does best on validation, and the test accuracies of all seeds with it."""
    models = {(rate, seed): train(rate, seed) for rate in rates for seed in tuning_seeds}
    best = max(rates, key=lambda rate: statistics.fmean(
        metrics.evaluate(models[rate, seed], validation)["accuracy"] for seed in tuning_seeds))
    chosen = [models.get((best, seed)) or train(best, seed) for seed in seeds]
    return best, [metrics.evaluate(model, test)["accuracy"] for model in chosen]


def standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 seeds, shorter runs, and the shipped pretraining")
    parser.add_argument("--json", type=Path, help="write the figures here")
    quick, out = (lambda o: (o.quick, o.json))(parser.parse_args())
    began = time.perf_counter()

    teacher, tokenizer = load_classifier("restaurant-teacher")
    test = encode(World("restaurant").dataset(10_000, seed=TEST_SEED), tokenizer)
    truth, labels = torch.tensor(test["truth"][:]), torch.tensor(test["label"][:])
    scores = metrics.evaluate(teacher, test)
    figures = {"bayes_accuracy": metrics.accuracy(truth, labels), "teacher_accuracy": scores["accuracy"],
               "teacher_kl": scores["kl_truth"]}
    print(f"Bayes accuracy {figures['bayes_accuracy']:.4f}; shipped teacher {figures['teacher_accuracy']:.4f} "
          f"({figures['teacher_accuracy'] / figures['bayes_accuracy']:.1%} of it), KL(truth, teacher) "
          f"{figures['teacher_kl']:.4f} nats", flush=True)

    # (a)
    seeds, tuning = (0, 1, 2), (0,) if quick else (0, 1, 2)
    tasks = {seed: builtin_task(labelled=LABELS_A, unlabelled=1 if quick else 100_000, seed=seed) for seed in seeds}
    validation = tasks[0]["validation"]
    if quick:
        bodies = {0: load_masked_lm("restaurant-bert")[0]}
    else:
        bodies = {seed: pretrain(tasks[seed], seed=seed, runtime=QUIET)[0] for seed in seeds}
        print(f"(a) pretraining done after {time.perf_counter() - began:.0f} s", flush=True)

    def teacher_side(pretrained: bool) -> Callable:
        def train(rate: float, seed: int):
            body = bodies.get(seed, bodies[0]) if pretrained else None
            return fine_tune(tasks[seed], body, 300, rate, batch_size=32, dropout=0.1, seed=seed, runtime=QUIET)[0]
        return train

    rates = TEACHER_RATES[:2] if quick else TEACHER_RATES
    rows = {name: tuned(teacher_side(name == "pretrained"), rates, seeds, tuning, validation, test)
            for name in ("from scratch", "pretrained")}
    gains = [100 * (b - a) for a, b in zip(rows["from scratch"][1], rows["pretrained"][1], strict=True)]
    figures |= {"pretraining_gain": statistics.fmean(gains), "pretraining_gain_se": standard_error(gains),
                "pretraining_labels": LABELS_A}
    print(f"\n(a) the teacher's network (4 layers x 128) on {LABELS_A} labels, {len(seeds)} seeds")
    for name, (rate, accuracies) in rows.items():
        print(f"    {name:<14} {statistics.fmean(accuracies):.4f} +- {standard_error(accuracies):.4f} (s.e.)   "
              f"learning rate {rate:g}   {' '.join(f'{a:.4f}' for a in accuracies)}")
    print(f"    gain {figures['pretraining_gain']:+.1f} points +- {figures['pretraining_gain_se']:.1f} "
          f"(wanted: at least 5)", flush=True)

    # (b)
    seeds, steps = ((0, 1, 2), 400) if quick else ((0, 1, 2, 3, 4), 1_000)
    tasks = {seed: builtin_task(labelled=LABELS_B, unlabelled=UNLABELLED, seed=10 + seed) for seed in seeds}
    with tempfile.TemporaryDirectory() as cache:
        def student_side(arm: str) -> Callable:
            def train(rate: float, seed: int):
                task = tasks[seed]
                student = new_classifier(task.tokenizer, task.label_names, 2, 64, seed=seed)
                if arm == "scratch":
                    stage, data, guide = soft_targets.no_teacher(steps, learning_rate=rate), task["train"], None
                else:
                    data = task["train" if arm == "kd_same" else "transfer"]
                    stage = soft_targets.with_teacher(steps, labelled=arm == "kd_same", learning_rate=rate)
                    guide = teacher
                distill(student, guide, data, stage, seed=seed, cache=cache, runtime=QUIET)
                return student
            return train

        arms = {arm: tuned(student_side(arm), STUDENT_RATES, seeds, seeds[:1], tasks[0]["validation"], test)
                for arm in ("scratch", "kd_same", "kd_transfer")}
    print(f"\n(b) a student of 2 layers x 64, {steps} steps of 64, {len(seeds)} seeds; {LABELS_B:,} labelled texts, "
          f"{UNLABELLED:,} unlabelled")
    before = None
    for arm, (rate, accuracies) in arms.items():
        figures |= {arm: statistics.fmean(accuracies), f"{arm}_se": standard_error(accuracies)}
        line = f"    {arm:<14} {figures[arm]:.4f} +- {figures[f'{arm}_se']:.4f} (s.e.)   learning rate {rate:g}"
        if before is not None:
            steps_up = [b - a for a, b in zip(before, accuracies, strict=True)]
            figures |= {f"{arm}_step": statistics.fmean(steps_up), f"{arm}_step_se": standard_error(steps_up)}
            line += f"   step {100 * figures[f'{arm}_step']:+.1f} points = " \
                    f"{figures[f'{arm}_step'] / figures[f'{arm}_step_se']:.1f} s.e. (wanted: above 2)"
        print(line)
        before = accuracies

    figures["seconds"] = time.perf_counter() - began
    print(f"\n{figures['seconds'] / 60:.1f} minutes, {torch.get_num_threads()} threads")
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
