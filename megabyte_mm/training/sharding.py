"""A model's weights cut over all devices (FSDP2), and put together again where one device needs them all."""

from __future__ import annotations

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from megabyte_mm.models import ByteModel
from megabyte_mm.models.layers import Stack

IN_CHUNKS = "local_stack"
"""The stack that a sequence may go through in many chunks. Its weights are gathered once a step, with those that belong
to no block: as units of their own they would be gathered for each chunk, and once more for each chunk's gradients."""


def shard(model: ByteModel, mesh: DeviceMesh) -> None:
    """Cut the weights over the devices of a mesh: each block is gathered when it runs, the rest for the whole step."""
    for name, part in model.named_modules():
        if isinstance(part, Stack) and name != IN_CHUNKS:
            for block in part.blocks:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for method in ("training_nll", "nll"):
        register_fsdp_forward_method(model, method)


def is_sharded(model: ByteModel) -> bool:
    """Whether its weights are cut over devices."""
    return isinstance(model, FSDPModule)


def whole(model: ByteModel, first: bool, device: torch.device) -> ByteModel | None:
    """The model with all its weights on the `first` device, a copy where they are cut; None on the others.

    All devices must ask.
    """
    if not is_sharded(model):
        return model if first else None
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not first:
        return None
    with torch.device("meta"):
        copy = model.config.build()
    copy.to_empty(device=device).load_state_dict(weights)
    return copy
