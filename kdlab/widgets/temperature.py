"""The temperature explorer: teacher, student and truth on one text while T moves. Lesson 01."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .. import losses
from ..data.batches import Rows
from ..data.tasks import encode_texts
from ..errors import KdlabError
from ..plots import Tempered, draw_tempered, frame_tempered
from ..study.metrics import predict
from ..worlds.corpus import World
from .controls import on_change, text_picker, with_field
from .picture import Picture, PictureWidget

LOGIT_LIMIT = 10.0


class TemperatureExplorer(PictureWidget):
    """Pick or type a text, or set the logits by hand; move T; see p, q, entropy, KL and gradient move.

    teacher, student: classifiers with the same labels; tokenizer: theirs; texts: to choose from;
    world: tells the true posterior of a text of its grammar. The gradient is (q - p) / T, that of the
    soft-target loss without T^2 (Hinton et al. 2015, eq. 2).
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, tokenizer: PreTrainedTokenizerBase,
                 texts: Sequence[str], world: World | None = None, T: float = 1.0) -> None:
        self.models, self.tokenizer, self.world = (teacher, student), tokenizer, world
        self.labels = tuple(teacher.config.id2label.values())
        self.seen: tuple[str, tuple[Tensor, Tensor]] | None = None
        style = {"description_width": "6.5em"}
        self.text = text_picker(texts)
        self.by_hand = ipywidgets.Checkbox(value=False, description="set the logits by hand", indent=False)
        self.T = ipywidgets.FloatLogSlider(value=T, base=2, min=-3, max=4.5, step=1 / 16, style=style,
                                           description="temperature")
        self.logits = {name: [ipywidgets.FloatSlider(value=0, min=-LOGIT_LIMIT, max=LOGIT_LIMIT, step=0.1,
                                                     description=label, style=style)
                              for label in self.labels] for name in ("teacher", "student")}
        on_change(self.refresh, self.T, self.text, *self.logits["teacher"], *self.logits["student"])
        on_change(self._switch, self.by_hand)
        columns = [ipywidgets.VBox([ipywidgets.HTML(f"<b>{name} logits</b>"), *map(with_field, sliders)],
                                   layout=ipywidgets.Layout(width="50%"))
                   for name, sliders in self.logits.items()]
        self.hands = ipywidgets.HBox(columns, layout=ipywidgets.Layout(display="none"))
        super().__init__(Picture(frame_tempered, draw_tempered),
                         [self.text, self.by_hand, self.hands, with_field(self.T)])

    def _switch(self, change) -> None:
        """Start from the logits of the text, so that the picture does not jump."""
        self.hands.layout.display = "" if change["new"] else "none"
        if change["new"]:
            for sliders, values in zip(self.logits.values(), self._of_text(), strict=True):
                for slider, value in zip(sliders, values.tolist(), strict=True):
                    slider.value = max(-LOGIT_LIMIT, min(LOGIT_LIMIT, round(value, 1)))
        self.text.disabled = change["new"]
        self.refresh()

    def _of_text(self) -> tuple[Tensor, Tensor]:
        text = self.text.value
        if not text.strip():
            raise KdlabError("the text is empty; pick one from the list or type a few words")
        if self.seen is None or self.seen[0] != text:
            rows = Rows(encode_texts([text], self.tokenizer), self.tokenizer.pad_token_id)
            self.seen = text, tuple(predict(model, rows)[0] for model in self.models)
        return self.seen[1]

    def state(self) -> Tempered:
        if self.by_hand.value:
            p_logits, q_logits = (torch.tensor([s.value for s in sliders]) for sliders in self.logits.values())
            truth, note = None, ""
        else:
            p_logits, q_logits = self._of_text()
            truth, note = posterior_of(self.world, self.text.value)
        return tempered(self.labels, p_logits, q_logits, truth, self.T.value, note)


def tempered(labels: tuple[str, ...], p_logits: Tensor, q_logits: Tensor, truth, T: float,
             note: str = "") -> Tempered:
    """The picture's state for teacher and student logits (C,) at temperature T."""
    if not (p_logits.isfinite().all() and q_logits.isfinite().all()):
        raise KdlabError("a logit is not a finite number, so there is no distribution to show; look at the "
                         "model's weights")
    p, q = (logits.double() / T for logits in (p_logits, q_logits))
    numbers = {"H(p)": losses.entropy(p).item(), "H(q)": losses.entropy(q).item(),
               "KL(p||q)": losses.kl_divergence(p, q).item(),
               "|gradient|": ((q.softmax(-1) - p.softmax(-1)) / T).norm().item()}
    return Tempered(labels, T, p.softmax(-1).numpy(), q.softmax(-1).numpy(), truth,
                    ((q.softmax(-1) - p.softmax(-1)) / T).numpy(), numbers, note)


def posterior_of(world: World | None, text: str) -> tuple:
    """The posterior, or None and why there is none: a learner may type anything."""
    try:
        return (world.posterior(text) if world else None), ""
    except KdlabError as error:
        return None, f"No truth is shown, and the models are guessing: {error}."
