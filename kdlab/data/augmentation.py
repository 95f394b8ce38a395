"""Data augmentation by the teacher's own masked language model (TinyBERT, algorithm 1).

For every word of a text there is a list of K candidates: the words that the language model thinks most likely in
its place, or, for a word of several pieces, which a mask for one piece cannot stand for, its nearest neighbours
among the embeddings. (The paper takes GloVe vectors for those; the teacher's own embeddings need no download.)
Each word is then replaced by a random candidate with probability p, N times over.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import KdlabError
from ..models.tracing import trace_teacher
from .encoding import encode

BATCH = 256     # masked sentences that the language model reads at once


class Augmenter:
    """Variants of texts. p, copies and candidates default to the paper's p_t = 0.4, N_a = 20, K = 15."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, p: float = 0.4, copies: int = 20,
                 candidates: int = 15) -> None:
        if not 0 <= p <= 1 or copies < 1 or candidates < 1:
            raise KdlabError(f"p is {p:g}, copies {copies} and candidates {candidates}; p is between 0 and 1 and the "
                             "others are 1 or more")
        self.model, self.tokenizer = model, tokenizer
        self.p, self.copies, self.candidates = p, copies, candidates
        vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        spare = max(0, model.config.vocab_size - len(vocabulary))       # some models have room for more tokens
        whole = torch.tensor([token.isalpha() for token in vocabulary] + [False] * spare)
        self.never = ~whole                                 # punctuation, pieces and special tokens replace nothing
        self.vocabulary = vocabulary

    def __call__(self, data: Dataset, seed: int = 0) -> Dataset:
        """The rows of `data` and up to `copies` variants of each text, encoded, with the label of the original.

        data: encoded rows with the column text, and pair where the task is on pairs: of a pair, each text is varied
        beside the other as it was, as TinyBERT's code does it. Variants equal to a row already there are dropped. The
        order is that of `data`, each row followed by its variants; the same seed gives the same variants.
        """
        rng = torch.Generator().manual_seed(seed)
        kinds = [what for what in ("text", "pair") if what in data.column_names]
        columns = [list(data[what][:]) for what in kinds]
        words = [self._candidates(texts) for texts in columns]
        made, rows = [], []
        for row, original in enumerate(zip(*columns, strict=True)):
            variants = [original]
            for i, text in enumerate(original):
                variants += [(*original[:i], self._variant(text, words[i][row], rng), *original[i + 1:])
                             for _ in range(self.copies)]
            variants = list(dict.fromkeys(variants))
            made += variants
            rows += [row] * len(variants)
        table = dict(zip(kinds, map(list, zip(*made, strict=True)), strict=True))
        if "label" in data.column_names:
            labels = data["label"][:]
            table["label"] = [labels[row] for row in rows]
        return encode(Dataset.from_dict(table), self.tokenizer)

    def _variant(self, text: str, words: list[tuple[int, int, list[str]]], rng: torch.Generator) -> str:
        draws = torch.rand(len(words), 2, generator=rng).tolist()
        for (start, end, choices), (chance, which) in reversed(list(zip(words, draws, strict=True))):
            if chance < self.p and choices:
                text = text[:start] + choices[int(which * len(choices))] + text[end:]
        return text

    def _candidates(self, texts: list[str]) -> list[list[tuple[int, int, list[str]]]]:
        """For each text its words: where they begin and end, and what may stand in their place."""
        coded = self.tokenizer(texts, truncation=True, return_offsets_mapping=True)
        ids, offsets = coded["input_ids"], coded["offset_mapping"]
        found: list[list] = [[] for _ in texts]
        single: list[tuple[int, int, int]] = []         # text, its place in found[text], token
        for row in range(len(texts)):
            for first, last in _words(coded.word_ids(row)):
                start, end = offsets[row][first][0], offsets[row][last][1]
                if not texts[row][start:end].isalpha():
                    continue
                if first == last:
                    single.append((row, len(found[row]), first))
                    found[row].append((start, end, []))
                else:
                    found[row].append((start, end, self._neighbours(ids[row][first:last + 1])))
        # one forward pass per BATCH masked sentences, not one per word; sentences of like length together
        single.sort(key=lambda item: len(ids[item[0]]))
        for i in range(0, len(single), BATCH):
            part = single[i:i + BATCH]
            best = self._most_likely([ids[row] for row, _, _ in part], [place for _, _, place in part])
            for (row, word, _), choices in zip(part, best, strict=True):
                found[row][word][2].extend(choices)
        return found

    def _most_likely(self, rows: list[list[int]], places: list[int]) -> list[list[str]]:
        length, device = max(map(len, rows)), next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
        at = torch.arange(len(rows), device=device), torch.tensor(places, device=device)
        ids[at] = self.tokenizer.mask_token_id
        logits = trace_teacher(self.model, {"input_ids": ids, "attention_mask": mask}).logits[at]
        return self._best(logits.float().cpu())

    def _neighbours(self, pieces: list[int]) -> list[str]:
        table = self.model.get_input_embeddings().weight.detach().float().cpu()
        word = table[pieces].mean(dim=0, keepdim=True)
        return self._best(F.cosine_similarity(table, word)[None])[0]

    def _best(self, scores: Tensor) -> list[list[str]]:
        scores = scores.masked_fill(self.never, -torch.inf)
        best = scores.topk(min(self.candidates, int((~self.never).sum())), dim=-1).indices
        return [[self.vocabulary[i] for i in row] for row in best.tolist()]


def _words(word_ids: list[int | None]) -> list[tuple[int, int]]:
    """First and last token of each word."""
    spans: list[list[int]] = []
    for token, word in enumerate(word_ids):
        if word is None:
            continue
        if spans and word_ids[spans[-1][0]] == word:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    return [(first, last) for first, last in spans]
