"""What a model answers to every row of a data set."""

from __future__ import annotations

import torch
from datasets import Dataset
from torch import Tensor, nn

from ..data.batches import Rows, in_order
from ..models.tracing import trace
from .fast_path import fast_path

LOGITS = {("logits", None)}


@torch.no_grad()
def predict(model: nn.Module, data: Dataset | Rows) -> Tensor:
    """The model's logits on every row, (rows, C), in the rows' order.

    Computed in eval mode; the model is left in the mode it came in.
    """
    rows = data if isinstance(data, Rows) else Rows(data, model.config.pad_token_id or 0)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    body = fast_path(model, LOGITS)
    try:
        logits = None
        for batch in in_order(rows, device, width=model.config.hidden_size):
            part = trace(body, batch).logits.float().cpu()
            logits = torch.empty(len(rows), part.shape[-1]) if logits is None else logits
            logits[batch["row"].cpu()] = part
        return logits
    finally:
        model.train(was_training)
