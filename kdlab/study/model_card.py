"""The model card of a distilled student: what it is, how it came about, what it is worth."""

from __future__ import annotations

from transformers import PreTrainedModel

from ..recipes import named
from ..recipes.common import phases
from .metrics import headline


def model_card(report: dict, student: PreTrainedModel) -> str:
    """Markdown with the header that the Hub reads, from the report of `kdlab.study.experiment`."""
    scores, costs, score = report["scores"], report["costs"], headline(report["scores"]["teacher"])

    def told(name: str) -> str:
        one = scores[name][score]
        return f"{one['mean']:.4f}" + (f" ± {one['sd']:.4f}" if one["seeds"] > 1 else "")

    sizes = {name: costs["teacher" if name == "teacher" else "student"]["parameters"] for name in scores}
    rows = "\n".join(f"| {name} | {told(name)} | {sizes[name]:,} |" for name in scores)
    labels = "a score (regression)" if len(report["labels"]) == 1 else ", ".join(report["labels"])
    steps = next(run["steps"] for name, run in report["runs"].items() if name.startswith("student, with"))
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [knowledge-distillation, kdlab]
---

# A {type(student).__name__} distilled on {report['task']}

{student.config.num_hidden_layers} layers, {costs['student']['parameters']:,} parameters. Answers: {labels}.

Distilled with kdlab by {_method(report)}
from a teacher of {costs['teacher']['parameters']:,} parameters, on {report['train_rows']:,} training rows:
{steps:,} steps{_stages(report)}, texts cut at {report['tokens_for_cost']} tokens. This is the student of seed 0.

| model | {score} on {report['test_rows']:,} held-out rows | parameters |
|---|---|---|
{rows}

Students: mean ± standard deviation of {report['sizes']['seeds']} seed(s), all with the same steps. What the data say
about whom they serve and whom they may harm is for whoever publishes this model to write here.
"""


def _method(report: dict) -> str:
    """The paper, as the first sentence of its recipe names it."""
    if report["recipe"] == "soft-targets":
        return "soft targets and hard labels (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)"
    paper = named(report["recipe"]).__doc__.split("), ")[0] + ")"
    return f"the recipe of {paper}, with {'its' if report['paper'] else 'miniature'} settings,"


def _stages(report: dict) -> str:
    if report["recipe"] == "soft-targets":
        return f" of {report['sizes']['batch_size']} texts, T = {report['sizes']['T']:g}"
    sizes = [f"{phase['batch_size']} ({name})" for name, phase in phases(report["settings"]).items()]
    return f" in batches of {', '.join(sizes)} texts"
