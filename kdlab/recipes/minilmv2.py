"""MiniLMv2: Wang, Bao, Huang, Dong, Wei 2021 (arXiv 2012.15828), any BERT made small by the relations in one layer.

Section 3: the vectors of one kind that a layer computes, its queries, its keys or its values, are joined over the
attention heads and split again into A_r relation heads of width d_r. How tokens relate to one another is then

    R = softmax(X X^T / sqrt(d_r)),   X = Q, K or V

and the student's last layer learns the relations of one teacher layer:

    L = sum over Q, K, V of  1/(A_r |x|) sum_a sum_t KL(R^T_{a,t} || R^S_{a,t})

A relation is a table over tokens, whatever the width, so neither widths nor numbers of heads need to agree, and
nothing is learned besides the student. It is distilled on plain, unmasked text from the pretrained teacher
("task-agnostic"), and then fine-tuned on a task as a BERT would be. Which teacher layer is best is a question that the
paper examines; ours is the last, as in the first MiniLM, unless `teacher_layer` names another.

`PAPER` says of each setting where it was read. The text of this paper's section on settings was not at hand: the
number of relation heads is that which PaddleNLP's port quotes from it, and what is marked "MiniLM" is its
predecessor's (Wang et al. 2020, arXiv 2002.10957, section 4.1), which it follows.

Departures at any size: weight decay exempts biases and norms. Those of the miniature stand in `MINIATURE`, each with
its reason.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from ..data.tasks import Task
from ..loop import Run, Stage, distill
from ..models.building import new_classifier
from ..terms import Objective, Relations
from .common import Settings, body_of, fields_of, fine_tuned, texts_of

KINDS = ("queries", "keys", "values")

PAPER: Settings = {
    "student": {"layers": 6, "width": 384},                 # one of the two widths of its students
    "relation_heads": 48,                                   # base-size teachers (64 for large ones), as the port says
    "teacher_layer": None,                                  # MiniLM: the last
    "general": {"steps": 400_000, "batch_size": 256, "learning_rate": 3e-4, "warmup": 0.01,     # MiniLM: 4,000 of
                "weight_decay": 0.01},                                                          # 400,000 steps
    "task": {"epochs": 3.0, "batch_size": 32, "learning_rate": 3e-5},                           # ours
}
MINIATURE: Settings = PAPER | {     # few steps, small batches, high rates: for minutes on a laptop and a narrow model
    "student": {"layers": 2, "width": 64},                  # half as deep and wide as the shipped teacher
    "relation_heads": 8,                                    # a number that divides 64 and the teacher's 128
    "general": PAPER["general"] | {"steps": 300, "batch_size": 64, "learning_rate": 3e-3, "warmup": 0.1},
    "task": PAPER["task"] | {"steps": 200, "batch_size": 64, "learning_rate": 3e-3},
}


def relations(student: PreTrainedModel, teacher: PreTrainedModel, heads: int, layer: int | None = None,
              kinds: tuple[str, ...] = KINDS) -> Objective:
    """L between the student's last layer and one of the teacher's, its last unless given; `kinds`, for ablations."""
    pair = ((student.config.num_hidden_layers, layer or teacher.config.num_hidden_layers),)
    return Objective([Relations(pair, of=kind, heads=heads) for kind in kinds])


def stages(student: PreTrainedModel, teacher: PreTrainedModel, settings: Settings, texts: int) -> list[Stage]:
    """The one stage of distillation, on so many texts; fine-tuning follows."""
    objective = relations(student, teacher, settings["relation_heads"], settings["teacher_layer"])
    return [Stage(objective, name="general distillation", **fields_of(settings["general"], texts))]


def student_for(task: Task, teacher: PreTrainedModel | None, pretrained: PreTrainedModel | None = None,
                settings: Settings = MINIATURE, seed: int = 0) -> PreTrainedModel:
    """A BERT with fresh weights; only its body is distilled."""
    return new_classifier(task.tokenizer, task.label_names, **settings["student"], seed=seed)


def recipe(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
           settings: Settings = MINIATURE, seed: int = 0, student: PreTrainedModel | None = None,
           say: Callable[[str], object] = print, **options) -> tuple[PreTrainedModel, Run]:
    """The paper from end to end (`kdlab.recipes` says what the arguments are)."""
    student = student_for(task, teacher, pretrained, settings, seed) if student is None else student
    body, texts = body_of(teacher, pretrained, "MiniLMv2", say), texts_of(task)
    first = distill(student, body, texts, stages(student, body, settings, len(texts)), seed=seed, **options)
    return fine_tuned(task, student, first, settings["task"], seed, **options)
