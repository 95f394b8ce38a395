"""The exercise checks: each classic mistake gets its own hint, written here as a learner would write it."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdlab.lessons import EXERCISES, check


def detect(loss, s, t, zero=True, alarm=True, wide=True, flat=True):
    """Exercise 7.4 as a learner would write it, or with a question left out."""
    def pull(T):
        z = s.clone().requires_grad_()
        value = loss(z, t, T)
        return torch.autograd.grad(value, z)[0].norm() if value.requires_grad else torch.tensor(0.0)
    wider = [torch.cat([x, torch.full((len(x), 1), -1e4)], dim=1) for x in (s, t)]
    return not ((zero and abs(loss(t, t, 8)) > 1e-4) or (alarm and loss(s, t, 8) < 1e-4)
                or (wide and abs(loss(*wider, 8) - loss(s, t, 8)) > 1e-4) or (flat and pull(16) < pull(8) / 2))


def pearson_apart(x, y):
    return 1 - torch.stack([torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(x, y, strict=True)]).mean()


def both_apart(x, y):
    return pearson_apart(x, y) + pearson_apart(x.T, y.T)


MISTAKES = {
    "T^2 missing": ("1.2", lambda s, t, T: F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1),
                                                    reduction="batchmean"), "T^2 is missing"),
    "averaged over classes": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="mean"), "averaged over classes"),
    "teacher and student swapped": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(t / T, -1), F.softmax(s / T, -1), reduction="batchmean"), "teacher and student are swapped"),
    "wrong axis": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, 0), F.softmax(t / T, 0), reduction="batchmean"), "wrong axis"),
    "probabilities for log-probabilities": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean"),
        "probabilities were passed where log-probabilities belong"),
    "log target": ("1.2", lambda s, t, T: T**2 * F.kl_div(
        F.log_softmax(s / T, -1), F.log_softmax(t / T, -1), reduction="batchmean"),
        "log-probabilities were passed where probabilities belong"),
    "mean and no T^2": ("1.2", lambda s, t, T: F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1)),
                        "two things"),
    "softmax over the wrong axis": ("1.1", lambda z, T: torch.softmax(z / T, 0), "wrong axis"),
    "T multiplies": ("1.1", lambda z, T: torch.softmax(z * T, -1), "divide by T"),
    "T ignored": ("1.1", lambda z, T: torch.softmax(z, -1), "T has no effect"),
    "T cancels": ("1.1", lambda z, T: z.exp() / T / (z.exp() / T).sum(-1, keepdim=True), "T has no effect"),
    "one sum for all": ("1.1", lambda z, T: (z / T).exp() / (z / T).exp().sum(), "keepdim"),
    "no p": ("1.2", lambda s, t, T: T**2 * ((t / T).log_softmax(-1) - (s / T).log_softmax(-1)).sum(-1).mean(),
             "factor p"),
    "raw logits": ("1.2", lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(-1), t / T, reduction="batchmean"),
                   "raw logits"),
    "nothing softened": ("1.2", lambda s, t, T: T**2 * F.kl_div(s.log_softmax(-1), t.softmax(-1),
                                                               reduction="batchmean"), "nothing is softened"),
    "sign": ("1.3", lambda s, t, T: T * ((t / T).softmax(-1) - (s / T).softmax(-1)) / len(s), "sign"),
    "of one text": ("1.3", lambda s, t, T: ((s / T).softmax(-1) - (t / T).softmax(-1)) / T, "one text's KL"),
    "no 1/B": ("1.3", lambda s, t, T: T * ((s / T).softmax(-1) - (t / T).softmax(-1)), "1/B is missing"),
    "label without its share": ("1.4", lambda y, C, e: torch.full((len(y), C), e / C).scatter(
        1, y[:, None], 1 - e), "own share"),
    "argmax of all": ("0.1", lambda s, t: (s.argmax() == t.argmax()).float(), "dim=-1"),
    "rounded": ("0.2", lambda s, t: round(s / t, 2), "rounded"),
    "others only": ("1.4", lambda y, C, e: torch.full((len(y), C), e / (C - 1)).scatter(
        1, y[:, None], 1 - e), "other classes only"),
    "counts": ("0.1", lambda s, t: (s.argmax(-1) == t.argmax(-1)).sum(), "divide by the number"),
    "axis": ("0.1", lambda s, t: (s.argmax(0) == t.argmax(0)).float().mean(), "dim=-1"),
    "swapped": ("0.2", lambda s, t: t / s, "swapped"),
    "no mask": ("2.1", lambda s, m: s.softmax(-1), "no effect"),
    "masked after": ("2.1", lambda s, m: s.softmax(-1) * m[:, None, None, :], "no longer sum to 1"),
    "masked queries": ("2.1", lambda s, m: (s + (m[:, None, :, None] - 1) * 1e9).softmax(-1), "query axis"),
    "queries to -inf": ("2.1", lambda s, m: s.masked_fill(m[..., None, :, None] == 0, -torch.inf).softmax(3),
                        "query axis"),
    "both sides": ("2.1", lambda s, m: s.masked_fill((m[:, :, None] * m[:, None])[:, None] == 0, -1e9).softmax(-1),
                   "rows and columns"),
    "zero instead of -inf": ("2.1", lambda s, m: s.masked_fill(m[:, None, None] == 0, 0).softmax(-1), "exp(0) is 1"),
    "mask turned round": ("2.1", lambda s, m: s.masked_fill(m[:, None, None].bool(), -1e9).softmax(-1),
                          "turned round"),
    "not broadcast": ("2.1", lambda s, m: s.masked_fill(m == 0, -1e9).softmax(-1), "it was given tensors of these"),
    "counted from 0": ("2.2", lambda M, N: [int((m + 1) * N / M + 0.5) - 1 for m in range(M)], "counted from 0"),
    "m from 0": ("2.2", lambda M, N: [int(m * N / M + 0.5) for m in range(M)], "let m run from 1"),
    "first layers": ("2.2", lambda M, N: list(range(1, M + 1)), "preset bottom"),
    "step rounded first": ("2.2", lambda M, N: torch.arange(1, M + 1) * (N // M), "multiply first"),
    "a range": ("2.2", lambda M, N: range(N // M, N + 1, N // M), "fixed step"),
    "from layer 1": ("2.2", lambda M, N: range(1, N + 1, N // M), "begins with the teacher's first layer"),
    "round half to even": ("2.2", lambda M, N: [round(m * N / M) for m in range(1, M + 1)], "to the even number"),
    "longer on some inputs": ("2.2", lambda M, N: [1] * (M + (N == 10)), "the shape"),
    "no biases": ("2.3", lambda w, f: 4 * w * w + 2 * w * f + 4 * w, "biases are missing"),
    "no norms": ("2.3", lambda w, f: 4 * (w * w + w) + 2 * w * f + f + w, "LayerNorms"),
    "matrices only": ("2.3", lambda w, f: 4 * w * w + 2 * w * f, "two things are missing"),
    "scale without shift": ("2.3", lambda w, f: 4 * (w * w + w) + 2 * w * f + f + w + 2 * w, "half of each"),
    "no output matrix": ("2.3", lambda w, f: 3 * (w * w + w) + 2 * w * f + f + w + 4 * w, "four matrices"),
    "FFN four times": ("2.3", lambda w, f: 4 * (w * w + w) + 8 * w * w + 5 * w + 4 * w, "four times the width"),
    "multiply-adds once": ("2.4", lambda w, f, n: n * (4 * w * w + 2 * w * f) + 2 * n * n * w, "counted once"),
    "no pairs": ("2.4", lambda w, f, n: 2 * n * (4 * w * w + 2 * w * f), "length squared"),
    "one product": ("2.4", lambda w, f, n: 2 * n * (4 * w * w + 2 * w * f + n * w), "multiplies twice"),
    "one token": ("2.4", lambda w, f, n: 2 * (4 * w * w + 2 * w * f + 2 * w), "one token"),
    "scores with padding": ("4.1", lambda s, t, m: F.mse_loss(s, t), "padding is counted"),
    "keys only": ("4.1", lambda s, t, m: ((s - t) ** 2)[m[:, None, None, :].bool().expand_as(s)].mean(),
                  "only the keys"),
    "zeroed, not left out": ("4.1", lambda s, t, m: (
        (s - t) * m[:, None, :, None] * m[:, None, None, :]).square().mean(), "still counted in the mean"),
    "of probabilities": ("4.1", lambda s, t, m: ((s.softmax(-1) - t.softmax(-1)) ** 2)[
        (m[:, None, :, None] * m[:, None, None, :]).bool().expand_as(s)].mean(), "probabilities"),
    "hidden with padding": ("4.2", lambda s, t, W, m: ((s @ W - t) ** 2).mean(), "padding is counted"),
    "summed over the width": ("4.2", lambda s, t, W, m: ((s @ W - t)[m.bool()] ** 2).sum(-1).mean(), "summed over"),
    "teacher projected": ("4.2", lambda s, t, W, m: ((t @ W.T - s)[m.bool()] ** 2).mean(), "projected down"),
    "replaced above p": ("4.3", lambda ids, c, chance, pick, p: torch.where(
        chance < p, ids, c[torch.arange(len(ids)), (pick * c.shape[1]).long()]), "turned round"),
    "one row of candidates": ("4.3", lambda ids, c, chance, pick, p: torch.where(
        chance < p, c[0, (pick * c.shape[1]).long()], ids), "a row of its own"),
    "never the last": ("4.3", lambda ids, c, chance, pick, p: torch.where(
        chance < p, c[torch.arange(len(ids)), (pick * (c.shape[1] - 1)).long()], ids), "never taken"),
    "layers counted from 1": ("3.1", lambda M, N: [1 + round(m * (N - 1) / (M - 1)) for m in range(M)],
                              "counted from 1"),
    "every so-manieth layer": ("3.1", lambda M, N: [m * N // M for m in range(M)], "never reaches the teacher's last"),
    "slice with a stride": ("3.1", lambda M, N: list(range(0, N, N // M))[:M], "never reaches the teacher's last"),
    "TinyBERT's map": ("3.1", lambda M, N: [int((m + 1) * N / M + 0.5) - 1 for m in range(M)], "map of TinyBERT"),
    "layers rounded down": ("3.1", lambda M, N: torch.linspace(0, N - 1, M).int(), "rounded down"),
    "layers not rounded": ("3.1", lambda M, N: torch.linspace(0, N - 1, M), "whole numbers"),
    "step of layers rounded": ("3.1", lambda M, N: [m * round((N - 1) / (M - 1)) for m in range(M)], "multiplied"),
    "beyond the last layer": ("3.1", lambda M, N: [round(m * N / (M - 1)) for m in range(M)], "the last number is N"),
    "M steps": ("3.1", lambda M, N: [round(m * (N - 1) / M) for m in range(M)], "divide by M - 1"),
    "padding in the soft targets": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s / T).log_softmax(-1).flatten(0, 1), (t / T).softmax(-1).flatten(0, 1), reduction="batchmean"),
        "padding counts"),
    "batchmean of three axes": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean"), "divides by the first axis only"),
    "mean over the vocabulary": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s / T).log_softmax(-1)[m.bool()], (t / T).softmax(-1)[m.bool()], reduction="mean"),
        "averaged over the vocabulary"),
    "all places and the vocabulary": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1)), "two things: padding counts"),
    "no T^2 over words": ("3.2", lambda s, t, m, T: F.kl_div(
        (s / T).log_softmax(-1)[m.bool()], (t / T).softmax(-1)[m.bool()], reduction="batchmean"), "T^2 is missing"),
    "masked logits": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s * m[..., None] / T).log_softmax(-1), (t * m[..., None] / T).softmax(-1), reduction="none").sum(-1).mean(),
        "divide by the number of real tokens"),
    "words swapped": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (t / T).log_softmax(-1)[m.bool()], (s / T).softmax(-1)[m.bool()], reduction="batchmean"), "are swapped"),
    "text by text": ("3.2", lambda s, t, m, T: T**2 * sum(F.kl_div(
        (a[r] / T).log_softmax(-1), (b[r] / T).softmax(-1), reduction="batchmean")
        for a, b, r in zip(s, t, m.bool(), strict=True)) / len(s), "a word in a short text counts for more"),
    "mask of numbers": ("3.2", lambda s, t, m, T: T**2 * F.kl_div(
        (s / T).log_softmax(-1)[m], (t / T).softmax(-1)[m], reduction="none").sum(-1).mean(), "rows 0 and 1"),
    "similarity": ("3.3", lambda s, t, m: F.cosine_similarity(s, t, dim=-1)[m.bool()].mean(), "take 1 - cos"),
    "minus cosine": ("3.3", lambda s, t, m: -F.cosine_similarity(s[m.bool()], t[m.bool()]).mean(), "its floor is -1"),
    "padding in the cosine": ("3.3", lambda s, t, m: 1 - F.cosine_similarity(s, t, dim=2).mean(), "padding counts"),
    "padding in the loss": ("3.3", lambda s, t, m: (1 - F.cosine_similarity(s, t, dim=2)).mean(), "padding counts"),
    "states set to 0": ("3.3", lambda s, t, m: (1 - F.cosine_similarity(
        s * m[..., None], t * m[..., None], dim=-1)).mean(), "padding gets the cosine 0"),
    "loss set to 0": ("3.3", lambda s, t, m: ((1 - F.cosine_similarity(s, t, dim=-1)) * m).mean(), "mask.sum()"),
    "dim left out": ("3.3", lambda s, t, m: (1 - F.cosine_similarity(s, t)).mean(), "has dim=1 unless told"),
    "dot product": ("3.3", lambda s, t, m: (1 - (s * t).sum(-1))[m.bool()].mean(), "divide by both lengths"),
    "distance of normalised states": ("3.3", lambda s, t, m: (
        (F.normalize(s, dim=-1) - F.normalize(t, dim=-1))[m.bool()] ** 2).sum(-1).mean(), "twice too large"),
    "squared difference": ("3.3", lambda s, t, m: F.mse_loss(s[m.bool()], t[m.bool()]), "minds the lengths"),
    "odds not normalised": ("3.4", lambda c, i: (c.clip(min=1) ** -0.7).index_fill(0, i, 0), "do not sum to 1"),
    "specials hidden": ("3.4", lambda c, i: c.clip(min=1) ** -0.7 / (c.clip(min=1) ** -0.7).sum(),
                        "special tokens can"),
    "specials last": ("3.4", lambda c, i: (c.clip(min=1) ** -0.7 / (c.clip(min=1) ** -0.7).sum()).index_fill(0, i, 0),
                      "set them to 0 first"),
    "power upside down": ("3.4", lambda c, i: F.normalize((c.clip(min=1) ** 0.7).index_fill(0, i, 0), p=1, dim=0),
                          "sign of the power"),
    "zero counts": ("3.4", lambda c, i: F.normalize((c ** -0.7).index_fill(0, i, 0), p=1, dim=0), "infinite"),
    "one over count": ("3.4", lambda c, i: F.normalize((1 / c.clip(min=1)).index_fill(0, i, 0), p=1, dim=0),
                       "1 / count"),
    "shares of the hidden": ("3.4", lambda c, i: F.normalize(
        (c * c.clip(min=1) ** -0.7).index_fill(0, i, 0), p=1, dim=0), "odds are per occurrence"),
    "all three faults": ("7.1", lambda s, t, y, T, w: w * F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1))
                         + (1 - w) * F.cross_entropy(s / T, y), "all three faults"),
    "only the average mended": ("7.1", lambda s, t, y, T, w: w * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + (1 - w) * F.cross_entropy(s / T, y),
        "average is right now; two faults"),
    "only T^2 mended": ("7.1", lambda s, t, y, T, w: w * T**2 * F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1))
                        + (1 - w) * F.cross_entropy(s / T, y), "T**2 is in; two faults"),
    "only the labels mended": ("7.1", lambda s, t, y, T, w: w * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1)) + (1 - w) * F.cross_entropy(s, y), "hard labels are right now"),
    "labels still softened": ("7.1", lambda s, t, y, T, w: w * T**2 * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + (1 - w) * F.cross_entropy(s / T, y),
        "one fault is left: the hard labels"),
    "T^2 over both": ("7.1", lambda s, t, y, T, w: T**2 * (w * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + (1 - w) * F.cross_entropy(s, y)),
        "multiplies the hard labels too"),
    "weights swapped": ("7.1", lambda s, t, y, T, w: (1 - w) * T**2 * F.kl_div(
        (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + w * F.cross_entropy(s, y),
        "weights are swapped"),
    "teacher with itself": ("7.1", lambda s, t, y, T, w: w * T**2 * F.kl_div(
        (t / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean") + (1 - w) * F.cross_entropy(s, y),
        "come from the same model"),
    "first lines": ("7.2", lambda stored, order, rows: stored[:len(rows)], "first lines of the cache"),
    "order ignored": ("7.2", lambda stored, order, rows: stored[rows], "line i belongs to row order[i]"),
    "order not inverted": ("7.2", lambda stored, order, rows: stored[order][rows], "invert the permutation"),
    "in the cache's order": ("7.2", lambda stored, order, rows: stored[[int(o) in rows.tolist() for o in order]],
                             "in the cache's order"),
    "score loss unmended": ("7.3", lambda s, t, mask: F.mse_loss(s, t), "infinite"),
    "first token real": ("7.3", lambda s, t, mask: (s - t)[mask.bool()[:, None, :, None].expand_as(s)].square().mean(),
                         "infinite"),
    "second token real": ("7.3", lambda s, t, mask: (s - t)[mask.bool()[:, None, None].expand_as(s)].square().mean(),
                          "a pair needs both"),
    "squares times mask": ("7.3", lambda s, t, mask: ((s - t) ** 2 * mask[:, None, :, None] * mask[:, None, None]).sum()
                           / (mask.sum(1) ** 2).sum() / s.shape[1], "infinity times 0"),
    "padding as zeros": ("7.3", lambda s, t, mask: F.mse_loss(*(
        x * mask[:, None, :, None] * mask[:, None, None] for x in (s, t))), "TinyBERT's released code"),
    "heads forgotten": ("7.3", lambda s, t, mask: (
        (s - t) * mask[:, None, :, None] * mask[:, None, None]).square().sum() / (mask.sum(1) ** 2).sum(),
        "too large by the number of heads"),
    "no alarm": ("7.4", lambda loss, s, t: detect(loss, s, t, alarm=False), "compares the teacher with itself"),
    "zero not asked": ("7.4", lambda loss, s, t: detect(loss, s, t, zero=False), "softens only the student"),
    "T not asked": ("7.4", lambda loss, s, t: detect(loss, s, t, flat=False), "a loss without T^2"),
    "classes not asked": ("7.4", lambda loss, s, t: detect(loss, s, t, wide=False), "averages over classes"),
    "only two questions": ("7.4", lambda loss, s, t: detect(loss, s, t, flat=False, wide=False), "half of it"),
    "all is well": ("7.4", lambda loss, s, t: True, "every loss sound"),
    "nothing is": ("7.4", lambda loss, s, t: loss(t, t, 8) == 0 and loss(s, t, 8) < 0, "too strict"),
    "turned round": ("7.4", lambda loss, s, t: not detect(loss, s, t), "turned round"),
    "gamma on columns": ("5.1", lambda W, b, gamma, beta: (W.T * gamma).T.T, "transposed"),
    "gamma forgotten": ("5.1", lambda W, b, gamma, beta: W.clone(), "leaves gamma out"),
    "order turned": ("5.2", lambda e: torch.cat([F.pad(e, (0, 0, 1, 0))[:, :-1], e, F.pad(e, (0, 0, 0, 1))[:, 1:]], 2),
                     "turned round"),
    "rolled": ("5.2", lambda e: torch.cat([torch.roll(e, -1, 1), e, torch.roll(e, 1, 1)], 2), "roll brings the first"),
    "kl_div's order": ("5.3", lambda s, t, m: F.kl_div(
        *(x.masked_fill(m[:, None, None] == 0, -1e9).log_softmax(-1) for x in (t, s)), reduction="none",
        log_target=True).sum(-1)[m[:, None].bool().expand(-1, s.shape[1], -1)].mean(), "swapped"),
    "two independent groups": ("6.1", lambda a, b: [(a - b).mean(), ((a.std()**2 + b.std()**2) / len(a)) ** 0.5],
                               "two independent groups"),
    "no root": ("6.1", lambda a, b: [a.mean() - b.mean(), (a - b).std() / len(a)], "sqrt(n)"),
    "numpy's std": ("6.1", lambda a, b: [a.mean() - b.mean(), (a - b).numpy().std() / len(a) ** 0.5], "n - 1"),
    "no bins": ("6.2", lambda c, r, n: abs(c.mean() - r.mean()), "all answers at once"),
    "bins alike": ("6.2", lambda c, r, n: sum(
        abs(c[at].mean() - r[at].mean()) for at in [(c * n).floor() == k for k in range(n)] if at.any())
        / sum(bool(((c * n).floor() == k).any()) for k in range(n)), "count alike"),
    "cosine": ("8.1", lambda x, y: 1 - F.cosine_similarity(x, y, dim=-1).mean(), "take away each row's mean"),
    "wrong way": ("8.1", lambda x, y: torch.stack([torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(
        x, y, strict=True)]).mean(), "this is the correlation itself"),
    "columns": ("8.1", lambda x, y: 1 - torch.stack([torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(
        x.T, y.T, strict=True)]).mean(), "a row is the last axis"),
    "all rows at once": ("8.1", lambda x, y: 1 - torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1],
                         "all rows together"),
    "rows only": ("8.2", lambda s, t, T: T**2 * pearson_apart((s / T).softmax(1), (t / T).softmax(1)),
                  "only the rows"),
    "of logits": ("8.2", lambda s, t, T: T**2 * (pearson_apart(s / T, t / T) + pearson_apart(s.T / T, t.T / T)),
                  "these are the logits"),
    "no T squared": ("8.2", lambda s, t, T: both_apart((s / T).softmax(1), (t / T).softmax(1)), "T^2 is missing"),
    "no T at all": ("8.2", lambda s, t, T: both_apart(s.softmax(1), t.softmax(1)), "T has no effect"),
    "texts for classes": ("8.2", lambda s, t, T: T**2 * both_apart((s / T).softmax(0), (t / T).softmax(0)),
                          "the softmax runs over the texts"),
    "not whole": ("8.3", lambda g: (2 * g.std() / g.mean()) ** 2, "round it up"),
    "one error": ("8.3", lambda g: math.ceil((g.std() / g.mean()) ** 2), "two were asked for"),
    "no square": ("8.3", lambda g: math.ceil(2 * g.std() / abs(g.mean())), "the square is missing"),
    "no backward": ("9.1", lambda s, t, n: n * (s + t), "the student's backward pass is missing"),
    "all three times": ("9.1", lambda s, t, n: n * 3 * s + n * 3 * t, "the teacher goes backward here"),
    "no teacher": ("9.1", lambda s, t, n: 3 * n * s, "the teacher is missing"),
    "seconds": ("9.2", lambda f, n, p, u: f / n / p / u, "these are seconds"),
    "peak": ("9.2", lambda f, n, p, u: f / n / p / 3600, "nobody reaches the peak"),
    "best alone": ("6.3", lambda c, s: [float(i == s.argmax()) for i in range(len(s))], "the best model alone"),
    "dear is good": ("6.3", lambda c, s: [float(not any(c[j] >= c[i] and s[j] >= s[i] and j != i
                                                        for j in range(len(s)))) for i in range(len(s))],
                     "costs are turned round"),
}


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_classic_mistake_gets_its_own_hint(name):
    number, wrong, hint = MISTAKES[name]
    result = check(number, wrong)
    assert not result.passed
    assert hint in result.said


@pytest.mark.parametrize("number", EXERCISES)
def test_the_right_function_passes_and_no_mistake_is_right_or_another_mistake(number):
    exercise = EXERCISES[number]
    assert check(number, exercise.right).passed
    hints = [check(number, wrong).said for wrong, _ in exercise.mistakes]
    expected = [hint for _, hint in exercise.mistakes]
    assert [said.split(": ", 1)[1] for said in hints] == expected


@pytest.mark.parametrize(("function", "said"), [
    (lambda s, t, T: ..., "not written yet"), (lambda s, t, T: None, "not written yet"),
    (lambda s, t, T: f"{T:.0%}", "returned a str"), (lambda s, t, T: s @ t, "shapes, or numbers: ("),
    (lambda s, t, T: s / t.shape["x"], "stopped with TypeError"), (lambda s: s, "stopped with TypeError"),
    (lambda s, t, T: s, "the shape"), (lambda s, t, T: torch.tensor(float("inf")), "infinite or NaN"),
    (lambda s, t, T: torch.tensor(3.0), "should give"),
])
def test_anything_else_gets_a_sentence(function, said):
    result = check("1.2", function)
    assert not result.passed and said in result.said


def test_an_unknown_exercise_is_named():
    result = check("9.9", lambda: 0)
    assert not result.passed and "there is no exercise 9.9; there are 0.1" in repr(result)


def test_the_gradient_exercise_agrees_with_autograd():
    def gradient(student, teacher, T):
        student = student.double().requires_grad_()
        loss = T**2 * F.kl_div(F.log_softmax(student / T, -1), F.softmax(teacher.double() / T, -1),
                               reduction="batchmean")
        loss.backward()
        return student.grad
    assert check("1.3", gradient).passed


def test_the_numbers_shown_are_those_that_differ():
    def almost(labels, C, e):
        right = (1 - e) * F.one_hot(labels, C).double() + e / C
        right[-1] = 0.123
        return right
    said = check("1.4", almost).said
    assert "gives [0.123, 0.123, 0.123, 0.123, 0.123] and should give [0." in said
