"""What the global model makes of each patch, layer by layer: features of files.

Legend: B rows, T symbols, K patches, P symbols in a patch, G global width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END
from megabyte_mm.models.base import ByteModel
from megabyte_mm.models.megabyte.model import Megabyte
from megabyte_mm.models.megabyte.one_order import OneOrder
from megabyte_mm.models.megabyte.parts import parts_global_output


def global_states(model: ByteModel, ids_BT: Tensor, condition_B: Tensor | None = None) -> list[Tensor]:
    """The input of the global model's blocks, the output of each block, and the last one's, normalized: (B, K, G) each.

    ids: (B, T) int64, T in whole patches. State k has read patches up to and with k; the last patch of a row that fills
    the model's positions is never read, and its state is left out: K is then one less than the patches. The model
    should be in eval mode. Raises ValueError for a model that reads no patches.
    """
    if isinstance(model, OneOrder):
        return global_states(model.model, ids_BT, _condition_of(model, ids_BT))
    model = _with_patches(model)
    stack = model.global_stack
    assert stack is not None
    condition_B = model.checked(ids_BT, condition_B)
    states: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, output: states.append(output)) for block in stack.blocks]
    hooks.append(stack.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])))
    try:
        # The state that has read a patch is the one that predicts the next.
        states.append(_global_output(model, ids_BT, condition_B))
    finally:
        for hook in hooks:
            hook.remove()
    return [state[:, 1:] if state.shape[1] > 1 else state for state in states]


def _with_patches(model: ByteModel) -> Megabyte:
    if not isinstance(model, Megabyte) or model.global_stack is None:
        raise ValueError("this model has no global model, whose outputs are the features of a file")
    return model


def _condition_of(model: OneOrder, ids_BT: Tensor) -> Tensor:
    return torch.full((len(ids_BT),), model.condition, device=ids_BT.device)


def _global_output(model: Megabyte, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
    size = model.patch_size if model.config.parts is None else model.config.order(int(condition_B[0]))[0].patch_size
    if model.max_positions is None or ids_BT.shape[1] + size <= model.max_positions:
        ids_BT = F.pad(ids_BT, (0, size), value=END)
    if model.config.parts is not None:
        return parts_global_output(model, ids_BT, condition_B)
    output_BKG = model.global_output(ids_BT, condition_B)
    assert output_BKG is not None
    return output_BKG
