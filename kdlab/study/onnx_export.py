"""The last step: a student as ONNX, and that in eight bits, with what each is worth and costs.

Needs the extra packages of `pip install -e .[export]`.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.batches import Rows, in_order
from ..data.tasks import Task
from ..errors import KdlabError, require
from ..files import new_folder, replaced_file
from ..models.tracing import Batch
from . import metrics

PLAIN, INT8 = "model.onnx", "model-int8.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export(model: PreTrainedModel, task: Task, folder: str | Path) -> dict[str, dict[str, float]]:
    """Write `folder`/model.onnx and model-int8.onnx (dynamic quantisation of the matrix products and embeddings), and
    measure them and the model on the task's test split.

    Inputs input_ids, attention_mask (and token_type_ids, of models that tell segments apart), (B, L) of int64; output
    logits, (B, C). Returns for "torch", "onnx" and "onnx int8" the score, megabytes, latency_ms of one text (of the
    longest test text's length) and the largest difference of a logit from torch's. Raises `KdlabError` where the
    packages are missing, or where what was written does not say what the model says.
    """
    require("the export", *PACKAGES)
    folder, rows = Path(folder), Rows(task["test"], model.config.pad_token_id or 0)
    model = model.cpu().eval()
    own = _inputs(rows.batch([int(rows.lengths.argmax())] * 2), model)
    new_folder(folder)
    with replaced_file(folder / PLAIN) as unfinished:
        _write_onnx(model, own, unfinished)
    with replaced_file(folder / INT8) as unfinished:
        _write_int8(folder / PLAIN, unfinished)

    expected = metrics.predict(model, rows)
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    found = {"torch": {**_score(expected, task), "megabytes": weights / 1e6, "difference": 0.0,
                       "latency_ms": metrics.latency(model, own["input_ids"].shape[1])}}
    one = {name: values[:1] for name, values in own.items()}
    for name, file in (("onnx", PLAIN), ("onnx int8", INT8)):
        answer = _session(folder / file)
        logits = torch.empty_like(expected)
        for batch in in_order(rows, width=model.config.hidden_size):
            logits[batch["row"]] = answer(_inputs(batch, model))
        found[name] = {**_score(logits, task), "megabytes": (folder / file).stat().st_size / 1e6,
                       "difference": (logits - expected).abs().max().item(), "latency_ms": _latency(answer, one)}
    if found["onnx"]["difference"] > 1e-2:
        raise KdlabError(f"{folder / PLAIN}: its logits differ from the model's by {found['onnx']['difference']:.2g}, "
                         "so do not use it; this architecture cannot be exported by this version of torch")
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """What `export` returns, as text."""
    score = next(iter(found["torch"]))
    lines = [f"{'model':<12}{score:>10}{'megabytes':>12}{'latency ms':>12}{'largest difference':>20}"]
    lines += [f"{name:<12}{one[score]:>10.4f}{one['megabytes']:>12.2f}{one['latency_ms']:>12.2f}"
              f"{one['difference']:>20.2g}" for name, one in found.items()]
    return "\n".join(lines) + "\n"


def _inputs(batch: Batch, model: PreTrainedModel) -> dict[str, Tensor]:
    """What the model is given; segments always, where it tells them apart, since its tokenizer always names them."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
    return given


class _Logits(nn.Module):
    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits


def _write_onnx(model: PreTrainedModel, inputs: dict[str, Tensor], path: Path) -> None:
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")     # of the exporter, about itself
        torch.onnx.export(_Logits(model, list(inputs)), tuple(inputs.values()), str(path), dynamo=True,
                          input_names=list(inputs), output_names=["logits"], dynamic_shapes=((free,) * len(inputs),),
                          external_data=False, verbose=False)


def _write_int8(plain: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)     # it recommends a step for images
    try:
        quantize_dynamic(str(plain), str(path), weight_type=QuantType.QInt8)
    finally:
        logging.getLogger().setLevel(before)


def _session(path: Path) -> Callable[[dict[str, Tensor]], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda given: torch.from_numpy(session.run(["logits"], {n: x.numpy() for n, x in given.items()})[0])


def _score(logits: Tensor, task: Task) -> dict[str, float]:
    labels = torch.tensor(task["test"]["label"][:])
    if task.is_regression:
        return {"pearson": metrics.correlations(logits[:, 0], labels)["pearson"]}
    return {"accuracy": metrics.accuracy(logits, labels)}


def _latency(answer: Callable[[dict[str, Tensor]], Tensor], one: dict[str, Tensor], repeats: int = 20) -> float:
    times = []
    for _ in range(3 + repeats):
        began = time.perf_counter()
        answer(one)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[3:])
