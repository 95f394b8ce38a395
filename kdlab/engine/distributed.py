"""Several processes at work on one run (`accelerate launch`): who does what, and how they agree.

A batch is cut into as many slices as there are processes, each computes its slice, and the gradients are summed. That
is done here in the open, and not by wrapping the student: a run reads views of the student (`kdlab.engine.fast_path`),
its attention and its inner layers, and trains projections besides, which a wrapped module would hide or miss. With one
process nothing of this happens.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env, reduce
from torch import Tensor, nn

T = TypeVar("T")


def _state() -> PartialState:
    """Whoever asks first makes it, and for all: so it has to be told of CPUs, as an `Accelerator` tells it."""
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if state.num_processes > 1 and torch.distributed.get_backend() == "gloo":
        _part_before_the_interpreter_ends()
    return state


@cache
def _part_before_the_interpreter_ends() -> None:
    """Gloo's threads may still hold a tensor that Python has let go of. One that frees it while the interpreter is
    being torn down ends the process by SIGABRT ("terminate called without an active exception").
    """
    atexit.register(PartialState().destroy_process_group)


def device() -> torch.device:
    """The one that this process computes on."""
    return _state().device


def world_size() -> int:
    return _state().num_processes


def rank() -> int:
    """This process's, from 0; the main process, which alone writes and prints, has 0."""
    return _state().process_index


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    _state().wait_for_everyone()


def broadcast(value: T) -> T:
    """The main process's value, in all of them."""
    held = [value]
    if world_size() > 1:
        broadcast_object_list(held)
    return held[0]


def all_gather(value: T) -> list[T]:
    """Everybody's value, in the order of the processes."""
    return gather_object([value]) if world_size() > 1 else [value]


def any_of(flag: bool) -> bool:
    return any(all_gather(flag))


def all_reduce(values: Tensor) -> Tensor:
    """The sum over all processes."""
    return reduce(values, "sum") if world_size() > 1 else values


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes the sum of all processes' gradients; they travel as one tensor."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]), "sum")
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def shard(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Leave each process a part of every weight, in place (FSDP); a layer is put together while it runs, and no longer.
    For a teacher that does not fit one GPU. With one process there is nothing to share, and once is enough.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if world_size() == 1 or isinstance(model, FSDPModule):
        return
    mesh = init_device_mesh(_state().device.type, (world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
