"""Loss terms that read the inside of the models: hidden states, attention scores, values.

Each takes a layer map (`kdlab.models.layer_map`), pairs of a student and a teacher layer, and sums its loss over them.
Where the widths differ, a term may own a learned projection from the student's to the teacher's; it is trained with the
student and thrown away with the term.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from .. import losses
from ..errors import KdlabError
from ..models.layer_map import LayerMap
from ..models.tracing import Batch, Trace, check_attention_known
from .term import Reads, Term


class LayerTerm(Term):
    """A term that sums its `loss(student, teacher, mask)` over the pairs of a layer map; it refuses a map that points
    outside either model."""

    output: str             # of `kdlab.models.tracing.OUTPUTS`
    first_layer = 1

    def __init__(self, name: str, layers: LayerMap, weight: float) -> None:
        if not layers:
            raise KdlabError(f"the term '{name}' has an empty layer map; give at least one pair of layers")
        super().__init__(name, weight, Reads((self.output,), (self.output,), (), *zip(*layers, strict=True)))
        self.layers = tuple(layers)

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Raise `KdlabError` where the two models cannot be compared layer by layer as the map says."""
        for who, config, used in zip(("student", "teacher"), (student, teacher), zip(*self.layers, strict=True),
                                     strict=True):
            for layer in used:
                if not self.first_layer <= layer <= config.num_hidden_layers:
                    raise KdlabError(f"the term '{self.name}' maps layer {layer} of the {who}, which has the layers "
                                     f"{self.first_layer} to {config.num_hidden_layers}; correct the layer map")


class HiddenTerm(LayerTerm):
    """A term over hidden states; layer 0 is the embeddings' output. `widths`, (student, teacher), asks for a
    learned projection W without bias, student width x teacher width, one for all pairs."""

    output = "hidden_states"
    first_layer = 0

    def __init__(self, name: str, layers: LayerMap, weight: float, widths: tuple[int, int] | None,
                 seed: int = 0) -> None:
        super().__init__(name, layers, weight)
        self.projection = nn.Identity()
        if widths:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.projection = nn.Linear(*widths, bias=False)
        self.widths = widths

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        super().check(student, teacher)
        actual = student.hidden_size, teacher.hidden_size
        if self.widths and tuple(self.widths) != actual:
            raise KdlabError(f"the term '{self.name}' projects from width {self.widths[0]} to {self.widths[1]}, and "
                             f"student and teacher are {actual[0]} and {actual[1]} wide; give widths={actual}")
        if not self.widths and actual[0] != actual[1]:
            raise KdlabError(f"the term '{self.name}' compares hidden states of width {actual[0]} (student) and "
                             f"{actual[1]} (teacher); give it widths={actual}, for a learned projection")

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return sum(self.loss(self.projection(student.hidden_states[m]), teacher.hidden_states[n],
                             batch["attention_mask"]) for m, n in self.layers)


class HiddenStates(HiddenTerm):
    """`losses.hidden_mse` summed over the layer map: TinyBERT's L_hidn (eq. 8), and with the map ((0, 0),) its
    L_embd (eq. 9); MobileBERT's feature map transfer, which needs no projection."""

    loss = staticmethod(losses.hidden_mse)

    def __init__(self, layers: LayerMap, weight: float = 1.0, widths: tuple[int, int] | None = None,
                 name: str = "hidden states", seed: int = 0) -> None:
        super().__init__(name, layers, weight, widths, seed)


class HiddenCosine(HiddenTerm):
    """`losses.hidden_cosine` summed over the layer map: DistilBERT's L_cos, with the last layers as the map."""

    loss = staticmethod(losses.hidden_cosine)

    def __init__(self, layers: LayerMap, weight: float = 1.0) -> None:
        super().__init__("cosine", layers, weight, None)


