"""How many examples a second does kdlab distil, beside a plain loop, the Trainer, TextBrewer and torchdistill?

The same teacher, student, SST-2 sentences, epochs, batch size, optimiser and learning rate for all; the systems take
turns, A B C A B C, in one process, and each is timed from a fresh student to a trained one, whatever it prepares
included (kdlab: filling its teacher cache). Three kinds of work:

  soft_targets  soft targets at T = 2, teacher 6 x 256, student 2 x 128
  intermediate  hidden states and attention of the same two (TinyBERT's intermediate step)
  mlm           masked words with DistilBERT's three losses, student 2 x 256

A row counts if its students end as good as kdlab's: within a point of agreement with the teacher on held-out texts, or
better. Agreement: how often both answer alike; of `intermediate`, the part of the teacher's hidden states that is
explained; of `mlm`, the overlap of the two distributions, sum_v min(p_v, q_v), mean over masked words. `KIND_ratio`
is against the best peer that counts; if none does, against the best of all, as `KIND_ratio_of_all` is in any case.
"kdlab, masked once" hides the same words in every epoch, which the others do not, so that a cache can keep the
teacher's distributions; it has a ratio of its own, `mlm_masked_once_ratio`.

    python benchmarks/speed.py [--quick] [--kinds KIND ...] [--texts N] [--json FILE]

The peers are in benchmarks/requirements.txt; one that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("GOMP_SPINCOUNT", "4000")     # as kdlab does, if it is imported before torch

import peers  # first: it makes torchvision importable, which transformers looks for
import torch
from arms import SST2
from datasets import Dataset
from jobs import RUNS
from peers import Work
from torch import nn
from transformers import PreTrainedModel

from kdlab.data.batches import Rows, in_order
from kdlab.data.masking import Masking, mask_once
from kdlab.data.tasks import Task, file_task
from kdlab.engine.run import Runtime
from kdlab.loop import Stage, distill
from kdlab.models import load_classifier, load_masked_lm, new_classifier, new_masked_lm, save
from kdlab.models.tracing import trace, trace_teacher
from kdlab.study import metrics
from kdlab.terms import AttentionScores, HardLabels, HiddenCosine, HiddenStates, MaskedLM, Objective, SoftTargets

KINDS = ("soft_targets", "intermediate", "mlm")
HEADS = 8
EPOCHS, BATCH, RATE = 3, 32, 5e-4
# With --quick, and in full. Together with the teachers the former takes less than ten minutes on two cores.
TEXTS = {True: {"soft_targets": 1_000, "intermediate": 500, "mlm": 300},
         False: {"soft_targets": 6_000, "intermediate": 3_000, "mlm": 1_500}}
TEACHER_STEPS, ROUNDS, HELD_OUT = {True: 300, False: 2_000}, {True: 2, False: 3}, {True: 1_000, False: 4_000}
MAPPED = ((1, 3), (2, 6))
POINT = 0.01
ONCE = "kdlab, masked once"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--texts", type=int, help="so many sentences, whatever the kind")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    most = max(TEXTS[False].values())       # what comes after them is the teachers'
    if options.texts and not BATCH <= options.texts <= most:
        parser.error(f"--texts is {options.texts}; give {BATCH} to {most:,}")
    figures = {}
    others = {name: run for name, run in peers.SYSTEMS.items() if installed(name)}
    systems = {"kdlab": with_kdlab, ONCE: masked_once} | others
    for kind in options.kinds:
        texts, rows = options.texts or TEXTS[options.quick][kind], {name: [] for name in systems}
        for number in range(ROUNDS[options.quick]):
            for name, run in systems.items():
                try:
                    rows[name].append(measured(run, kind, texts, number, options.quick))
                except NotImplementedError:
                    continue
                print(f"{kind}, round {number + 1}, {name}: {rows[name][-1][0]:.0f} examples a second, "
                      f"{rows[name][-1][1]:.4f}", file=sys.stderr, flush=True)
        figures |= table(kind, {name: values for name, values in rows.items() if values}, texts)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def installed(name: str) -> bool:
    package = {"TextBrewer": "textbrewer", "torchdistill": "torchdistill"}.get(name.split(",")[0])
    try:
        if package:
            __import__(package)
        return True
    except ImportError:
        print(f"{name} is not installed here and left out; see benchmarks/requirements.txt")
        return False


def measured(run: Callable[[Work], nn.Module | None], kind: str, texts: int, seed: int,
             quick: bool) -> tuple[float, float]:
    """Examples a second, and how close the student came to the teacher on held-out texts."""
    task, teacher = sst2(), teacher_of(kind, quick)
    if kind == "mlm":
        student = every_third_layer(teacher)
    else:
        student = new_classifier(task.tokenizer, task.label_names, 2, teacher.config.hidden_size // 2, HEADS, seed=seed)
    data = task["train"].select(range(texts))
    work = Work(kind, teacher, student, data, task.tokenizer, EPOCHS, BATCH, RATE, seed)
    gc.collect()
    began = time.perf_counter()
    projection = run(work)
    seconds = time.perf_counter() - began
    return EPOCHS * texts / seconds, agreement(replace(work, data=held_out(quick)), projection)


def every_third_layer(teacher: PreTrainedModel) -> PreTrainedModel:
    """A BERT of two layers that starts as the third and the sixth of its teacher, as DistilBERT would: from scratch it
    would learn next to nothing in so few steps, and there would be no agreement to compare."""
    student = new_masked_lm(sst2().tokenizer, 2, teacher.config.hidden_size, HEADS)
    weights = {name: value for name, value in teacher.state_dict().items() if ".layer." not in name}
    for ours, theirs in ((0, 2), (1, 5)):
        part = f"bert.encoder.layer.{theirs}."
        weights |= {name.replace(part, f"bert.encoder.layer.{ours}."): value
                    for name, value in teacher.state_dict().items() if name.startswith(part)}
    student.load_state_dict(weights)
    return student


def with_kdlab(work: Work, once: bool = False) -> nn.Module | None:
    terms, more = {
        "soft_targets": lambda: ([SoftTargets(1.0, work.T)], {}),
        "intermediate": lambda: ([HiddenStates(((0, 0), *MAPPED), widths=widths(work)), AttentionScores(MAPPED)], {}),
        "mlm": lambda: ([SoftTargets(5.0, work.T), MaskedLM(2.0), HiddenCosine(((2, 6),), 1.0)],
                        {"transform": Masking(work.tokenizer, Rows(work.data, 0), smoothing=0.0)}),
    }[work.kind]()
    stage = Stage(Objective(terms), work.epochs * math.ceil(len(work.data) / work.batch_size), work.batch_size,
                  work.learning_rate, warmup=0.0, decay=False, clip=math.inf, **more)
    if once:
        work = replace(work, data=mask_once(work.data, stage.transform, seed=work.seed))
        stage.transform = None
    with tempfile.TemporaryDirectory() as folder:
        distill(work.student, work.teacher, work.data, stage, seed=work.seed, cache=folder,
                runtime=Runtime(precision="auto", progress=False))
    return terms[0].projection if work.kind == "intermediate" else None


def masked_once(work: Work) -> None:
    if work.kind != "mlm":
        raise NotImplementedError("no words are masked here")
    with_kdlab(work, once=True)


def widths(work: Work) -> tuple[int, int]:
    return work.student.config.hidden_size, work.teacher.config.hidden_size


@torch.no_grad()
def agreement(work: Work, projection: nn.Module | None) -> float:
    """On work.data: how often both give the same answer; for a language model the overlap of their distributions at
    masked words; for the intermediate step the part of the variance of the teacher's last hidden states that the
    student's, projected, explain."""
    work.student.eval()
    if work.kind == "soft_targets":
        return metrics.fidelity(*(metrics.predict(model, work.data) for model in (work.student, work.teacher)))
    rows, same, left, spread = Rows(work.data, 0), [], 0.0, 0.0
    masking = Masking(work.tokenizer, rows, smoothing=0.0)
    torch.manual_seed(0)
    for batch in in_order(rows):
        if work.kind == "mlm":
            batch = masking(batch)
            batch["places"] = batch["mlm_labels"] != -100
            q, p = (trace(model, batch).logits.softmax(-1) for model in (work.student, work.teacher))
            same += torch.minimum(p, q).sum(-1).tolist()
        else:
            real = batch["attention_mask"].bool()
            ours, theirs = (see(model, batch, ("hidden_states",)).hidden_states[-1][real]
                            for see, model in ((trace, work.student), (trace_teacher, work.teacher)))
            left += (projection(ours) - theirs).square().sum().item()
            spread += (theirs - theirs.mean(dim=0)).square().sum().item()
    return statistics.fmean(same) if work.kind == "mlm" else 1 - left / spread


