"""Several students of one architecture, trained at once: one `transformers` model whose weights have one axis more.

The students' batches lie one after another along the batch axis, (S * B, L). What a transformer does text by text
(attention, activations, residual sums) stands as it is; only layers that own weights, and dropout, get a forward pass
of their own. So `kdlab.models.tracing` reads a stack like any model. Each student keeps what would be its own in a run
of its own: initial weights, order of texts, dropout, norm of the gradient that is clipped, moments of AdamW.

An experiment, for `seeds.py`: BERT classifiers, soft targets, cached logits. It has a loop of its own, and stays out of
the package until a comparison there needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertLayer

from kdlab.data.batches import LengthBatches, Rows
from kdlab.engine.precision import autocast
from kdlab.models.tracing import Trace, trace
from kdlab.teacher.cache import CachedTeacher
from kdlab.terms import SoftTargets

ATTEND = "kdlab_stacked"


def train(students: Sequence[BertForSequenceClassification], data: Dataset, known: CachedTeacher, steps: int,
          batch_size: int = 64, learning_rate: float = 1e-3, precision: str = "no") -> None:
    """Train the students in place, student i with seed i: half of them in each of two threads of one core each, since
    that spares the cores from waiting for one another after every operation. precision: "no" or "bf16"."""
    rows, before = Rows(data, students[0].config.pad_token_id), torch.get_num_threads()

    def work(seeds: range) -> None:
        torch.set_num_threads(1)
        _train_stack([students[i] for i in seeds], seeds, rows, known, steps, batch_size, learning_rate,
                     precision)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (range(0, len(students), 2), range(1, len(students), 2))))
    torch.set_num_threads(before)


def _train_stack(students: Sequence[BertForSequenceClassification], seeds: Sequence[int], rows: Rows,
                 known: CachedTeacher, steps: int, batch_size: int, learning_rate: float, precision: str) -> None:
    stack, term = Stack(students, seeds[0]), SoftTargets()
    optimizer = torch.optim.AdamW(stack.model.parameters(), learning_rate, weight_decay=0.01, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * steps), steps)
    for numbers in islice(_batches(rows, batch_size, seeds), steps):
        batch = rows.batch(numbers)
        with autocast(torch.device("cpu"), precision):
            seen = stack.trace(batch)
        loss = term(Trace(seen.logits), known(batch), batch)        # the mean over all, who have equally many texts
        (len(students) * loss).backward()
        stack.clip(1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    stack.give_back()


def _batches(rows: Rows, batch_size: int, seeds: Sequence[int]) -> Iterator[np.ndarray]:
    """Row numbers (S * B,), endless: every seed shuffles for itself, and all take their batches, which are sorted by
    length, in one order, so that those that meet are of about one length."""
    orders, epoch = [LengthBatches(rows.lengths, batch_size, seed) for seed in seeds], 0
    while True:
        own = [sorted(order.epoch(epoch), key=lambda batch: int(rows.lengths[batch].max())) for order in orders]
        own = [[batch for batch in batches if len(batch) == batch_size] for batches in own]    # all of one size
        for i in np.random.default_rng([seeds[0], epoch]).permutation(min(map(len, own))):
            yield np.concatenate([batches[i] for batches in own])
        epoch += 1


class Stack:
    """The students as one model; its layers find here how many rows of a batch are a student's."""

    def __init__(self, students: Sequence[BertForSequenceClassification], seed: int) -> None:
        self.students, self.rows = students, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.model = deepcopy(students[0]).train()
        theirs = [dict(student.named_modules()) for student in students]
        for name, module in self.model.named_modules():
            for key, _ in list(module.named_parameters(recurse=False)):
                stacked = torch.stack([getattr(modules[name], key).detach() for modules in theirs])
                setattr(module, key, nn.Parameter(stacked))
            module.__class__ = KINDS.get(type(module), type(module))
            object.__setattr__(module, "stack", self)       # not as a submodule
        self.model.config._attn_implementation = ATTEND
        self.model.bert.encoder.layer[-1].__class__ = _FirstTokenLayer

    def trace(self, batch: dict[str, Tensor]) -> Trace:
        self.rows = len(batch["input_ids"]) // len(self.students)
        return trace(self.model, batch)

    def clip(self, limit: float) -> None:
        """Each student's gradient to a norm of at most `limit`."""
        gradients = [parameter.grad for parameter in self.model.parameters()]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)     # (S,)
        for gradient in gradients:
            gradient.mul_((limit / (norms + 1e-6)).clamp(max=1).view(-1, *[1] * (gradient.dim() - 1)))

    @torch.no_grad()
    def give_back(self) -> None:
        weights = dict(self.model.named_parameters())
        for i, student in enumerate(self.students):
            for name, parameter in student.named_parameters():
                parameter.copy_(weights[name][i])


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.baddbmm(self.bias[:, None], x.reshape(len(self.weight), -1, x.shape[-1]), self.weight.mT)
        return y.view(*x.shape[:-1], -1)


class _LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        with torch.autocast("cpu", enabled=False):      # it would compute in float32, and all that follows converts
            x, weight, bias = (values.to(kind) for values in (x, self.weight[:, None], self.bias[:, None]))
            y = F.layer_norm(x, self.normalized_shape, eps=self.eps).view(len(weight), -1, x.shape[-1])
            return torch.addcmul(bias, y, weight).view(x.shape)


class _Embedding(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:
        students, size, width = self.weight.shape
        if len(ids) == 1 or ids.stride(0) == 0:         # positions and segments: one row for all texts
            return self.weight[:, None, ids[0]].expand(-1, self.stack.rows, -1, -1).flatten(0, 1)
        start = torch.arange(0, students * size, size)[:, None]
        return F.embedding(ids.reshape(students, -1) + start, self.weight.view(-1, width)).view(*ids.shape, width)


class _Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return _drop(x, self.p, self.stack.generator) if self.training and self.p else x


class _FirstTokenLayer(BertLayer):
    """The last layer, of which a classifier reads the first token alone: nothing else is computed, (B, 1, width)."""

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_, **__) -> Tensor:
        own, first = self.attention.self, hidden[:, :1]
        q, k, v = (layer(x).view(*x.shape[:2], -1, own.attention_head_size).transpose(1, 2)
                   for layer, x in ((own.query, first), (own.key, hidden), (own.value, hidden)))
        out, _ = _attend(own, q, k, v, None if mask is None else mask[..., :1, :], own.scaling, own.dropout.p)
        return self.feed_forward_chunk(self.attention.output(out.reshape(first.shape), first))


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
            dropout: float = 0.0, **_) -> tuple[Tensor, None]:
    scores = query * scaling @ key.mT
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if dropout and module.training:
        weights = _drop(weights, dropout, module.stack.generator)
    return (weights @ value).transpose(1, 2), None


def _drop(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Dropout from 16 random bits a number, p to 1/65536: a seventh of the time that torch takes for it on a CPU."""
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-2**63, None, generator=generator)
    keep = bits.view(torch.int16)[:x.numel()] >= round(p * 2**16) - 2**15
    return x * keep.to(x.dtype).div_(1 - p).view(x.shape)


ALL_ATTENTION_FUNCTIONS.register(ATTEND, _attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTEND, sdpa_mask)
KINDS = {nn.Linear: _Linear, nn.LayerNorm: _LayerNorm, nn.Embedding: _Embedding, nn.Dropout: _Dropout}
