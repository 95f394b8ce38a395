"""Watch it learn: replay a student's distribution on chosen texts over training. Lessons 00, 01 and 03 to 05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import losses
from ..data.batches import Rows
from ..data.tasks import encode_texts
from ..errors import KdlabError
from ..loop import Run
from ..plots import Moment, draw_moment, frame_moment
from ..study.metrics import predict
from ..worlds.corpus import World
from .controls import Player, on_change, text_picker
from .picture import Picture, PictureWidget
from .temperature import posterior_of

TYPED_KEPT = 8
SECONDS_A_MOMENT = 0.15     # of the replay


class WatchItLearn(PictureWidget):
    """A slider through a run's recorded moments, beside the curves of its loss terms.

    run: from `distill(..., probes=...)`; texts: the probes' texts, in order; teacher_logits (probes, C) and truth
    (probes, C) are shown where given. With the `student` and its `tokenizer`, and a run that kept its weights
    (`distill(..., keep_weights=True)`), a text may also be typed: the student reads it as it was at each moment. The
    `teacher` and the `world`, where given, say what they make of any text.
    """

    def __init__(self, run: Run, texts: Sequence[str], labels: Sequence[str], teacher_logits: Tensor | None = None,
                 truth=None, *, student: PreTrainedModel | None = None,
                 tokenizer: PreTrainedTokenizerBase | None = None, teacher: PreTrainedModel | None = None,
                 world: World | None = None) -> None:
        if not run.probe_steps:
            raise KdlabError("this run recorded no probes; call distill(..., probes=task.encode(texts))")
        if len(texts) != len(run.probe_logits[0]):
            raise KdlabError(f"{len(texts)} texts were given for {len(run.probe_logits[0])} probes; give the "
                             "texts that were encoded as probes, in the same order")
        typing = student is not None and tokenizer is not None
        if typing and len(run.weights) != len(run.probe_steps):
            raise KdlabError(f"the run kept its weights at {len(run.weights)} of {len(run.probe_steps)} moments, so "
                             "a typed text cannot be followed through it; train in one go with "
                             "distill(..., keep_weights=True), or leave the student out here")
        self.run, self.labels = run, tuple(labels)
        if teacher_logits is None and teacher is not None and tokenizer is not None:
            teacher_logits = predict(teacher, encode_texts(texts, tokenizer))
        if truth is None and world is not None:
            truth = world.posteriors(texts)
        truth = None if truth is None else torch.as_tensor(truth)
        logits = torch.stack(run.probe_logits)          # (moments, probes, C)
        self.known = {text: (logits[:, i], None if teacher_logits is None else teacher_logits[i],
                             None if truth is None else truth[i], "") for i, text in enumerate(texts)}
        self.typed: dict[str, tuple] = {}
        self.student, self.tokenizer, self.teacher, self.world = student, tokenizer, teacher, world
        self.curves = {k: v for k, v in run.history.items() if k not in ("step", "stage", "loss")}
        style = {"description_width": "6.5em"}
        self.text = text_picker(texts, typing)
        self.moment = ipywidgets.SelectionSlider(
            options=[(str(step), i) for i, step in enumerate(run.probe_steps)], value=0, description="step",
            style=style, readout=False, layout=ipywidgets.Layout(width="auto", flex="1 1 auto"))
        self.step = ipywidgets.BoundedIntText(min=0, max=run.probe_steps[-1], description="step",
                                              style={"description_width": "0px"},
                                              layout=ipywidgets.Layout(width="6em", flex="0 0 auto"))
        self.play = Player("replay", self._begin, self._next, SECONDS_A_MOMENT)
        super().__init__(Picture(frame_moment, draw_moment),
                         [self.text, ipywidgets.HBox([self.play, self.moment, self.step],
                                                     layout=ipywidgets.Layout(width="98%"))])
        on_change(self.refresh, self.text, self.moment)
        self.moment.observe(lambda _: setattr(self.step, "value", run.probe_steps[self.moment.value]), "value")
        self.step.observe(self._typed_step, "value")

    def _typed_step(self, change) -> None:
        """The recorded moment that is nearest to a typed step."""
        steps = self.run.probe_steps
        if change["new"] != steps[self.moment.value]:
            self.moment.index = min(range(len(steps)), key=lambda i: abs(steps[i] - change["new"]))

    def _begin(self) -> None:
        """From the start again, if the replay has come to the end."""
        if self.moment.index == len(self.run.probe_steps) - 1:
            self.moment.index = 0

    def _next(self) -> bool:
        """One moment on; false at the end."""
        if self.moment.index < len(self.run.probe_steps) - 1:
            self.moment.index += 1
        return self.moment.index < len(self.run.probe_steps) - 1

    def state(self) -> Moment:
        return self._at(self.moment.value)

    def static_state(self) -> Moment:
        """The end of the training: a page without a kernel cannot play."""
        return self._at(len(self.run.probe_steps) - 1)

    def _at(self, number: int) -> Moment:
        text = self.text.value
        q_logits, p_logits, truth, note = self.known.get(text) or self._read(text)
        return moment(self.labels, self.run.probe_steps[number], q_logits[number], p_logits, truth, self.curves, note)

    def _read(self, text: str) -> tuple:
        """What the student made of a typed text at each moment, (moments, C), the teacher's logits, the truth, and a
        note."""
        if not text.strip():
            raise KdlabError("the text is empty; pick one from the list or type a few words")
        if text not in self.typed:
            rows = Rows(encode_texts([text], self.tokenizer), self.tokenizer.pad_token_id)
            q_logits = torch.cat([predict(_Earlier(self.student, weights), rows) for weights in self.run.weights])
            while len(self.typed) >= TYPED_KEPT:
                del self.typed[next(iter(self.typed))]
            self.typed[text] = (q_logits, None if self.teacher is None else predict(self.teacher, rows)[0],
                                *posterior_of(self.world, text))
        return self.typed[text]


class _Earlier(torch.nn.Module):
    """A model as it was when it had other weights; its own stay as they are."""

    def __init__(self, model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.weights = model, weights
        self.config, self.training = model.config, model.training       # who sets one back sets back the other

    def forward(self, **inputs):
        return functional_call(self.model, self.weights, (), inputs)


def moment(labels: tuple[str, ...], step: int, q_logits: Tensor, p_logits: Tensor | None, truth,
           curves: Mapping[str, Sequence[float]], note: str = "", total: int = 0) -> Moment:
    """The picture's state after `step` steps, for the logits (C,) of student and teacher and the truth (C,)."""
    q = q_logits.double()
    if not q.isfinite().all():
        raise KdlabError(f"the student's logits after step {step} are not finite")
    p = None if p_logits is None else p_logits.double()
    truth = None if truth is None else torch.as_tensor(truth).double()
    numbers = {}
    if p is not None:
        numbers["KL(p||q)"] = losses.kl_divergence(p, q).item()
    if truth is not None:
        numbers["KL(truth||q)"] = losses.kl_divergence(truth.log(), q).item()
    if p is not None and truth is not None:
        numbers["KL(truth||p)"] = losses.kl_divergence(truth.log(), p).item()
    return Moment(labels, step, None if p is None else p.softmax(-1).numpy(), q.softmax(-1).numpy(),
                  None if truth is None else truth.numpy(), curves, numbers, note, total)
