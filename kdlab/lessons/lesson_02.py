"""Exercises of lesson 02: attention probabilities without padding, a layer map, parameters and FLOPs of a layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import layer_map
from .exercise import Exercise, logits

DEPTHS = ((4, 12), (4, 10), (3, 7), (4, 6), (5, 12), (2, 5))     # student and teacher; some do not divide


def _integer(g: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=g))


# 2.1: attention without padding

def _padded(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scores (B, H, L, L) of two heads and a mask (B, L) in which every text but the first is shorter than L."""
    batch, length = _integer(g, 3, 5), _integer(g, 6, 9)
    real = torch.randint(3, length, (batch,), generator=g)
    real[0] = length
    return logits(g, batch, 2, length, length), (torch.arange(length) < real[:, None]).long()


def _keys(mask: Tensor) -> Tensor:
    return mask[:, None, None, :] == 0


def _queries(mask: Tensor) -> Tensor:
    return mask[:, None, :, None] == 0


def _attend(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(_keys(mask), -torch.inf).softmax(-1)


# 2.2: a layer map

def _uniform(M: int, N: int) -> list[int]:
    return [n for _, n in layer_map.uniform(M, N)]


# 2.3: parameters of a layer

def _parameters(width: int, ffn: int, matrices: int = 4, biases: bool = True, norms: int = 2) -> int:
    attention = matrices * (width * width + biases * width)
    return attention + 2 * width * ffn + biases * (ffn + width) + norms * 2 * width


# 2.4: FLOPs of a layer

def _multiply_adds(width: int, ffn: int, length: int, matrices: int = 4, products: int = 2) -> int:
    """Of one text: the dense layers' and, for every pair of tokens, those of the two products in attention."""
    return length * (matrices * width * width + 2 * width * ffn) + products * length * length * width


EXERCISES = {
    "2.1": Exercise(
        goal="Scores towards padding are set to minus infinity before the softmax, so that it gives them 0 and "
             "shares 1 among the real tokens.",
        right=_attend,
        inputs=_padded,
        mistakes=(
            (lambda s, m: s.softmax(-1), "the mask has no effect: padding still gets part of every row"),
            (lambda s, m: s.softmax(-1).masked_fill(_keys(m), 0),
             "padding is ruled out after the softmax, so its share is lost and the rows no longer sum to 1; rule it "
             "out before, with a score of -inf"),
            (lambda s, m: s.masked_fill(_queries(m), -torch.inf).softmax(-1),
             "the mask lies on the query axis: rows of padding became NaN, and real tokens still look at padding; "
             "rule out columns, the keys: mask[:, None, None, :]"),
            (lambda s, m: s.masked_fill(_queries(m), -1e9).softmax(-1),
             "the mask lies on the query axis: rows of padding became flat, and real tokens still look at padding; "
             "rule out columns, the keys: mask[:, None, None, :]"),
            (lambda s, m: s.masked_fill(_keys(m) | _queries(m), -torch.inf).softmax(-1),
             "rows and columns are ruled out, so a row of padding has nothing left and becomes NaN, which poisons "
             "every loss; rule out the columns only, and leave those rows out of the loss"),
            (lambda s, m: s.masked_fill(_keys(m) | _queries(m), -1e9).softmax(-1),
             "rows and columns are ruled out; here only the columns, the keys, are: a row of padding stays a "
             "distribution over the real tokens"),
            (lambda s, m: s.masked_fill(_keys(m), -torch.inf).softmax(-1).masked_fill(_queries(m), 0),
             "the columns are right; but the rows of padding were emptied too, and each row should sum to 1"),
            (lambda s, m: (s * m[:, None, None, :]).softmax(-1),
             "scores towards padding became 0 (or nearly, such as 1e-9), and exp(0) is 1, so padding still gets a "
             "share; the score that gets none is -inf"),
            (lambda s, m: s.masked_fill(~_keys(m), -torch.inf).softmax(-1),
             "the mask is turned round: it is 1 where a token is real, and those were ruled out"),
            (lambda s, m: s.masked_fill(~_keys(m), -1e9).softmax(-1),
             "the mask is turned round: it is 1 where a token is real, and those were ruled out"),
            (lambda s, m: (s + m[:, None, None, :]).softmax(-1),
             "the mask's ones were added to the scores, which rules nothing out; what padding needs is -inf"),
            (lambda s, m: s.masked_fill(_keys(m), -torch.inf).softmax(-2),
             "softmax over the wrong axis, the queries, and the result has NaN; each row is shared among the keys: "
             "dim=-1"),
            (lambda s, m: s.softmax(-2),
             "softmax over the wrong axis, and no mask: each row is shared among the keys, dim=-1"),
            (lambda s, m: s.masked_fill(_keys(m), -1e9).softmax(-2),
             "softmax over the wrong axis, the queries: the columns sum to 1, and the rows should; use dim=-1"),
            (lambda s, m: s.masked_fill(_keys(m), -torch.inf),
             "these are scores, with padding ruled out; the probabilities are their softmax over dim=-1"),
            (lambda s, m: s.masked_fill(_keys(m), -1e9),
             "these are masked scores; the probabilities are their softmax over dim=-1"),
            (lambda s, m: s.masked_fill(_keys(m), -torch.inf).log_softmax(-1),
             "these are log-probabilities; the exercise asks for probabilities (softmax)"),
        )),
    "2.2": Exercise(
        goal="Student layer m learns from teacher layer m N / M, to the nearest, so the last learns from the last.",
        right=_uniform,
        inputs=lambda g: DEPTHS[_integer(g, 0, len(DEPTHS))],
        mistakes=(
            (lambda M, N: [n - 1 for n in _uniform(M, N)],
             "counted from 0; layers have the numbers 1 to N here, and 0 stands for the embeddings, so add 1"),
            (lambda M, N: [int(m * N / M + 0.5) for m in range(M)],
             "m runs from 0 to M - 1, so the first pair is the embeddings, layer 0, and the last layer is missing; "
             "let m run from 1 to M"),
            (lambda M, N: [m * N // M for m in range(M)],
             "m starts at 0, so layer 0, the embeddings, comes first and the last layer is missing; let m run from "
             "1 to M, and round to the nearest"),
            (lambda M, N: [m * (N // M) for m in range(M)],
             "two things: m should run from 1 to M, and N // M drops the rest before it is multiplied"),
            (lambda M, N: list(range(1, M + 1)),
             "this is the preset bottom, the first M layers; uniform goes up to the last one"),
            (lambda M, N: list(range(N - M + 1, N + 1)),
             "this is the preset top, the last M layers; uniform is spread over all"),
            (lambda M, N: [m * (N // M) for m in range(1, M + 1)],
             "right where M divides N; elsewhere the fixed step N // M is too short, and the teacher's last layer is "
             "not reached: multiply first, then divide, m * N / M"),
            (lambda M, N: list(range(N // M, N + 1, N // M)),
             "right where M divides N; elsewhere a fixed step misses the last layer or has too many: take each "
             "m * N / M, to the nearest"),
            (lambda M, N: list(range(1, N + 1, N // M)),
             "this begins with the teacher's first layer, so its last one is missed (or one too many comes out); the "
             "first student layer learns from layer N / M, the last from layer N"),
            (lambda M, N: [m * N // M for m in range(1, M + 1)],
             "rounded down; take the nearest layer, with halves upwards: int(m * N / M + 0.5)"),
            (lambda M, N: [-(-m * N // M) for m in range(1, M + 1)],
             "rounded up; take the nearest layer, with halves upwards: int(m * N / M + 0.5)"),
            (lambda M, N: [round(m * N / M) for m in range(1, M + 1)],
             "nearly: Python's round() takes halves to the even number, 2.5 to 2 but 3.5 to 4, so the layers come "
             "unevenly; here halves go up: int(x + 0.5)"),
            (lambda M, N: [m * N / M for m in range(1, M + 1)],
             "right where M divides N; elsewhere these are no whole numbers, and there is no layer 2.5: int(x + 0.5)"),
            (lambda M, N: [n for _, n in layer_map.spread(M, N)],
             "this is the preset spread, from the first layer to the last; uniform has equal steps from 0 on, m N / M"),
            (lambda M, N: _uniform(M, N)[:-1],
             "the last layer is missing: m runs from 1 to M, and range(1, M) ends at M - 1"),
            (lambda M, N: layer_map.uniform(M, N),
             "pairs are what the library returns; give the list of teacher layers alone"),
            (lambda M, N: [int(m * M / N + 0.5) for m in range(1, M + 1)],
             "M and N are swapped in the fraction: the teacher is the deeper one, so the step is N / M"),
        )),
    "2.3": Exercise(
        goal="Four width x width matrices, two between width and FFN width, a bias for each, and two LayerNorms.",
        right=_parameters,
        inputs=lambda g: (4 * _integer(g, 2, 12), 5 * _integer(g, 3, 30)),
        mistakes=(
            (lambda w, f: _parameters(w, f, biases=False),
             "the biases are missing: each of the six dense layers has one, as long as its output"),
            (lambda w, f: _parameters(w, f, norms=0),
             "4 x width numbers are missing: the two LayerNorms, each with a scale and a shift, or attention's four "
             "biases"),
            (lambda w, f: _parameters(w, f, biases=False, norms=0),
             "two things are missing, the biases of the six dense layers and the two LayerNorms"),
            (lambda w, f: _parameters(w, f, norms=1),
             "one LayerNorm is missing, or half of each: there are two, one after attention and one after the FFN, "
             "and each has a scale and a shift"),
            (lambda w, f: _parameters(w, f, matrices=3),
             "attention has four matrices: queries, keys, values, and the output that joins the heads again"),
            (lambda w, f: _parameters(w, f, matrices=3, norms=0),
             "two things are missing: attention's fourth matrix, its output, and the LayerNorms"),
            (lambda w, f: _parameters(w, f, matrices=3, biases=False),
             "two things are missing: attention's fourth matrix, its output, and the biases"),
            (lambda w, f: _parameters(w, f, matrices=3, biases=False, norms=0),
             "three things are missing: attention's fourth matrix, its output; the biases; the LayerNorms"),
            (lambda w, f: _parameters(w, 4 * w),
             "the FFN width is taken to be four times the width; it is given, and TinyBERT has 1200 for 312"),
            (lambda w, f: _parameters(w, f) - w * f - f,
             "the FFN has two matrices, one up to the FFN width and one back"),
            (lambda w, f: _parameters(w, f) - w * f - w,
             "the FFN has two matrices, up and back again; the one back is missing, with its bias"),
            (lambda w, f: _parameters(w, f) - w * f,
             "of the FFN's two matrices, up to the FFN width and back, one is missing"),
            (lambda w, f: _parameters(w, f) + f - w,
             "a bias is as long as its layer's output: the FFN's two are the FFN width and the width, not twice the "
             "FFN width"),
            (lambda w, f: _parameters(w, f) + w - f,
             "a bias is as long as its layer's output: the FFN's two are the FFN width and the width, not twice the "
             "width"),
            (lambda w, f: _parameters(w, f) - f - w,
             "the FFN's two biases are missing: one of the FFN width, one of the width"),
        )),
    "2.4": Exercise(
        goal="Two operations per multiply-add: the six matrices for every token, and two products for every pair of "
             "tokens.",
        right=lambda w, f, n: 2 * _multiply_adds(w, f, n),
        inputs=lambda g: (4 * _integer(g, 2, 12), 5 * _integer(g, 3, 30), _integer(g, 5, 40)),
        mistakes=(
            (_multiply_adds,
             "multiply-adds are counted once: each is a multiplication and an addition, so twice as many operations"),
            (lambda w, f, n: 2 * _multiply_adds(w, f, n, products=0),
             "the part that grows with length squared is missing: scores, and the sums over values, for every pair "
             "of tokens"),
            (lambda w, f, n: _multiply_adds(w, f, n, products=0),
             "two things: the pairs of tokens are missing, and a multiply-add is two operations"),
            (lambda w, f, n: 2 * _multiply_adds(w, f, n, products=1),
             "attention multiplies twice for every pair of tokens: queries with keys, and probabilities with values"),
            (lambda w, f, n: _multiply_adds(w, f, n, products=1),
             "two things: attention multiplies twice for every pair of tokens, and a multiply-add is two operations"),
            (lambda w, f, n: 2 * _multiply_adds(w, f, 1),
             "this is for a text of one token; the six matrices are applied to each of `length` tokens, and the "
             "attention products to each pair"),
            (lambda w, f, n: 2 * (4 * w * w + 2 * w * f) + 4 * n * n * w,
             "the six matrices are applied to every token: their part is missing a factor, the length"),
            (lambda w, f, n: 2 * n * (4 * w * w + 2 * w * f) + 4 * n * w,
             "attention looks from every token at every token: its part grows with the length squared"),
            (lambda w, f, n: 2 * n * (4 * w * w + 2 * w * f) + 4 * n * n,
             "a score is a product over the whole width, all heads together: the attention part lacks a factor, the "
             "width"),
            (lambda w, f, n: 2 * _multiply_adds(w, f, n, matrices=3),
             "attention has four matrices: queries, keys, values, and the output that joins the heads again"),
            (lambda w, f, n: 2 * (_multiply_adds(w, f, n) - n * w * f),
             "the FFN has two matrices, one up to the FFN width and one back"),
            (lambda w, f, n: 2 * _multiply_adds(w, 4 * w, n),
             "the FFN width is taken to be four times the width; it is given"),
            (lambda w, f, n: 2 * n * _parameters(w, f) + 4 * n * n * w,
             "biases and LayerNorms are counted too; the convention counts the matrix products only"),
            (lambda w, f, n: 2 * n * _parameters(w, f, norms=0) + 4 * n * n * w,
             "biases are counted too; the convention counts the matrix products only"),
        )),
}
