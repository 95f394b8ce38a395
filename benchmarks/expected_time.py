"""How long would the papers' own trainings take, on a laptop, on one GPU, on eight? Worked out, and not run.

    FLOPs = texts x (3 x the student's forward pass + the teacher's)        seconds = FLOPs / (devices x peak x part)

Forward passes are counted on the models themselves (without weights). DistilBERT's 90 hours on 8 V100 (paper, section
3) are the check: they say what part of a V100's peak the formula makes of them. The peaks are the makers' data
sheets'; what part of it a training reaches is nobody's to compute: 0.3 is assumed for bfloat16 on newer GPUs.

    python benchmarks/expected_time.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import kdlab  # noqa: F401, I001 before torch

import torch
from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig

from kdlab.study import metrics
from kdlab.models.architectures import ARCHITECTURES, build

WIKIPEDIA, BOOKS = 2_500e6, 800e6       # words (Devlin et al. 2019, section 3.1)
TOKENS_A_WORD = 1.3                     # assumed, of WordPiece on English
EPOCHS = 3                              # DistilBERT's released code; TinyBERT, section 4.2
V100 = {"float32": 15.7e12, "half precision": 125e12}      # FLOP/s of one
PART = 0.3
CORES_PART = 0.45                       # of the machine's own products, as roofline.py measured at 4 x 256
GPUS = {"1 A100, bfloat16": (1, 312e12), "8 A100, bfloat16": (8, 312e12), "1 H100, bfloat16": (1, 989e12),
        "8 H100, bfloat16": (8, 989e12)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds in any case")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    runs = {"DistilBERT": distilbert(), "TinyBERT-4, general stage": tinybert()}
    figures: dict[str, float] = {}
    for precision, peak in V100.items():
        figures[f"v100_part_{precision}"] = part = runs["DistilBERT"] / (8 * 90 * 3600 * peak)
        print(f"DistilBERT in 90 hours on 8 V100: {part:.1%} of their peak in {precision}")
    here = products()
    machines = {f"this machine, {torch.get_num_threads()} cores at {here / 1e9:.0f} GFLOP/s": here * CORES_PART,
                "8 V100, as DistilBERT's": runs["DistilBERT"] / (90 * 3600),
                **{name: count * peak * PART for name, (count, peak) in GPUS.items()}}
    print(f"\n{'hours':<42}" + "".join(f"{name:>28}" for name in runs))
    for machine, speed in machines.items():
        hours = {name: total / speed / 3600 for name, total in runs.items()}
        figures |= {f"{machine}: {name}": value for name, value in hours.items()}
        print(f"{machine:<42}" + "".join(f"{value:>28,.1f}" for value in hours.values()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def distilbert() -> float:
    """FLOPs: both models with their language heads at every token, texts of 512 tokens."""
    with torch.device("meta"):
        teacher, student = (metrics.flops(AutoModelForMaskedLM.from_config(config), 512)
                            for config in (BertConfig(), DistilBertConfig()))
    return (3 * student + teacher) * EPOCHS * TOKENS_A_WORD * (WIKIPEDIA + BOOKS) / 512


def tinybert() -> float:
    """FLOPs: the bodies alone, since the general stage has no prediction loss; Wikipedia in texts of 128 tokens."""
    teacher, student = (metrics.flops(build(ARCHITECTURES[name].config, device="meta"), 128)
                        for name in ("BERT-base", "TinyBERT-4"))
    return (3 * student + teacher) * EPOCHS * TOKENS_A_WORD * WIKIPEDIA / 128


def products(width: int = 768, tokens: int = 2_048) -> float:
    """FLOP/s of this machine's matrix products of a BERT's shape."""
    a, b = torch.randn(tokens, width), torch.randn(width, 4 * width)
    best = min(_seconds(a, b) for _ in range(10))
    return 2 * tokens * width * 4 * width / best


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    began = time.perf_counter()
    a @ b
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
