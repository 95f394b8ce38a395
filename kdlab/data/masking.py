"""Masking for masked-word objectives: dynamic, other tokens hidden every time a text is seen, or static, once."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from ..errors import KdlabError
from ..losses import IGNORED
from ..models.tracing import Batch
from .batches import Rows


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
        ids = batch["input_ids"]
        shown, labels = self.hide(ids.flatten(), int(batch["attention_mask"].sum()))
        return {**batch, "input_ids": shown.view(ids.shape), "mlm_labels": labels.view(ids.shape)}

    def hide(self, ids: Tensor, real: int) -> tuple[Tensor, Tensor]:
        """Of tokens `ids` (n,), of which `real` are no padding: what is shown of them, and the labels, both (n,)."""
        hidden = self._choose(ids, int(self.rate * real))
        labels = torch.full_like(ids, IGNORED)
        labels[hidden] = ids[hidden]
        fate = torch.rand(len(hidden))
        other = self.ordinary[torch.randint(len(self.ordinary), (len(hidden),))]
        shown = ids.clone()
        shown[hidden] = torch.where(fate < 0.8, self.mask_id,
                                    torch.where(fate < 0.9, other, ids[hidden].cpu())).to(ids.device)
        return shown, labels

    def _choose(self, ids: Tensor, count: int) -> Tensor:
        odds = self.odds[ids.cpu()]
        count = min(max(count, 1), int((odds > 0).sum()))
        return torch.multinomial(odds, count).to(ids.device)


def mask_once(data: Dataset, masking: Masking, copies: int = 1, seed: int = 0) -> Dataset:
    """Static masking: `copies` of each text, with other tokens hidden in each, to be seen so every time.

    A row has the columns of `data` and mlm_labels, and a stage on such rows needs no transform, so that a `cache=` can
    keep what the teacher says of them. Every 1,000 texts lose the masking's `rate` of their tokens together. BERT was
    trained on ten copies, each seen four times (Liu et al. 2019, arXiv 1907.11692, section 4.1, who compare the two
    ways). Raises `KdlabError` for less than one copy, and for texts that are masked already.
    """
    if copies < 1:
        raise KdlabError(f"{copies} copies of each text are to be masked; give 1 or more")
    if "mlm_labels" in data.column_names:
        raise KdlabError("the texts are masked already (mlm_labels); mask the texts that these were made of")

    def hide(texts: dict[str, list], numbers: list[int], copy: int) -> dict[str, list]:
        ids = np.concatenate(texts["input_ids"]).astype(np.int64)
        ends = np.cumsum([len(text) for text in texts["input_ids"]])[:-1]
        of_these = int(np.random.SeedSequence([seed, copy, numbers[0]]).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(of_these)       # those of a CUDA device are not touched
            shown, labels = masking.hide(torch.from_numpy(ids), len(ids))
        return {"input_ids": np.split(shown.numpy(), ends), "mlm_labels": np.split(labels.numpy(), ends)}

    data = data.with_format(None)
    return concatenate_datasets([data.map(hide, batched=True, with_indices=True, fn_kwargs={"copy": copy})
                                 for copy in range(copies)])
