"""The bottleneck builder: what width, depth, FFN stacks and a bottleneck weigh and cost. Lesson 02.

Parameters and FLOPs come from closed formulas, so that a slider answers at once; the tests hold them against what
`kdlab.study.metrics` counts in the models themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import ipywidgets
import torch
from transformers import BertConfig, DistilBertConfig, PreTrainedConfig

from ..errors import KdlabError
from ..models.architectures import ARCHITECTURES, build, ib_bert_config, mobilebert_config
from ..plots.sizes import PANELS, PARTS, Sizes, Weighed, draw_sizes, frame_sizes
from ..study import metrics
from .controls import on_change, with_field
from .picture import Picture, PictureWidget

VOCABULARY, POSITIONS, SEGMENTS = 30_522, 512, 2
WORD_WIDTH = 128            # of the word embeddings in front of a bottleneck; three neighbours are read at once
LENGTH = 128                # tokens
MOST_HEADS = 16
MEASURABLE = 400            # million parameters; a larger model would fill a small laptop's memory
REPEATS = 5
MEASURE = "measure the latency"
OWN = "your own"
QUERIES = {"shared": "a second bottleneck, shared", "full": "the full width", "inner": "the bottleneck itself"}


@dataclass(frozen=True)
class Shape:
    """The sizes of a backbone of the BERT family, with BERT's vocabulary and positions.

    width: of the hidden states between the layers. heads: attention heads. ffn: width inside an FFN; stacks: FFNs a
    layer. bottleneck: width inside a layer, 0 for none. queries: what queries and keys read where there is a
    bottleneck (`QUERIES`): "shared" is the released MobileBERT, "full" the published one, "inner" MobileBERT-tiny,
    whose values read the bottleneck too. pooler: whether there is a dense layer over [CLS]; without it, and without
    a bottleneck, this is a DistilBERT, which has no segment embeddings either.

    Raises `KdlabError` for sizes that no model can have.
    """

    width: int
    depth: int
    heads: int
    ffn: int
    stacks: int = 1
    bottleneck: int = 0
    queries: str = "shared"
    pooler: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "ffn", "stacks"):
            if getattr(self, name) < 1:
                raise KdlabError(f"a model cannot have a {name} of {getattr(self, name)}; give at least 1")
        if self.inner % self.heads:
            raise KdlabError(f"{self.heads} heads do not divide a width of {self.inner}; take a number of heads that "
                             "does")
        if not self.bottleneck and self.stacks > 1:
            raise KdlabError("several FFN stacks a layer exist only behind a bottleneck; give a bottleneck or 1 stack")
        if self.bottleneck < 0 or self.queries not in QUERIES:
            raise KdlabError(f"a bottleneck of {self.bottleneck} with queries from '{self.queries}' cannot be built; "
                             f"take 0 or more, and one of {', '.join(QUERIES)}")

    @property
    def inner(self) -> int:
        """The width at which attention and FFN work."""
        return self.bottleneck or self.width

    def parts(self) -> dict[str, int]:
        """Parameters by part, in the order of `PARTS`. "other": the normalisations, and the pooler."""
        w, b = self.width, self.inner
        narrow = bool(self.bottleneck)
        segments = SEGMENTS if narrow or self.pooler else 0
        words = VOCABULARY * WORD_WIDTH + _dense(3 * WORD_WIDTH, w) if narrow else VOCABULARY * w
        read, value = self._inputs()
        squeezes = 1 + (self.queries == "shared") if narrow else 0       # bottlenecks at a layer's entrance
        norms = 2 * b * (1 + self.stacks + squeezes) + (2 * w if narrow else 0)
        return {"embeddings": words + (POSITIONS + segments) * w,
                "attention": self.depth * (2 * _dense(read, b) + _dense(value, b) + _dense(b, b)),
                "FFN": self.depth * self.stacks * (_dense(b, self.ffn) + _dense(self.ffn, b)),
                "bottleneck": self.depth * (squeezes * _dense(w, b) + _dense(b, w)) if narrow else 0,
                "other": 2 * w + self.depth * norms + (_dense(w, w) if self.pooler else 0)}

    def flops(self, length: int = LENGTH) -> int:
        """FLOPs of one text of `length` tokens: matrix products, two operations per multiply-add."""
        w, b = self.width, self.inner
        narrow = bool(self.bottleneck)
        read, value = self._inputs()
        squeezes = 1 + (self.queries == "shared") if narrow else 0
        a_token = (2 * read + value + b) * b + self.stacks * 2 * b * self.ffn
        a_token += (squeezes + 1) * w * b if narrow else 0
        pairs = 2 * length * length * b                 # the scores, and the sum over values that they weigh
        words = length * 3 * WORD_WIDTH * w if narrow else 0
        return 2 * (words + self.depth * (length * a_token + pairs) + (w * w if self.pooler else 0))

    def _inputs(self) -> tuple[int, int]:
        """The widths that queries and keys, and that values, are computed from."""
        if not self.bottleneck:
            return self.width, self.width
        return (self.width if self.queries == "full" else self.inner,
                self.inner if self.queries == "inner" else self.width)

    def config(self) -> PreTrainedConfig:
        """The configuration that `transformers` builds this model from."""
        if self.bottleneck:
            # An inverted bottleneck is made like IB-BERT, any other like MobileBERT: normalisation and activation.
            kind = ib_bert_config if self.bottleneck > self.width else mobilebert_config
            return kind(hidden_size=self.width, num_hidden_layers=self.depth, num_attention_heads=self.heads,
                        intermediate_size=self.ffn, num_feedforward_networks=self.stacks,
                        intra_bottleneck_size=self.bottleneck, key_query_shared_bottleneck=self.queries == "shared",
                        use_bottleneck_attention=self.queries == "inner", classifier_activation=self.pooler)
        if not self.pooler:
            return DistilBertConfig(dim=self.width, n_layers=self.depth, n_heads=self.heads, hidden_dim=self.ffn)
        return BertConfig(hidden_size=self.width, num_hidden_layers=self.depth, num_attention_heads=self.heads,
                          intermediate_size=self.ffn)

    def in_words(self) -> str:
        layers = "1 layer" if self.depth == 1 else f"{self.depth} layers"
        inside = f", bottleneck {self.bottleneck}" if self.bottleneck else ""
        stacks = f"{self.stacks} × " if self.stacks > 1 else ""
        return f"{layers}, {self.width} wide{inside}, FFN {stacks}{self.ffn}"


def shape_of(config: PreTrainedConfig) -> Shape:
    """The sizes in a configuration of BERT, DistilBERT or MobileBERT."""
    if config.model_type == "distilbert":
        return Shape(config.dim, config.n_layers, config.n_heads, config.hidden_dim, pooler=False)
    common = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    if config.model_type != "mobilebert":
        return Shape(*common)
    queries = "inner" if config.use_bottleneck_attention else \
        "shared" if config.key_query_shared_bottleneck else "full"
    return Shape(*common, config.num_feedforward_networks, config.intra_bottleneck_size, queries,
                 config.classifier_activation)


PRESETS = {name: shape_of(architecture.config) for name, architecture in ARCHITECTURES.items()}


class BottleneckBuilder(PictureWidget):
    """Set a model's sizes, and see its parameters by part and its FLOPs beside those of the papers' models.

    start: the paper's model to begin with, a name in `kdlab.models.architectures.ARCHITECTURES`. latencies:
    milliseconds by
    such names, already measured on one core of this machine. The button measures the setting shown in the same way,
    with random weights; that takes a few seconds, so the last time stays in the picture, hollow once the setting has
    moved on.

    Where width or bottleneck moves, the FFN follows at four times the inner width, and the heads at the nearest
    number that divides it.
    """

    def __init__(self, start: str = "MobileBERT, released", latencies: Mapping[str, float] | None = None) -> None:
        latencies = dict({} if latencies is None else latencies.items())
        for name in (start, *latencies):
            if name not in PRESETS:
                raise KdlabError(f"the papers have no model '{name}'; take one of {'; '.join(PRESETS)}")
        self.latencies = {PRESETS[name]: milliseconds for name, milliseconds in latencies.items()}
        self.last: tuple[Shape, float] | None = None        # what the button measured
        self.setting, self.one_at_a_time = False, threading.Lock()
        style = {"description_width": "10em"}
        common = {"style": style, "layout": ipywidgets.Layout(width="98%")}
        self.start = ipywidgets.Dropdown(options=[*PRESETS, OWN], value=start, description="model", **common)
        self.width = ipywidgets.IntSlider(min=64, max=1024, step=8, description="width", style=style)
        self.depth = ipywidgets.IntSlider(min=1, max=24, description="layers", style=style)
        self.heads = ipywidgets.Dropdown(options=[1], description="heads", **common)
        self.ffn = ipywidgets.IntSlider(min=64, max=4096, step=8, description="FFN width", style=style)
        self.stacks = ipywidgets.IntSlider(min=1, max=4, description="FFN stacks", style=style)
        self.bottleneck = ipywidgets.IntSlider(min=0, max=1024, step=32, description="bottleneck, or 0", style=style)
        self.queries = ipywidgets.Dropdown(options=[(said, name) for name, said in QUERIES.items()],
                                           description="queries, keys read", **common)
        self.button = ipywidgets.Button(description=MEASURE, layout=ipywidgets.Layout(width="98%"),
                                        tooltip="builds this model with random weights and times it")
        half = ipywidgets.Layout(width="50%")
        self.controls = (self.width, self.depth, self.heads, self.ffn, self.stacks, self.bottleneck, self.queries)
        self._start_from(start)
        on_change(self._restarted, self.start)
        on_change(self._moved, *self.controls)
        width, depth, ffn, bottleneck, stacks = map(with_field, (self.width, self.depth, self.ffn, self.bottleneck,
                                                                 self.stacks))
        columns = (ipywidgets.VBox([self.start, width, depth, self.heads, ffn], layout=half),
                   ipywidgets.VBox([bottleneck, stacks, self.queries, self.button], layout=half))
        super().__init__(Picture(frame_sizes, draw_sizes, PANELS), [ipywidgets.HBox(columns)])
        self.button.on_click(self.measure)

    def shape(self) -> Shape:
        """The sizes that the controls show."""
        narrow = self.bottleneck.value
        return Shape(self.width.value, self.depth.value, self.heads.value, self.ffn.value,
                     self.stacks.value if narrow else 1, narrow, self.queries.value if narrow else "shared",
                     self.pooler)

    def state(self) -> Sizes:
        shape = self.shape()
        model = _weighed(_name(shape), shape, self.latencies.get(shape))
        numbers = {"million parameters": model.parameters / 1e6, "GFLOPs": model.flops / 1e9}
        note, stale = f"Shape: {shape.in_words()}; embeddings hold {model.parts[0] / model.parameters:.1%}.", None
        if model.latency is not None:
            numbers["ms on one core here"] = model.latency
        elif self.last:
            stale = self.last[1]
            note += f" The last time, {stale:.3g} ms, was of {self.last[0].in_words()}."
        papers = [_weighed(name, PRESETS[name], self.latencies.get(PRESETS[name]), paper.published_parameters,
                           paper.published_flops) for name, paper in ARCHITECTURES.items()]
        papers.sort(key=lambda row: -row.parameters)
        return Sizes(model, tuple(papers), stale, numbers, note)

    def measure(self, *_) -> None:
        """Time the setting shown, on this machine; one measurement at a time."""
        if not self.one_at_a_time.acquire(blocking=False):
            return
        self.button.disabled, self.button.description = True, "measuring, a few seconds ..."
        try:
            with self.drawing:      # never between the move of one control and those that follow it
                shape = self.shape()
            size = sum(shape.parts().values()) / 1e6
            if size > MEASURABLE:
                raise KdlabError(f"a model of {size:.0f} million parameters is not measured here, since it might not "
                                 f"fit into memory; stay below {MEASURABLE} million")
            with _one_core():
                milliseconds = metrics.latency(build(shape.config()), LENGTH, REPEATS)
            with self.drawing:
                self.latencies[shape], self.last = milliseconds, (shape, milliseconds)
                self.refresh()
        except (KdlabError, RuntimeError, MemoryError) as error:        # torch says RuntimeError where memory is short
            self.alert("Not measured", str(error))
        finally:
            self.button.disabled, self.button.description = False, MEASURE
            self.one_at_a_time.release()

    def _start_from(self, name: str) -> None:
        shape = PRESETS[name]
        self.pooler = shape.pooler      # no control of its own: it stays as in the model that one started from
        self.width.value, self.depth.value, self.bottleneck.value = shape.width, shape.depth, shape.bottleneck
        self.stacks.value, self.queries.value, self.ffn.value = shape.stacks, shape.queries, shape.ffn
        self.wanted_heads = shape.heads
        self._fit()

    def _fit(self) -> None:
        """Offer the numbers of heads that divide the inner width; what only a bottleneck has needs one."""
        inner = self.bottleneck.value or self.width.value
        fitting = [heads for heads in range(1, MOST_HEADS + 1) if inner % heads == 0]
        if list(self.heads.options) != fitting:
            self.heads.options = fitting
        self.heads.value = min(fitting, key=lambda heads: abs(heads - self.wanted_heads))
        self.stacks.disabled = self.queries.disabled = not self.bottleneck.value
        if not self.bottleneck.value:
            self.stacks.value = 1

    def _restarted(self, change) -> None:
        if change["new"] in PRESETS:
            self._together(lambda: self._start_from(change["new"]))

    def _moved(self, change) -> None:
        def follow() -> None:
            if change["owner"] in (self.width, self.bottleneck):
                self.ffn.value = 4 * (self.bottleneck.value or self.width.value)
                self._fit()
            elif change["owner"] is self.heads:
                self.wanted_heads = self.heads.value
        self._together(follow)

    def _together(self, change) -> None:
        """Let one control move others, and draw once. Events that the moves cause themselves end here."""
        with self.drawing:      # held by one thread at a time; `setting` is therefore this thread's own
            if self.setting:
                return
            self.setting = True
            try:
                change()
                with suppress(KdlabError):      # another thread has just moved a control, and waits to draw
                    self.start.value = _name(self.shape())      # so that a paper's model can be chosen again
            finally:
                self.setting = False
            self.refresh()


@contextmanager
def _one_core() -> Iterator[None]:
    """On several cores every product waits for the slowest, so that a busy machine spoils the measurement."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _dense(inputs: int, outputs: int) -> int:
    """Parameters of a dense layer: a matrix and a bias."""
    return inputs * outputs + outputs


def _name(shape: Shape) -> str:
    return next((name for name, preset in PRESETS.items() if preset == shape), OWN)


def _weighed(name: str, shape: Shape, latency: float | None, parameters: float | None = None,
             flops: float | None = None) -> Weighed:
    parts = shape.parts()
    return Weighed(name, tuple(parts[part] for part in PARTS), shape.flops(), latency, parameters, flops)
