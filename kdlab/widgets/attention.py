"""Attention side by side: who looks at whom in teacher and student, head by head. Lesson 03."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .. import losses
from ..data.batches import Rows
from ..data.tasks import encode_texts
from ..errors import KdlabError
from ..models.layer_map import LayerMap, uniform
from ..models.tracing import Attention, trace_teacher
from ..plots.attention import KINDS, PANELS, SideBySide, draw_side_by_side, frame_side_by_side
from ..terms import AttentionScores
from .controls import on_change, text_picker, with_field
from .picture import Picture, PictureWidget

TEXTS_KEPT = 8


class AttentionSideBySide(PictureWidget):
    """Pick or type a text, a pair of layers and a head; see both models' attention, and the difference.

    teacher, student: models that `kdlab.models.tracing` can capture attention of, of any size, with the same number of
    heads
    and one tokenizer; texts: to choose from; layers: a layer map, uniform unless given. The numbers are the losses of
    `kdlab.losses` over the pairs of real tokens, for this head and as a term would have them, over all heads. Models
    are traced once a text; make a new widget for a student that has learnt since.

    Raises `KdlabError` for models whose heads differ in number or whose attention cannot be captured, and for a
    layer map that points outside them.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, tokenizer: PreTrainedTokenizerBase,
                 texts: Sequence[str], layers: LayerMap | None = None) -> None:
        ours, theirs = student.config, teacher.config
        layers = layers or uniform(ours.num_hidden_layers, theirs.num_hidden_layers)
        AttentionScores(layers).check(ours, theirs)     # what the loss refuses cannot be shown either
        if ours.vocab_size != theirs.vocab_size:
            raise KdlabError(f"the teacher's vocabulary has {theirs.vocab_size} tokens and the student's "
                             f"{ours.vocab_size}, so one tokenizer cannot serve both; give models that share one")
        self.models, self.tokenizer = (teacher, student), tokenizer
        self.seen: dict[str, tuple[tuple[str, ...], Tensor, list[tuple[Attention, ...]]]] = {}
        style = {"description_width": "6.5em"}
        self.text = text_picker(texts)
        self.pair = ipywidgets.Dropdown(
            options=[(f"student layer {m}, teacher layer {n}", (m, n)) for m, n in layers], value=tuple(layers[-1]),
            description="layers", style=style)
        self.head = ipywidgets.IntSlider(value=1, min=1, max=ours.num_attention_heads, description="head", style=style)
        self.kind = ipywidgets.ToggleButtons(options=list(KINDS), description="show", style=style)
        on_change(self.refresh, self.text, self.pair, self.head, self.kind)
        super().__init__(Picture(frame_side_by_side, draw_side_by_side, PANELS),
                         [self.text, ipywidgets.HBox([self.pair, with_field(self.head)]), self.kind])

    def state(self) -> SideBySide:
        tokens, mask, (theirs, ours) = self._traced(self.text.value)
        (m, n), head = self.pair.value, self.head.value
        teacher, student = theirs[n - 1].scores(), ours[m - 1].scores()
        return side_by_side(tokens, teacher, student, mask, (m, n), head, self.kind.value,
                            _unknown(tokens, self.tokenizer))

    def _traced(self, text: str) -> tuple[tuple[str, ...], Tensor, list[tuple[Attention, ...]]]:
        if not text.strip():
            raise KdlabError("the text is empty; pick one from the list or type a few words")
        if text not in self.seen:
            batch = Rows(encode_texts([text], self.tokenizer), self.tokenizer.pad_token_id or 0).batch([0])
            ids = batch["input_ids"][0].tolist()
            most = min(model.config.max_position_embeddings for model in self.models)
            if len(ids) > most:
                raise KdlabError(f"the text has {len(ids)} tokens and the models read at most {most}; shorten it")
            names = tuple(self.tokenizer.convert_ids_to_tokens(ids))
            traced = names, batch["attention_mask"], [_attention(model, batch) for model in self.models]
            while len(self.seen) >= TEXTS_KEPT:
                del self.seen[next(iter(self.seen))]
            self.seen[text] = traced
        return self.seen[text]


def side_by_side(tokens: tuple[str, ...], teacher: Tensor, student: Tensor, mask: Tensor, layers: tuple[int, int],
                 head: int, kind: str = KINDS[0], note: str = "") -> SideBySide:
    """The picture's state for the scores (1, heads, L, L) of two layers and the mask (1, L) of real tokens; head: from
    1. What is padding is left out."""
    real = mask[0].bool()
    one = slice(head - 1, head)
    maps = [scores[0, head - 1][real][:, real] for scores in (teacher, student)]
    if not all(scores.isfinite().all() for scores in maps):
        raise KdlabError("an attention score is not a finite number, so there is no map to show; look at the "
                         "model's weights")
    if kind == "probabilities":
        maps = [scores.softmax(-1) for scores in maps]
    numbers = {}
    for name, loss in (("MSE of scores", losses.attention_mse), ("KL", losses.attention_kl)):
        numbers[f"{name}, head {head}"] = loss(student[:, one], teacher[:, one], mask).item()
        numbers[f"{name}, all heads"] = loss(student, teacher, mask).item()
    shown = tuple(name for name, counts in zip(tokens, real.tolist(), strict=True) if counts)
    return SideBySide(shown, *(values.double().numpy() for values in maps), kind, layers, head, numbers, note)


def _attention(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Attention, ...]:
    """A model's attention on one text, on the CPU; the model is left in the mode it came in."""
    was_training, device = model.training, next(model.parameters()).device
    try:
        layers = trace_teacher(model, {k: v.to(device) for k, v in batch.items()}, {"attention"}).attention
    finally:
        model.train(was_training)
    return tuple(Attention(a.queries.float().cpu(), a.keys.float().cpu(), a.values.float().cpu(), a.scaling)
                 for a in layers)


def _unknown(tokens: tuple[str, ...], tokenizer: PreTrainedTokenizerBase) -> str:
    count = tokens.count(str(tokenizer.unk_token))
    return f"{count} of the words {'is' if count == 1 else 'are'} not in the vocabulary and shown as " \
           f"{tokenizer.unk_token}: the models cannot tell one such word from another." if count else ""
