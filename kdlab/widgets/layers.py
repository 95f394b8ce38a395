"""The layer map: draw the lines between student and teacher layers, see what they cost and how alike they are. Lessons
02 and 04."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..data.tasks import encode_texts
from ..errors import KdlabError
from ..models import layer_map
from ..models.layer_map import LayerMap
from ..plots.layers import PANELS, Mapped, draw_mapped, frame_mapped
from ..study import metrics
from .controls import on_change
from .picture import Picture, PictureWidget

PRESETS = {preset.__name__: preset for preset in
           (layer_map.uniform, layer_map.top, layer_map.bottom, layer_map.spread, layer_map.skip, layer_map.last)}
OWN = "your own"
NOBODY = None
MOST_TEXTS = 128


class LayerMapBuilder(PictureWidget):
    """Start from a preset, then say for any student layer which teacher layer it learns from, or that none.

    student, teacher: models of the same tokenizer, the student no deeper than the teacher; texts: a few dozen, on which
    the layers' similarity (linear CKA, `kdlab.study.metrics`) is taken once; make a new widget for a student that has
    learnt
    since. The costs are TinyBERT's: a hidden-state term with one projection for all layers, and another term, with its
    own, for the embeddings. `layers` is the map as drawn, such as a term takes.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, tokenizer: PreTrainedTokenizerBase,
                 texts: Sequence[str]) -> None:
        ours, theirs = student.config, teacher.config
        self.depths = ours.num_hidden_layers, theirs.num_hidden_layers
        self.widths = ours.hidden_size, theirs.hidden_size
        self.heads = ours.num_attention_heads, theirs.num_attention_heads
        chosen = dict(layer_map.uniform(*self.depths))      # refuses a student deeper than its teacher
        if not 2 <= len(texts) <= MOST_TEXTS:
            raise KdlabError(f"{len(texts)} texts were given to compare the layers on; give 2 to {MOST_TEXTS}")
        self.similarity = metrics.layer_similarity(student, teacher, encode_texts(texts, tokenizer)).numpy()
        self.length = min(128, tokenizer.model_max_length)
        self.teacher_flops = metrics.flops(teacher.base_model, self.length)
        style = {"description_width": "6.5em"}
        self.start = ipywidgets.Dropdown(options=[*PRESETS, OWN], description="start from", style=style)
        self.layer = ipywidgets.Dropdown(options=_names(self.depths[0]), value=1, description="student's", style=style)
        self.source = ipywidgets.Dropdown(options=[("nobody", NOBODY), *_names(self.depths[1])],
                                          value=chosen[1], description="learns from", style=style)
        self.chosen: dict[int, int] = chosen
        self.setting = False
        super().__init__(Picture(frame_mapped, draw_mapped, PANELS),
                         [self.start, ipywidgets.HBox([self.layer, self.source])])
        on_change(self._restarted, self.start)
        on_change(self._other_layer, self.layer)
        on_change(self._drawn, self.source)

    @property
    def layers(self) -> LayerMap:
        """The map as drawn."""
        return tuple(sorted(self.chosen.items()))

    def state(self) -> Mapped:
        return Mapped(self.depths, self.layers, self.similarity, self._costs())

    def _restarted(self, change) -> None:
        if change["new"] != OWN:
            self._together(lambda: setattr(self, "chosen", dict(PRESETS[change["new"]](*self.depths))))

    def _other_layer(self, _) -> None:
        self._together(lambda: None)

    def _drawn(self, change) -> None:
        def draw() -> None:
            self.chosen.pop(self.layer.value, None)
            if change["new"] is not NOBODY:
                self.chosen[self.layer.value] = change["new"]
            presets = (name for name, preset in PRESETS.items() if preset(*self.depths) == self.layers)
            self.start.value = next(presets, OWN)
        self._together(draw)

    def _together(self, change) -> None:
        """Let one control move others, and draw once."""
        with self.drawing:
            if self.setting:
                return
            self.setting = True
            try:
                change()
                self.source.value = self.chosen.get(self.layer.value, NOBODY)
            finally:
                self.setting = False
            self.refresh()

    def _costs(self) -> str:
        if not self.chosen:
            return "No lines: nothing is learnt from the inside."
        (ours, theirs), highest, depth = self.widths, max(self.chosen.values()), self.depths[1]
        matrices = (0 in self.chosen) + any(m for m in self.chosen)
        share = self.teacher_flops * highest / depth
        said = [f"The teacher has to run up to layer {highest} of {depth}: about {share / 1e6:,.1f} MFLOPs for "
                f"{self.length} tokens."]
        if ours == theirs:
            said.append(f"Both are {ours} wide: no projection is needed.")
        else:
            products = 2 * self.length * ours * theirs * len(self.chosen)
            said.append(f"Projections {ours} × {theirs}: {matrices * ours * theirs:,} parameters, "
                        f"{products / 1e6:,.2f} MFLOPs.")
        if self.heads[0] != self.heads[1]:
            said.append(f"Heads: {self.heads[0]} and {self.heads[1]}, so their attention cannot be compared.")
        return " ".join(said)


def _names(depth: int) -> list[tuple[str, int]]:
    return [("embeddings", 0), *((f"layer {layer}", layer) for layer in range(1, depth + 1))]
