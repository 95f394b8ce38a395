"""Progress on disk: all that a run needs to go on as if it had never stopped.

A checkpoint is one file, state.safetensors, in a folder of its own: weights, optimiser moments, random states and
probes, and in the file's header the record (where the run was, its history, whose run it is). The file is replaced at
one stroke: a run that is killed leaves the last one or the new one.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import KdlabError
from ..files import replaced_file
from . import distributed
from .callbacks import Callback
from .run import Run

STATE = "state.safetensors"


class Checkpoint(Callback):
    """Saves a run's progress in a folder every so many steps, at the end of each stage, and when the run is ended; the
    same call of `distill` goes on from there, to the same numbers as an undisturbed run.

    Of several processes the main one writes; a run may go on with another number of them. Random numbers (dropout,
    masks) then go on as before for those that were there, and begin afresh for those that were not.
    Raises `KdlabError` for a number of steps below 1 and, when the run begins, for a folder that holds another run's
    checkpoint, or half of one.
    """

    def __init__(self, folder: str | Path | None, every: int = 200) -> None:
        if every < 1:
            raise KdlabError(f"a checkpoint is to be saved every {every} steps; give 1 or more")
        self.folder, self.every = Path(folder) if folder else None, every
        self.tensors, self.record = {}, {}

    def open(self, identity: str) -> None:
        """Read what an earlier call of the run with this identity has left."""
        self.identity = identity
        distributed.barrier()           # until what the main process may still be writing is there,
        self.tensors, self.record = self._load()
        distributed.barrier()           # and until all have read it, before it writes again

    def run(self) -> Run:
        """The run so far."""
        return Run(**self.record.get("run", {}), probe_logits=list(self.tensors.get("probes", ())))

    @property
    def stage(self) -> int:
        """The stage to go on with, and with `step` the steps of it that are done."""
        return self.record.get("stage", 0)

    @property
    def step(self) -> int:
        return self.record.get("step", 0)

    def _load(self) -> tuple[dict[str, Tensor], dict]:
        if self.folder is None or not (self.folder / STATE).exists():
            return {}, {}
        advice = "give the checkpoint another folder, or delete this one"
        try:
            with safe_open(self.folder / STATE, framework="pt") as file:
                record = json.loads(file.metadata()["record"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}     # noqa: SIM118
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
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
        states = self._group(f"random.{distributed.rank()}.")
        if "cpu" in states:
            torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])

    def save(self, student: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer,
             run: Run, stage: int, step: int) -> None:
        """Write everything, with `step` steps of stage number `stage` done. All processes call this together."""
        if self.folder is None:
            return
        states = distributed.all_gather(_random_states())
        if not distributed.is_main():
            return
        tensors = {f"student.{k}": v for k, v in student.state_dict().items()}
        tensors |= {f"objective.{k}": v for k, v in objective.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        for number, own in enumerate(states):
            tensors |= {f"random.{number}.{k}": v for k, v in own.items()}
        if run.probe_logits:
            tensors["probes"] = torch.stack(run.probe_logits)
        record = {"identity": self.identity, "stage": stage, "step": step,
                  "run": {"history": run.history, "probe_steps": run.probe_steps, "precision": run.precision}}
        # clone: safetensors refuses tied weights that share memory
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with replaced_file(self.folder / STATE) as unfinished:
            save_file(tensors, unfinished, {"record": json.dumps(record)})

    def _group(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def _random_states() -> dict[str, Tensor]:
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})
