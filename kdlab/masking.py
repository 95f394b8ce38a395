"""Dynamic masking for masked-word objectives: other tokens hidden every time a text is seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .batches import Rows
from .losses import IGNORED
from .trace import Batch


class Masking:
    """Hides tokens to be predicted: 80% become [MASK], 10% a random token, 10% stay (BERT, section 3.1).

    Which tokens: drawn with odds count^-smoothing, so that rare words are asked for more often than
    "the" (smoothing 0.7 in DistilBERT's released code; 0 is BERT's even choice). `rate` is the part of
    a batch's real tokens that is hidden. Special tokens never are.
    """

    def __init__(self, tokenizer, rows: Rows, rate: float = 0.15, smoothing: float = 0.7) -> None:
        counts = sum(np.bincount(part, minlength=len(tokenizer)) for part in rows.tokens.parts).clip(min=1)
        odds = torch.from_numpy(counts.astype(np.float64) ** -smoothing)
        odds[tokenizer.all_special_ids] = 0.0
        self.odds, self.rate = odds, rate
        self.mask_id = tokenizer.mask_token_id
        self.ordinary = torch.from_numpy(np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids))

    def __call__(self, batch: Batch) -> Batch:
        """The batch with tokens hidden, and mlm_labels (B, L): the true id where hidden, else -100."""
        ids = batch["input_ids"].flatten()
        hidden = self._choose(ids, int(self.rate * batch["attention_mask"].sum()))
        labels = torch.full_like(ids, IGNORED)
        labels[hidden] = ids[hidden]
        fate = torch.rand(len(hidden))
        other = self.ordinary[torch.randint(len(self.ordinary), (len(hidden),))]
        shown = torch.where(fate < 0.8, self.mask_id, torch.where(fate < 0.9, other, ids[hidden].cpu()))
        ids = ids.clone()
        ids[hidden] = shown.to(ids.device)
        shape = batch["input_ids"].shape
        return {**batch, "input_ids": ids.view(shape), "mlm_labels": labels.view(shape)}

    def _choose(self, ids: Tensor, count: int) -> Tensor:
        odds = self.odds[ids.cpu()]
        count = min(max(count, 1), int((odds > 0).sum()))
        return torch.multinomial(odds, count).to(ids.device)
