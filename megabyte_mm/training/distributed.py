"""Training on several devices: FSDP2 as a strategy of the trainer; sharding and gathering the weights of a model."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from data_adapters.io import remove, replace, temporary_beside
from megabyte_mm.checkpoint.dcp import (
    OPTIMIZER_STATES,
    STATE_DICT,
    is_sharded_checkpoint,
    named_moments,
    read_into,
    read_meta,
    write_meta,
    write_tensors,
)
from megabyte_mm.checkpoint.safety import NOT_FINITE, are_finite
from megabyte_mm.errors import FieldError
from megabyte_mm.models import ByteModel
from megabyte_mm.models.layers import Stack

CHUNKED_STACK = "local_stack"
"""The stack that may process a sequence in many chunks. Its weights are gathered once a step, with those outside of
blocks: as units of their own they would be gathered for each chunk, and again for the gradients of each chunk."""


def shard_model(model: ByteModel, mesh: DeviceMesh) -> None:
    """Shard the weights over a mesh: each block is gathered when it runs, the rest for the whole step."""
    for name, module in model.named_modules():
        if isinstance(module, Stack) and name != CHUNKED_STACK:
            for block in module.blocks:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("training_nll", "nll"):
        register_fsdp_forward_method(model, method)


def gather_model(model: ByteModel, is_first: bool, device: torch.device) -> ByteModel | None:
    """The model with all weights in the first process, a copy where they are sharded; None in the others.

    A collective call. is_first: this is the first process.
    """
    if not isinstance(model, FSDPModule):
        return model if is_first else None
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not is_first:
        return None
    with torch.device("meta"):
        copy = model.config.build()
    copy.to_empty(device=device).load_state_dict(weights)
    # Buffers that follow from the config are in no state dict.
    for name, buffer in model.named_buffers():
        copy.get_buffer(name).copy_(buffer)
    return copy


class FSDP2Strategy(ModelParallelStrategy):
    """FSDP2 over all devices of all machines: each holds its shard of the weights, gradients and moments.

    Args:
        sharded_checkpoints: Write a checkpoint as a folder of shards, one of each process; otherwise the first process
            writes one file, as without sharding.
        process_group_backend: nccl, gloo or another; by default the one that suits the devices.
        timeout: Time that processes wait for each other.
    """

    def __init__(
        self,
        sharded_checkpoints: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            save_distributed_checkpoint=sharded_checkpoints,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self._folder: Path | None = None

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Restore optimizers after `on_load_checkpoint`, which applies the settings of this run."""
        return True

    @property
    def loaded_from_folder(self) -> bool:
        """True where the checkpoint that was read last is a folder."""
        return self._folder is not None

    def setup_environment(self) -> None:
        """Use all devices for data; Lightning would use those of one machine for tensor parallelism."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Raise FieldError for a precision that does not work."""
        if trainer.precision == "16-mixed":
            raise FieldError("trainer.precision", "16-mixed does not work with fsdp2: take bf16-mixed or 32-true")
        # Weights that are gathered in inference mode cannot be trained afterwards.
        for loop in (trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop):
            loop.inference_mode = False
        super().setup(trainer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a file or folder atomically; a collective call. Raises OSError, and then in all processes."""
        target = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            self._on_first(target, lambda: self.checkpoint_io.save_checkpoint(checkpoint, target))
            return
        new = temporary_beside(target)
        self._on_first(target, lambda: _clear(new))
        try:
            write_tensors(checkpoint, new)
            self._on_first(target, lambda: write_meta(checkpoint, new))
            self._on_first(target, lambda: replace(new, target))
        finally:
            if self.is_global_zero:
                with suppress(OSError):
                    remove(new)

    def _on_first(self, target: Path, work: Callable[[], None]) -> None:
        """Run `work` in the first process while the others wait. Raises OSError in all, or they would wait for ever."""
        failure = None
        if self.is_global_zero:
            try:
                work()
            except OSError as error:
                reason = error.strerror or str(error)
                named = target.name in reason
                failure = reason if named else f"{os.path.relpath(target)}: cannot be written: {reason}"
        if (failure := self.broadcast(failure)) is not None:
            raise OSError(failure)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file, or everything but the tensors of a folder: each process reads its shards of these later."""
        path = Path(self.broadcast(checkpoint_path))
        self._folder = path if is_sharded_checkpoint(path) else None
        return read_meta(path) if self._folder else self.checkpoint_io.load_checkpoint(path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Fill the shards of the weights in this process."""
        assert self.model is not None
        if self._folder is None:
            set_model_state_dict(self.model, checkpoint[STATE_DICT], options=StateDictOptions(full_state_dict=True))
            return
        weights = self.model.state_dict()
        read_into({f"{STATE_DICT}.{name}": weight for name, weight in weights.items()}, self._folder)
        # A process that raised alone would leave the others waiting.
        if not self.reduce_boolean_decision(are_finite(weights.values())):
            raise ValueError(f"{self._folder}: {NOT_FINITE}")

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Fill the shards of the moments in this process."""
        assert self.model is not None
        for number, (optimizer, saved) in enumerate(zip(self.optimizers, checkpoint[OPTIMIZER_STATES], strict=True)):
            current: dict[str, Any] = get_optimizer_state_dict(self.model, optimizer)  # with new moments
            groups = [
                {**stored, "params": group["params"]}
                for group, stored in zip(current["param_groups"], saved["param_groups"], strict=True)
            ]
            state = current["state"]
            if self._folder is None:
                state = _named(saved, groups)
            else:
                read_into(dict(named_moments(number, state)), self._folder)
            # Without any state, as of SGD without momentum, torch has no device to distribute it to.
            options = StateDictOptions(full_state_dict=self._folder is None and any(state.values()))
            restored: Any = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(self.model, optimizer, restored, options=options)


def _clear(new: Path) -> None:
    """Create the parent folder, and remove the rest of an earlier attempt."""
    new.parent.mkdir(parents=True, exist_ok=True)
    remove(new)


def _named(saved: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The state of an optimizer by names, in place of numbers in the order of the groups."""
    numbers = chain.from_iterable(group["params"] for group in saved["param_groups"])
    names = chain.from_iterable(group["params"] for group in groups)
    return {name: saved["state"].get(number, {}) for number, name in zip(numbers, names, strict=True)}


def register_strategies() -> None:
    """Register fsdp2 and fsdp2_sharded for `--trainer.strategy`."""
    if "fsdp2" not in StrategyRegistry:
        StrategyRegistry.register("fsdp2", FSDP2Strategy, "FSDP2, with checkpoints of one file")
        StrategyRegistry.register(
            "fsdp2_sharded", FSDP2Strategy, "FSDP2, with checkpoints that are folders", sharded_checkpoints=True
        )


@cache
def end_group_at_exit() -> None:
    """End the process group with the program, which threads of gloo could abort; Lightning does so for NCCL alone."""
    atexit.register(_end_group)


def _end_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_strategy(strategy: Any) -> None:
    """Raise FieldError for the strategies that fsdp2 replaces, given by name, by class in a config, or as objects.

    FSDP1 flattens weights, whose dimensions decide which of them decay. The base class of fsdp2 uses the devices of a
    machine for tensor parallelism by default, and its checkpoints cannot be read without executing their content.
    """
    name = strategy if isinstance(strategy, str) else str(getattr(strategy, "class_path", type(strategy).__name__))
    replaced = (FSDPStrategy.__name__, ModelParallelStrategy.__name__, *FSDPStrategy.get_registered_strategies())
    if name.split(".")[-1] in replaced:
        raise FieldError("trainer.strategy", f"{name} is not supported: take fsdp2, or fsdp2_sharded")
