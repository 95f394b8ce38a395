"""The peak of memory that a run states beforehand, against what the operating system saw."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
import json, re, sys
from pathlib import Path
import numpy as np, torch
from datasets import Dataset
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification
from kdlab.data.batches import Rows
from kdlab.loop import Stage, distill
from kdlab.terms.inside import AttentionScores, HiddenStates
from kdlab.terms.objective import Objective, SoftTargets

kind, layers, width, batch_size = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
rng = np.random.default_rng(0)
data = Dataset.from_dict({"input_ids": [rng.integers(5, 8000, int(n)).tolist() for n in rng.integers(20, 64, 512)]})
def model():
    config = BertConfig(vocab_size=8000, num_hidden_layers=layers, hidden_size=width, num_attention_heads=8,
                        intermediate_size=4 * width, max_position_embeddings=64)
    return (BertForMaskedLM if kind == "language" else BertForSequenceClassification)(config)
terms = {"soft": lambda: [SoftTargets()], "language": lambda: [SoftTargets()],
         "inside": lambda: [HiddenStates(((0, 0), (2, 2))), AttentionScores(((2, 2),))]}[kind]()
student, teacher = model(), model()
distill(student, data, Stage(Objective(terms), 1, 2), teacher, progress=False)      # what is loaded at first use
Path("/proc/self/clear_refs").write_text("5")       # the high-water mark begins anew
run = distill(student, data, Stage(Objective(terms), 12, batch_size), teacher, progress=False)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
print(json.dumps([run.report["expected_peak_mib"], int(peak) / 1024]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind, layers, width, batch_size", [
    ("soft", 4, 256, 64), ("inside", 4, 256, 64), ("language", 2, 128, 64)])
def test_the_peak_holds_within_a_fifth(kind, layers, width, batch_size):
    done = subprocess.run([sys.executable, "-c", PROGRAM, kind, str(layers), str(width), str(batch_size)], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    expected, peak = json.loads(done.stdout.splitlines()[-1])
    assert expected == pytest.approx(peak, rel=0.2)
    assert peak > 700, "the run is large enough to show beside the libraries"
