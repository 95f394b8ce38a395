"""How the shipped teachers are made: BERT's recipe on the built-in world.

Devlin, Chang, Lee, Toutanova 2019 (arXiv 1810.04805): first pretrain on unlabelled text by predicting
masked words (section 3.1), then add a classifier and fine-tune everything on labels (section 3.2). MobileBERT's
teacher, IB-BERT, is trained in the same way.

Departures at this size, each with its reason:

* no next-sentence task: a review is one text, and later work found the task of little use;
* masked words are drawn with odds count^-0.7 as in DistilBERT's code, and are 20% of the tokens: the
  polarity of a rare adjective is what pretraining has to find, and "the" is not worth a guess;
* no dropout: texts are drawn without end, so nothing is seen often enough to be learnt by heart;
* a learning rate of 2e-3 and 6,000 steps: for the first 3,000 or so the network stays on a plateau where it knows
  grammar and topics but has not noticed moods, and at 1e-3 for longer.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

from ..data.tasks import Task, builtin_task
from ..errors import KdlabError
from ..loop import Run, Stage, distill
from ..models.architectures import ib_bert_config
from ..models.building import classifier_from, new_classifier, new_masked_lm, new_model
from ..terms import HardLabels, MaskedLM, Objective
from ..worlds.corpus import World
from .common import masking_of, texts_of

LAYERS, WIDTH = 4, 128
TEXTS = 150_000             # of each kind: unlabelled for pretraining, labelled for fine-tuning
ARCHITECTURES = ("bert", "ib-bert")


def new_teacher(task: Task, architecture: str = "bert", seed: int = 0, layers: int = LAYERS, width: int = WIDTH,
                heads: int | None = None, dropout: float = 0.0) -> PreTrainedModel:
    """A masked language model to be pretrained: BERT, 4 x 128 unless given, or IB-BERT, as many blocks, half as wide
    between them as within."""
    if architecture not in ARCHITECTURES:
        raise KdlabError(f"there is no architecture '{architecture}'; take one of {', '.join(ARCHITECTURES)}")
    if architecture == "bert":
        return new_masked_lm(task.tokenizer, layers, width, heads, dropout, seed)
    if width % 8:
        raise KdlabError(f"an IB-BERT of width {width} cannot be built; take a width that 8 divides")
    config = ib_bert_config(
        vocab_size=len(task.tokenizer), max_position_embeddings=task.tokenizer.model_max_length, type_vocab_size=1,
        pad_token_id=task.tokenizer.pad_token_id, num_hidden_layers=layers, embedding_size=width // 4,
        hidden_size=width // 2, intra_bottleneck_size=width, intermediate_size=4 * width, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout)
    return new_model(config, AutoModelForMaskedLM, seed)


def pretrain(task: Task, steps: int = 6_000, model: PreTrainedModel | None = None, learning_rate: float = 2e-3,
             seed: int = 0, batch_size: int = 64, **options) -> tuple[PreTrainedModel, Run]:
    """A masked language model, `new_teacher`'s unless given, pretrained on the task's transfer split, or where it has
    none on its training texts. `options` go to `distill`."""
    model = new_teacher(task, seed=seed) if model is None else model
    texts = texts_of(task)
    masking = masking_of(task, texts, {"rate": 0.2, "smoothing": 0.7})
    stage = Stage(Objective([MaskedLM()]), steps, batch_size=batch_size, learning_rate=learning_rate, transform=masking,
                  name="pretraining")
    return model, distill(model, None, texts, stage, seed=seed, **options)


def fine_tune(task: Task, pretrained: PreTrainedModel | None, steps: int = 2_500, learning_rate: float = 5e-4,
              batch_size: int = 64, dropout: float | None = None, seed: int = 0,
              **options) -> tuple[PreTrainedModel, Run]:
    """A classifier fine-tuned on the task's labelled train split: from `pretrained`, or a 4 x 128 BERT from scratch.

    dropout: another one than the model has, for few labels.
    """
    if pretrained is None:
        model = new_classifier(task.tokenizer, task.label_names, LAYERS, WIDTH, dropout=0.0, seed=seed)
    else:
        model = classifier_from(pretrained, task.label_names, seed)
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    stage = Stage(Objective([HardLabels()]), steps, batch_size=batch_size, learning_rate=learning_rate,
                  name="fine-tuning")
    return model, distill(model, None, task["train"], stage, seed=seed, **options)


def make_teacher(world: str | Path | World = "restaurant", texts: int = TEXTS, pretraining_steps: int = 6_000,
                 fine_tuning_steps: int = 2_500, architecture: str = "bert", seed: int = 0,
                 **options) -> tuple[PreTrainedModel, PreTrainedModel, Task]:
    """A pretrained model of a world, the teacher fine-tuned from it, and the task that both were made for."""
    task = builtin_task(world, labelled=texts, unlabelled=texts, seed=seed)
    pretrained, _ = pretrain(task, pretraining_steps, new_teacher(task, architecture, seed), seed=seed, **options)
    teacher, _ = fine_tune(task, pretrained, fine_tuning_steps, seed=seed, **options)
    return pretrained, teacher, task
