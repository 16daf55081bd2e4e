"""Training over several processes, a GPU for each: the same loop on a module that accelerate has sharded (FSDP2).

Parameters, gradients and moments lie in equal parts on all processes. A module that holds parameters gathers them while
it is called: whoever reads a child's weights without calling it (`nn.MultiheadAttention`) cannot be sharded. Each
process computes its share of the batches of a step, `accumulate / processes` of them; gradients are averaged as one
process would, so losses and weights differ in rounding alone. Checkpoints are whole: any number of processes resumes
them. Only dropout differs: every process draws its own.

A job with `gpus` calls `take_over` in each of its processes; methods call `fit` and do not see the difference.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, InitProcessGroupKwargs
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from torch import Tensor, nn

from methods.parts.training import loop, weights
from methods.parts.training.loop import Fit, Group, Loss, Recipe, Task
from rankrepro.cell import Cell
from rankrepro.errors import ConfigError, OutputError


def take_over(patience: timedelta) -> Accelerator:
    """From now on `loop.fit` trains over all processes of the job. patience: how long one waits for the others."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        cpu_ram_efficient_loading=False,  # every process has made the same module
    )
    on_cpu = not torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=on_cpu, fsdp_plugin=plugin, kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)]
    )
    if on_cpu:  # accelerate shards on GPUs alone; what it calls in torch works on the CPU too
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin

    class Run(ShardedRun):
        processes = accelerator

    loop._Run = Run  # type: ignore[misc]  # not a branch in `fit`: that would be a change to what one process computes
    return accelerator


class ShardedRun(loop._Run):
    """A training in progress, as one of several processes sees it."""

    processes: Accelerator

    def __init__(self, cell: Cell, part: str, task: Task, recipe: Recipe) -> None:
        super().__init__(cell, part, _Agreed(task), recipe)
        count = self.processes.num_processes
        if recipe.accumulate % count:
            raise ConfigError(
                f"{cell.name}: {part}: {count} processes cannot share {recipe.accumulate} batches of a step equally; "
                f"make `accumulate` a multiple of {count}"
            )
        if type(task).state is not Task.state:
            raise ConfigError(
                f"{cell.name}: {part}: a task with a state of its own sees all batches, and each of {count} processes "
                "only some; take `gpus` out of the card"
            )
        module, names = task.module, list(self.weights)
        holders = {type(m).__name__ for m in list(module.modules())[1:] if any(True for _ in m.parameters(False))}
        self.processes.state.fsdp_plugin.transformer_cls_names_to_wrap = sorted(holders)
        self.plain = _Plain(module)
        _, self.optimiser = self.processes.prepare(module, self.optimiser)
        self.plain.sharded()
        self.learns = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.weights = {name: tensor for name, tensor in weights.state_of(module).items() if name in names}

    def _update(self) -> list[Loss]:
        """As one process does it: the losses of all batches, in their order."""
        recipe, rank = self.recipe, self.processes.process_index
        share = recipe.accumulate // self.processes.num_processes
        first = self.fitted.steps * recipe.accumulate + rank * share
        self.optimiser.zero_grad(set_to_none=True)
        own = []
        with torch.random.fork_rng(devices=loop._gpus()):
            torch.manual_seed(zlib.crc32(f"{self.cell.seed} {self.fitted.steps} {rank}".encode()))
            for i in range(first, first + share):
                loss = self.task.step(i)
                if loss is None:
                    raise OutputError(
                        f"{self.cell.name}: {self.part}: there is nothing to learn in batch {i}, and other processes "
                        "wait for its gradient; take `gpus` out of the card"
                    )
                self.processes.backward(loss.value / share)  # and averaged over processes
                own.append(replace(loss, value=loss.value.detach().cpu()))
        losses: list[Loss] = gather_object(own)
        if not all(loss.value.isfinite() for loss in losses):
            raise OutputError(
                f"{self.cell.name}: {self.part}: the loss of step {self.fitted.steps} is not a finite number; "
                "lower the rate"
            )
        if recipe.clip:
            self.processes.clip_grad_norm_(self.learns, recipe.clip)
        self.optimiser.step()
        return losses

    def finish(self) -> Fit:
        """The module is as it was, with whole weights in every process."""
        fitted = super().finish()
        self.plain.again()
        self.processes.free_memory()
        return fitted

    def _copies(self) -> dict[str, Tensor]:
        return {name: _whole(t.detach()).to("cpu", copy=True) for name, t in self.weights.items()}

    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        super()._fill({name: _spread(tensors[name], like) for name, like in self.weights.items()})

    def restore(self, tensors: Mapping[str, Tensor], value: Mapping[str, Any]) -> None:
        def placed(name: str, tensor: Tensor) -> Tensor:
            kind, _, key = name.partition(".")
            moment = kind == "optimiser" and tensor.dim() > 0
            return _spread(tensor, self.learns[int(key.split(".")[0])]) if moment else tensor

        super().restore({name: placed(name, tensor) for name, tensor in tensors.items()}, value)


class _Agreed(Task):
    """A task whose values in validation are the main process's, so that all processes decide alike."""

    def __init__(self, task: Task) -> None:
        self.task, self.module = task, task.module
        self.watch, self.higher, self.label = task.watch, task.higher, task.label

    def step(self, i: int) -> Loss | None:
        return self.task.step(i)

    def validate(self) -> Mapping[str, float]:
        (values,) = broadcast_object_list([{name: float(value) for name, value in self.task.validate().items()}])
        return values

    def groups(self) -> Sequence[Group]:
        return self.task.groups()


class _Plain:
    """What sharding changes in a module, to undo it, which torch does not offer: classes, hooks, parameters."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = list(module.modules())
        self.types = [type(part) for part in self.parts]
        self.hooks = [{k: copy.copy(v) for k, v in vars(part).items() if k.endswith("_hooks")} for part in self.parts]
        self.names = [set(vars(part)) for part in self.parts]

    def sharded(self) -> None:
        """To be called when it is: what it has now and had not before is the sharding's."""
        self.added = [set(vars(part)) - names for part, names in zip(self.parts, self.names, strict=True)]

    def again(self) -> None:
        from torch.distributed.fsdp import FSDPModule

        whole: dict[nn.Parameter | None, nn.Parameter] = {}  # one may have several places
        for part in self.parts:
            if isinstance(part, FSDPModule):
                part.reshard()
        for part, kind, hooks, added in zip(self.parts, self.types, self.hooks, self.added, strict=True):
            for name, parameter in part._parameters.items():
                if parameter is not None and parameter not in whole:
                    whole[parameter] = nn.Parameter(_whole(parameter.detach()), parameter.requires_grad)
                part._parameters[name] = whole.get(parameter)
            part.__class__ = kind
            vars(part).update(hooks)
            for name in added:
                del vars(part)[name]


def _whole(tensor: Tensor) -> Tensor:
    """A tensor that lies in parts on several processes, whole on each."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _spread(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that all have whole; as it is where `like` is not in parts."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
