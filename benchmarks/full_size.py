"""The three recipes at the papers' full size: a few steps each on real text, from folders as a Hub would give them.

No checkpoint can be fetched here, so the teachers are BERT-base and IB-BERT by their own configurations with random
weights, saved and loaded again. That shows that everything fits together, and what a step costs; nothing is learnt in
so few steps.

    python benchmarks/full_size.py TEXTS.tsv [--text COLUMN] [--steps N] [--quick] [--json FILE]

TEXTS has a column of texts and a column "label" (SST-2's train.tsv, say).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from transformers import AutoModelForSequenceClassification, BertConfig

from kdlab.data.augmentation import Augmenter
from kdlab.data.batches import Rows
from kdlab.data.masking import Masking
from kdlab.data.tasks import Task, file_task
from kdlab.engine.run import QUIET
from kdlab.loop import Run, distill
from kdlab.models import classifier_from, load_masked_lm, new_model, save
from kdlab.models.architectures import ib_bert_config, tinybert_config
from kdlab.models.layer_dropping import layer_drop
from kdlab.recipes import distilbert, mobilebert, tinybert
from kdlab.study import metrics

VOCABULARY = 30_522


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--text", default="text", help="name of the column of texts")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8, help="small, so that a laptop can take a step")
    parser.add_argument("--quick", action="store_true", help="one step of 4 texts")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.batch_size = 1, 4
    task = file_task(options.texts, options.texts, options.text, vocabulary=VOCABULARY)
    data, steps = task["train"], options.steps
    small = {"batch_size": options.batch_size}
    masking = Masking(task.tokenizer, Rows(data, task.tokenizer.pad_token_id))
    figures: dict[str, float] = {}

    def report(name: str, student, run: Run) -> None:
        seconds = run.report.seconds / run.steps
        losses = {k: v[-1] for k, v in run.history.items() if k not in ("step", "stage") and v[-1] is not None}
        if not all(math.isfinite(value) for value in losses.values()):
            raise SystemExit(f"{name}: a loss is not finite: {losses}")
        figures[f"{name}_seconds_per_step"] = seconds
        print(f"{name:<34}{metrics.parameters(student) / 1e6:>8.1f}M parameters{seconds:>7.2f} s a step   "
              + "  ".join(f"{k} {v:.3f}" for k, v in losses.items()), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        bert = _from_a_folder(BertConfig(vocab_size=VOCABULARY), task, Path(folder) / "bert-base")
        student = layer_drop(bert)
        stage = distilbert.general_stage(student, bert, Rows(data, 0), task.tokenizer, steps, **small)
        run = distill(student, bert, data, stage, runtime=QUIET)
        report("DistilBERT, general", student, run)
        fine_tuned = classifier_from(bert, task.label_names)
        student = classifier_from(student, task.label_names)
        run = distill(student, fine_tuned, data, distilbert.task_stage(steps, True, **small), runtime=QUIET)
        report("DistilBERT, task", student, run)

        student = new_model(_labelled(tinybert_config(4, 312, 1200), fine_tuned), AutoModelForSequenceClassification)
        run = distill(student, bert, data, tinybert.general_stage(student, bert, steps, **small), runtime=QUIET)
        report("TinyBERT-4, general", student, run)
        augmented = Augmenter(bert, task.tokenizer, copies=2)(data.select(range(4)))
        run = distill(student, fine_tuned, augmented, tinybert.task_stages(student, fine_tuned, steps, steps, **small),
                      runtime=QUIET)
        report("TinyBERT-4, task", student, run)
        del bert, fine_tuned

        config = ib_bert_config(vocab_size=VOCABULARY)
        ib_bert = _from_a_folder(config, task, Path(folder) / "ib-bert")
        student = mobilebert.new_student(ib_bert)
        plan = mobilebert.stages(student, "progressive", 24 * steps, steps, masking, **small)
        run = distill(student, ib_bert, data, [plan[0], plan[-2], plan[-1]], runtime=QUIET)
        report("MobileBERT, blocks 1, 24, then PD", student, run)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _from_a_folder(config, task: Task, folder: Path):
    """Random weights, through the same door as a downloaded checkpoint."""
    began = time.perf_counter()
    model, _ = load_masked_lm(save(new_model(config), task.tokenizer, folder))
    print(f"{folder.name}: {metrics.parameters(model) / 1e6:.1f}M parameters, made, saved and loaded in "
          f"{time.perf_counter() - began:.0f} s", flush=True)
    return model


def _labelled(config: BertConfig, like) -> BertConfig:
    config.id2label, config.label2id = like.config.id2label, like.config.label2id
    return config


if __name__ == "__main__":
    main()