def table(kind: str, rows: dict[str, list[tuple[float, float]]], texts: int) -> dict[str, float]:
    """Print a kind's table; returns its figures."""
    quality = {name: statistics.fmean(q for _, q in values) for name, values in rows.items()}
    print(f"\n{kind}: {texts:,} sentences, {EPOCHS} epochs, batches of {BATCH}, {len(rows['kdlab'])} rounds")
    print(f"{'system':<20}{'examples/s':>12}{'kdlab is faster by':>28}{'agreement':>12}")
    figures, ratios = {}, {}
    for name, values in rows.items():
        speed = statistics.median(s for s, _ in values)
        each = [one[0] / s for one, (s, _) in zip(rows["kdlab"], values, strict=True)]
        counts, ours = quality[name] >= quality["kdlab"] - POINT, name in ("kdlab", ONCE)
        figures[f"{kind}_{name.lower().replace(', ', '_').replace(' ', '_')}_examples_per_second"] = speed
        spread = f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" if not ours else ""
        print(f"{name:<20}{speed:>12.0f}{spread:>28}{quality[name]:>12.4f}{'' if counts else '  does not count'}")
        if not ours:
            ratios[name] = statistics.median(each), counts
    for what, among in (("that counts", [name for name, (_, counts) in ratios.items() if counts]),
                        ("of all", list(ratios))):
        if among:
            best = min(among, key=lambda name: ratios[name][0])
            figures[f"{kind}_ratio" + ("" if what == "that counts" else "_of_all")] = ratios[best][0]
            print(f"best peer {what}: {best}, {ratios[best][0]:.2f}")
    if ONCE in rows and ratios:
        best = min(ratios, key=lambda name: ratios[name][0])
        each = [one[0] / s for one, (s, _) in zip(rows[ONCE], rows[best], strict=True)]
        if quality[ONCE] >= quality["kdlab"] - POINT:
            figures[f"{kind}_masked_once_ratio"] = statistics.median(each)
        print(f"{ONCE}, against {best}: {statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})")
    figures.setdefault(f"{kind}_ratio", figures.get(f"{kind}_ratio_of_all", math.nan))      # none counts
    return figures


