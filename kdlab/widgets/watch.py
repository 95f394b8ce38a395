"""Watch it learn: replay a student's distribution on chosen texts over training. Lessons 00 and 01."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from .. import losses
from ..distill import Run
from ..errors import KdlabError
from ..plots import Moment, draw_moment, frame_moment
from .picture import Picture, PictureWidget


class WatchItLearn(PictureWidget):
    """A slider through a run's recorded moments, beside the curves of its loss terms.

    run: from `distill(..., probes=...)`; texts: the probes' texts, in order; teacher_logits (probes, C)
    and truth (probes, C) are shown where given.
    """

    def __init__(self, run: Run, texts: Sequence[str], labels: Sequence[str],
                 teacher_logits: Tensor | None = None, truth=None) -> None:
        if not run.probe_steps:
            raise KdlabError("this run recorded no probes; call distill(..., probes=task.encode(texts))")
        if len(texts) != len(run.probe_logits[0]):
            raise KdlabError(f"{len(texts)} texts were given for {len(run.probe_logits[0])} probes; give the "
                             "texts that were encoded as probes, in the same order")
        self.run, self.labels = run, tuple(labels)
        self.teacher_logits = teacher_logits
        self.truth = None if truth is None else torch.as_tensor(truth).double()
        self.curves = {k: v for k, v in run.history.items() if k not in ("step", "stage", "loss")}
        style, wide = {"description_width": "6.5em"}, ipywidgets.Layout(width="98%")
        self.text = ipywidgets.Dropdown(options=[(t, i) for i, t in enumerate(texts)], description="text",
                                        style=style, layout=wide)
        last = len(run.probe_steps) - 1
        self.moment = ipywidgets.SelectionSlider(
            options=[(str(step), i) for i, step in enumerate(run.probe_steps)], value=0, description="step",
            style=style, layout=ipywidgets.Layout(width="75%"))
        self.play = ipywidgets.Play(min=0, max=last, interval=150, description="replay the training")
        self.play.observe(lambda change: setattr(self.moment, "index", change["new"]), "value")
        super().__init__(Picture(frame_moment, draw_moment), [self.text, ipywidgets.HBox([self.play, self.moment])])
        for control in (self.text, self.moment):
            control.observe(self.refresh, "value")

    def state(self) -> Moment:
        return self._at(self.text.value, self.moment.value)

    def static_state(self) -> Moment:
        """The end of the training: a page without a kernel cannot play."""
        return self._at(self.text.value, len(self.run.probe_steps) - 1)

    def _at(self, text: int, moment: int) -> Moment:
        q = self.run.probe_logits[moment][text].double()
        if not q.isfinite().all():
            raise KdlabError(f"the student's logits after step {self.run.probe_steps[moment]} are not finite")
        p = None if self.teacher_logits is None else self.teacher_logits[text].double()
        truth = None if self.truth is None else self.truth[text]
        numbers = {}
        if p is not None:
            numbers["KL(p||q)"] = losses.kl_divergence(p, q).item()
        if truth is not None:
            numbers["KL(truth||q)"] = losses.kl_divergence(truth.log(), q).item()
        if p is not None and truth is not None:
            numbers["KL(truth||p)"] = losses.kl_divergence(truth.log(), p).item()
        return Moment(self.labels, self.run.probe_steps[moment], None if p is None else p.softmax(-1).numpy(),
                      q.softmax(-1).numpy(), None if truth is None else truth.numpy(), self.curves, numbers)
