"""Training on several devices: FSDP2 as a strategy of the trainer, and a model's weights sharded and gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
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
    OPTIMIZER_STATE,
    WEIGHTS,
    is_sharded_checkpoint,
    named_moments,
    read_into,
    read_meta,
    write_meta,
    write_tensors,
)
from megabyte_mm.models import ByteModel
from megabyte_mm.models.layers import Stack

IN_CHUNKS = "local_stack"
"""The stack that a sequence may go through in many chunks. Its weights are gathered once a step, with those that belong
to no block: as units of their own they would be gathered for each chunk, and once more for each chunk's gradients."""


def shard_model(model: ByteModel, mesh: DeviceMesh) -> None:
    """Cut the weights over the devices of a mesh: each block is gathered when it runs, the rest for the whole step."""
    for name, part in model.named_modules():
        if isinstance(part, Stack) and name != IN_CHUNKS:
            for block in part.blocks:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("training_nll", "nll"):
        register_fsdp_forward_method(model, method)


def is_sharded_model(model: ByteModel) -> bool:
    """Whether its weights are cut over devices."""
    return isinstance(model, FSDPModule)


def gather_model(model: ByteModel, first: bool, device: torch.device) -> ByteModel | None:
    """The model with all its weights on the `first` device, a copy where they are cut; None on the others.

    All devices must ask.
    """
    if not is_sharded_model(model):
        return model if first else None
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not first:
        return None
    with torch.device("meta"):
        copy = model.config.build()
    copy.to_empty(device=device).load_state_dict(weights)
    return copy


class FSDP2Strategy(ModelParallelStrategy):
    """FSDP2 over all devices of all machines: each keeps its part of weights, gradients and moments.

    Args:
        sharded_checkpoints: Write a checkpoint as a folder, to which each process adds its part; otherwise the first
            process puts all together into one file, as without sharding.
        process_group_backend: nccl, gloo or another; by default what suits the devices.
        timeout: How long processes wait for each other.
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
        """Restore optimizers after the checkpoint was looked at, so that a run's own settings win."""
        return True

    @property
    def reads_shards(self) -> bool:
        """Whether the checkpoint that was read last is a folder."""
        return self._folder is not None

    def setup_environment(self) -> None:
        """Take all devices for data, where Lightning would take those of one machine for tensors."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Raises ValueError for a precision that cannot be used."""
        if trainer.precision == "16-mixed":
            raise ValueError("trainer.precision 16-mixed does not work with fsdp2: take bf16-mixed or 32-true")
        # Weights that are gathered in inference mode cannot be trained with afterwards.
        for loop in (trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop):
            loop.inference_mode = False
        super().setup(trainer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Put a whole file or folder in its place; all processes must ask. Raises OSError, and then on all."""
        place = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            self._on_first(place, lambda: self.checkpoint_io.save_checkpoint(checkpoint, place))
            return
        new = temporary_beside(place)
        self._on_first(place, lambda: _make_way(new))
        try:
            write_tensors(checkpoint, new)
            self._on_first(place, lambda: write_meta(checkpoint, new))
            self._on_first(place, lambda: replace(new, place))
        finally:
            if self.is_global_zero:
                with suppress(OSError):
                    remove(new)

    def _on_first(self, place: Path, work: Callable[[], None]) -> None:
        """Let the first process do it while the others wait. Raises OSError on all, which else would wait for ever."""
        failure = None
        if self.is_global_zero:
            try:
                work()
            except OSError as error:
                reason = error.strerror or str(error)
                known = place.name in reason
                failure = reason if known else f"{os.path.relpath(place)}: cannot be written: {reason}"
        if (told := self.broadcast(failure)) is not None:
            raise OSError(told)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file, or of a folder what is no tensor: each process reads its part of these where they are wanted."""
        path = Path(self.broadcast(checkpoint_path))
        self._folder = path if is_sharded_checkpoint(path) else None
        return read_meta(path) if self._folder else self.checkpoint_io.load_checkpoint(path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Fill the weights that are here."""
        assert self.model is not None
        if self._folder is None:
            set_model_state_dict(self.model, checkpoint[WEIGHTS], options=StateDictOptions(full_state_dict=True))
            return
        weights = self.model.state_dict()
        read_into({f"{WEIGHTS}.{name}": weight for name, weight in weights.items()}, self._folder)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Fill the moments that are here."""
        assert self.model is not None
        for number, (optimizer, saved) in enumerate(zip(self.optimizers, checkpoint[OPTIMIZER_STATE], strict=True)):
            present: dict[str, Any] = get_optimizer_state_dict(
                self.model, optimizer
            )  # makes moments where none are yet
            groups = [
                {**theirs, "params": ours["params"]}
                for ours, theirs in zip(present["param_groups"], saved["param_groups"], strict=True)
            ]
            state = present["state"]
            if self._folder is None:
                state = _named(saved, groups)
            else:
                read_into(dict(named_moments(number, state)), self._folder)
            options = StateDictOptions(full_state_dict=self._folder is None)
            found: Any = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(self.model, optimizer, found, options=options)


def _make_way(new: Path) -> None:
    """Let there be a parent folder, and nothing that an earlier attempt left behind."""
    new.parent.mkdir(parents=True, exist_ok=True)
    remove(new)


def _named(saved: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """An optimizer's state by names instead of numbers, which follow the groups' order."""
    numbers = chain.from_iterable(group["params"] for group in saved["param_groups"])
    names = chain.from_iterable(group["params"] for group in groups)
    return {name: saved["state"][number] for number, name in zip(numbers, names, strict=True)}


def register_strategies() -> None:
    """Make fsdp2 and fsdp2_sharded known to `--trainer.strategy`."""
    if "fsdp2" not in StrategyRegistry:
        StrategyRegistry.register("fsdp2", FSDP2Strategy, "FSDP2, with checkpoints of one file")
        StrategyRegistry.register(
            "fsdp2_sharded", FSDP2Strategy, "FSDP2, with checkpoints that are folders", sharded_checkpoints=True
        )


def check_strategy(asked: Any) -> None:
    """Raise ValueError for the strategies that fsdp2 takes the place of: by name, by class in a config, or as objects.

    FSDP1 flattens weights, whose dimensions tell which of them decay. The class that fsdp2 builds on takes the devices
    of a machine for tensor parallelism by default, and its checkpoints cannot be read without executing what they hold.
    """
    named = asked if isinstance(asked, str) else str(getattr(asked, "class_path", type(asked).__name__))
    replaced = (FSDPStrategy.__name__, ModelParallelStrategy.__name__, *FSDPStrategy.get_registered_strategies())
    if named.split(".")[-1] in replaced:
        raise ValueError(f"trainer.strategy {named} is not supported: take fsdp2, or fsdp2_sharded")