@cache
def sst2() -> Task:
    return file_task(SST2 / "train.tsv", SST2 / "dev.tsv", "sentence", "label")


def held_out(quick: bool) -> Dataset:
    rows = sst2()["train"]
    return rows.select(range(len(rows) - HELD_OUT[quick], len(rows)))


@cache
def teacher_of(kind: str, quick: bool) -> PreTrainedModel:
    """6 x 256, trained once on sentences that are neither distilled from nor held out; kept in runs/speed."""
    task, name = sst2(), "bert" if kind == "mlm" else "classifier"
    vocabulary = sha256(repr(sorted(task.tokenizer.get_vocab().items())).encode()).hexdigest()[:8]
    folder = RUNS / "speed" / f"{name}-{TEACHER_STEPS[quick]}-{vocabulary}"
    if not folder.exists():
        print(f"training the teacher in {folder} once", file=sys.stderr, flush=True)
        rows = task["train"]
        rows = rows.select(range(max(TEXTS[False].values()), len(rows) - HELD_OUT[False]))
        if kind == "mlm":
            model, terms = new_masked_lm(task.tokenizer, 6, 256, HEADS), [MaskedLM()]
            more = {"transform": Masking(task.tokenizer, Rows(rows, 0))}
        else:
            model, terms, more = new_classifier(task.tokenizer, task.label_names, 6, 256, HEADS), [HardLabels()], {}
        stage = Stage(Objective(terms), TEACHER_STEPS[quick], 64, 5e-4, **more)
        distill(model, None, rows, stage, runtime=Runtime(precision="auto", progress=False))
        save(model, task.tokenizer, folder)
    return (load_masked_lm if kind == "mlm" else load_classifier)(folder)[0]


if __name__ == "__main__":
    main()
