"""How the shipped teachers are made: BERT's recipe on the built-in world.

Devlin, Chang, Lee, Toutanova 2019 (arXiv 1810.04805): first pretrain on unlabelled text by predicting
masked words (section 3.1), then add a classifier and fine-tune everything on labels (section 3.2).

Departures at this size, each with its reason:

* no next-sentence task: a review is one text, and later work found the task of little use;
* masked words are drawn with odds count^-0.7 as in DistilBERT's code, and are 20% of the tokens: the
  polarity of a rare adjective is what pretraining has to find, and "the" is not worth a guess;
* no dropout: texts are drawn without end, so nothing is seen often enough to be learnt by heart;
* a learning rate of 2e-3: at 1e-3 the network spends the whole run on a plateau where it knows
  grammar and topics but has not noticed moods.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from ..batches import Rows
from ..corpus import World
from ..distill import Run, Stage, distill
from ..masking import Masking
from ..models import give_body, new_classifier, new_masked_lm
from ..objectives import HardLabels, MaskedLM, Objective
from ..tasks import Task, builtin_task

LAYERS, WIDTH = 4, 128
TEXTS = 150_000             # of each kind: unlabelled for pretraining, labelled for fine-tuning


def pretrain(task: Task, steps: int = 3_000, layers: int = LAYERS, width: int = WIDTH, seed: int = 0,
             **options) -> tuple[PreTrainedModel, Run]:
    """A masked language model pretrained on the task's transfer split. `options` go to `distill`."""
    model = new_masked_lm(task.tokenizer, layers, width, dropout=0.0, seed=seed)
    texts = task["transfer"]
    masking = Masking(task.tokenizer, Rows(texts, task.tokenizer.pad_token_id), rate=0.2, smoothing=0.7)
    stage = Stage(Objective([MaskedLM()]), steps, batch_size=64, learning_rate=2e-3, transform=masking,
                  name="pretraining")
    return model, distill(model, texts, stage, seed=seed, **options)


def fine_tune(task: Task, pretrained: PreTrainedModel | None, steps: int = 2_500, learning_rate: float = 5e-4,
              layers: int = LAYERS, width: int = WIDTH, batch_size: int = 64, dropout: float = 0.0,
              seed: int = 0, **options) -> tuple[PreTrainedModel, Run]:
    """A classifier fine-tuned on the task's labelled train split, from `pretrained` or from scratch."""
    model = new_classifier(task.tokenizer, task.label_names, layers, width, dropout=dropout, seed=seed)
    if pretrained is not None:
        give_body(pretrained, model)
    stage = Stage(Objective([HardLabels()]), steps, batch_size=batch_size, learning_rate=learning_rate,
                  name="fine-tuning")
    return model, distill(model, task["train"], stage, seed=seed, **options)


def make_teacher(world: str | Path | World = "restaurant", texts: int = TEXTS, pretraining_steps: int = 3_000,
                 fine_tuning_steps: int = 2_500, seed: int = 0, **options) -> tuple[PreTrainedModel, Task]:
    """A pretrained and fine-tuned teacher of a world, and the task that it was made for."""
    task = builtin_task(world, labelled=texts, unlabelled=texts, seed=seed)
    pretrained, _ = pretrain(task, pretraining_steps, seed=seed, **options)
    teacher, _ = fine_tune(task, pretrained, fine_tuning_steps, seed=seed, **options)
    return teacher, task