class Hint(HiddenTerm):
    """`losses.hint` between one guided layer of the student and one hint layer of the teacher (FitNets)."""

    loss = staticmethod(losses.hint)

    def __init__(self, guided: int, hint: int, weight: float = 1.0, widths: tuple[int, int] | None = None,
                 seed: int = 0) -> None:
        super().__init__("hint", ((guided, hint),), weight, widths, seed)


class Patient(HiddenTerm):
    """`losses.patient` of the [CLS] states summed over the layer map (Patient-KD's L_PT)."""

    def __init__(self, layers: LayerMap, weight: float = 1.0, widths: tuple[int, int] | None = None,
                 seed: int = 0) -> None:
        super().__init__("patient", layers, weight, widths, seed)

    def loss(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return losses.patient(student[:, 0], teacher[:, 0])     # [CLS] is never padding


class AttentionTerm(LayerTerm):
    """A term over a table (B, heads, L, L) of each layer: both models need the same number of heads, of any width."""

    output = "attention"
    heads: int | None = None        # to split into, where a term does

    def check(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        super().check(student, teacher)
        _check_heads(self.name, student, teacher, self.heads)

    def scores(self, trace: Trace, layer: int) -> Tensor:
        return trace.attention[layer - 1].scores()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch) -> Tensor:
        return sum(self.loss(self.scores(student, m), self.scores(teacher, n), batch["attention_mask"])
                   for m, n in self.layers)


class AttentionScores(AttentionTerm):
    """`losses.attention_mse` of the scores summed over the layer map: TinyBERT's L_attn (eq. 7)."""

    loss = staticmethod(losses.attention_mse)

    def __init__(self, layers: LayerMap, weight: float = 1.0) -> None:
        super().__init__("attention scores", layers, weight)


class AttentionProbabilities(AttentionTerm):
    """`losses.attention_kl` summed over the layer map: MobileBERT's attention transfer, and, with the map
    `layer_map.last`, MiniLM's L_AT."""

    loss = staticmethod(losses.attention_kl)

    def __init__(self, layers: LayerMap, weight: float = 1.0) -> None:
        super().__init__("attention", layers, weight)


class Relations(AttentionTerm):
    """MiniLM's relation transfer: `losses.attention_kl` of softmax(X X^T / sqrt(d)), X the values (L_VR of MiniLM,
    Wang et al. 2020, arXiv 2002.10957), or queries or keys as well (MiniLMv2, Wang et al. 2021, arXiv 2012.15828).

    Widths may differ. So may head counts, if `heads` is given: the states are then joined and split again into
    that many relation heads, as in MiniLMv2; without it the models' own heads are compared.
    """

    loss = staticmethod(losses.attention_kl)

    def __init__(self, layers: LayerMap, of: str = "values", heads: int | None = None, weight: float = 1.0) -> None:
        super().__init__(f"{of.removesuffix('s')} relations", layers, weight)
        if of not in ("queries", "keys", "values"):
            raise KdlabError(f"relations exist of queries, keys and values, not of '{of}'; take one of these")
        self.of, self.heads = of, heads

    def scores(self, trace: Trace, layer: int) -> Tensor:
        states = getattr(trace.attention[layer - 1], self.of)           # (B, heads, L, d)
        if self.heads:
            states = states.transpose(1, 2).flatten(2).unflatten(2, (self.heads, -1)).transpose(1, 2)
        return losses.relation_scores(states)


def _check_heads(name: str, student: PreTrainedConfig, teacher: PreTrainedConfig, split: int | None = None) -> None:
    for config in (student, teacher):
        check_attention_known(config)
        inner = getattr(config, "true_hidden_size", config.hidden_size)
        if split and inner % split:
            raise KdlabError(f"the term '{name}' splits states of width {inner} into {split} relation heads; take a "
                             "number that divides both widths")
    ours, theirs = student.num_attention_heads, teacher.num_attention_heads
    if ours != theirs and not split:
        raise KdlabError(f"the term '{name}' compares attention head by head, and the student has {ours} heads and "
                         f"the teacher {theirs}; build the student with heads={theirs}")
