"""Progress on disk: all that a run needs to go on as if nothing had happened.

A checkpoint is one folder with state.safetensors (weights, optimiser moments, random state, probes)
and state.json (where the run was, its history, whose run it is). It is replaced whole.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import KdlabError
from .files import replaced_folder
from .run import Run

TENSORS, RECORD = "state.safetensors", "state.json"


class Checkpoint:
    """The place of one run's progress; without a folder it holds nothing and saves nothing."""

    def __init__(self, folder: str | Path | None, identity: str) -> None:
        self.folder = Path(folder) if folder else None
        self.identity = identity
        self.tensors, self.record = self._load()

    @property
    def stage(self) -> int:
        """The stage to go on with, and with `step` the steps of it that are done."""
        return self.record.get("stage", 0)

    @property
    def step(self) -> int:
        return self.record.get("step", 0)

    def _load(self) -> tuple[dict[str, Tensor], dict]:
        if self.folder is None or not self.folder.exists():
            return {}, {}
        advice = "give checkpoint= another folder, or delete this one"
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            tensors = load_file(self.folder / TENSORS)
        except (OSError, ValueError, SafetensorError) as error:
            raise KdlabError(f"{self.folder}: this is no whole checkpoint ({error}); {advice}") from None
        if record.get("identity") != self.identity:
            raise KdlabError(f"{self.folder}: this checkpoint belongs to a run with other models, data, "
                             f"stages or seed; {advice}")
        return tensors, record

    def restore_weights(self, student: nn.Module) -> None:
        if self.record:
            student.load_state_dict(self._group("student."))

    def restore_stage(self, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Objective parameters, optimiser moments and random state of the stage that was under way."""
        if not self.record:
            return
        objective.load_state_dict(self._group("objective."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self._group("optimizer.").items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        torch.set_rng_state(self.tensors["random"])

    def probes(self) -> list[Tensor]:
        return list(self.tensors.get("probes", ()))

    def save(self, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer,
             run: Run, stage: int, step: int) -> None:
        """Write everything, with `step` steps of stage number `stage` done."""
        if self.folder is None:
            return
        tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
        tensors |= {f"objective.{k}": v for k, v in objective.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        tensors["random"] = torch.get_rng_state()
        if run.probe_logits:
            tensors["probes"] = torch.stack(run.probe_logits)
        record = {"identity": self.identity, "stage": stage, "step": step,
                  "run": {"history": run.history, "probe_steps": run.probe_steps, "precision": run.precision}}
        with replaced_folder(self.folder) as unfinished:
            # clone: safetensors refuses tied weights that share memory
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
                      unfinished / TENSORS)
            (unfinished / RECORD).write_text(json.dumps(record), encoding="utf-8")

    def _group(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
