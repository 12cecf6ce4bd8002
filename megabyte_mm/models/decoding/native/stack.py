"""A stack's weights in the layout of the native steps.

Legend: B rows, D model width, N outputs, K inputs, W outputs in a block, V outputs of the head, S slots, e = E / 2.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Precision, int8_weight
from megabyte_mm.models.decoding.native import library
from megabyte_mm.models.layers import Block, Stack, norm_parameters

PRECISION_CODES = {None: 0, "bfloat16": 1, "int8": 2}
ACTIVATION_CODES = {"relu": 1, "gelu": 2, "relu2": 3, "swiglu": 4}


class NativeProjection:
    """A linear layer, (B, K) -> (B, N) float32, in which the numbers of a row do not depend on the other rows."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, precision: Precision | None) -> None:
        self._library = library.load()
        self._memory: list[object] = []
        self.linear = packed(weight_NK, bias_N, precision, self._memory)

    def __call__(self, x_BK: Tensor) -> Tensor:
        x_BK = x_BK.float().contiguous()
        y_BN = x_BK.new_empty(len(x_BK), self.linear.outputs)
        self._library.linear_step(self.linear, x_BK.data_ptr(), len(x_BK), y_BN.data_ptr(), torch.get_num_threads())
        return y_BN


class NativeStackSteps:
    """Steps of a stack, each in one call of native code; see `steps.StackSteps`."""

    def __init__(
        self,
        stack: Stack,
        caches: Sequence[LayerCache],
        precision: Precision | None = None,
        head_VD: Tensor | None = None,
    ) -> None:
        self._library = library.load()
        self._memory: list[object] = [*caches]
        self._outputs = stack.config.dim if head_VD is None else len(head_VD)
        layers = [
            self._layer(block, cache, precision)  # type: ignore[arg-type] # a ModuleList has no element type
            for block, cache in zip(stack.blocks, caches, strict=True)
        ]
        self._stack = library.NativeStack(
            layers=(library.NativeLayer * len(layers))(*layers),
            head=None if head_VD is None else ctypes.pointer(packed(head_VD, None, precision, self._memory)),
            layer_count=len(layers),
            capacity=caches[0].capacity,
        )
        self._describe(stack)
        self._rows = caches[0].rows
        self._scratch = torch.empty(self._library.scratch(self._stack, self._rows))

    def __call__(self, x_BD: Tensor, start_B: Tensor, slot_B: Tensor, num_slots: int) -> Tensor:
        rows = len(x_BD)
        # The native code does not check its arguments.
        assert start_B.shape == slot_B.shape == (rows,)
        assert rows <= self._rows
        assert 0 < num_slots <= self._stack.capacity
        x_BD = x_BD.float().contiguous()
        y_BV = x_BD.new_empty(rows, self._outputs)
        start_B, slot_B = start_B.long().contiguous(), slot_B.long().contiguous()
        pointers = (tensor.data_ptr() for tensor in (start_B, slot_B, self._scratch, y_BV))
        self._library.stack_step(self._stack, x_BD.data_ptr(), rows, *pointers, torch.get_num_threads())
        return y_BV

    def _describe(self, stack: Stack) -> None:
        """Fill in the fields that all layers share, from the first block."""
        first: Block = stack.blocks[0]  # type: ignore[assignment]
        described = self._stack
        described.dim, described.heads = stack.config.dim, stack.config.heads
        described.hidden = first.feedforward.down.in_features
        described.norm, described.norm_bias, described.epsilon = self._norm(stack.norm)
        described.norm_kind = int(isinstance(stack.norm, nn.RMSNorm))
        described.head_epsilon = torch.finfo(torch.float32).eps
        described.activation = ACTIVATION_CODES[first.feedforward.activation]
        described.gated = first.feedforward.gated
        if first.attention.rotary is not None:
            cos_sin_2Se = first.attention.rotary.between(0, described.capacity, like=stack.norm.weight).contiguous()
            described.rotary, described.positions = self._pointer(cos_sin_2Se), described.capacity

    def _layer(self, block: Block, cache: LayerCache, precision: Precision | None) -> library.NativeLayer:
        attention, feedforward = block.attention, block.feedforward
        parts = {"qkv": attention.qkv, "out": attention.out, "up": feedforward.up, "down": feedforward.down}
        linears = {name: packed(part.weight, part.bias, precision, self._memory) for name, part in parts.items()}
        layer = library.NativeLayer(**linears, keys=cache.keys.data_ptr(), values=cache.values.data_ptr())
        layer.norm1, layer.norm1_bias, _ = self._norm(block.attention_norm)
        layer.norm2, layer.norm2_bias, _ = self._norm(block.feedforward_norm)
        if isinstance(attention.q_norm, nn.RMSNorm):
            layer.query_norm, _, _ = self._norm(attention.q_norm)
            layer.key_norm, _, _ = self._norm(attention.k_norm)
        return layer

    def _norm(self, norm: nn.Module) -> tuple[int, int | None, float]:
        """The addresses of its weight and bias, and its epsilon."""
        _, weight, bias, epsilon = norm_parameters(norm)
        return self._pointer(weight), None if bias is None else self._pointer(bias), epsilon

    def _pointer(self, tensor: Tensor) -> int:
        """The address of a copy, since the model may be trained or cast meanwhile; packed weights are copies too."""
        tensor = tensor.detach().float().clone(memory_format=torch.contiguous_format)
        self._memory.append(tensor)
        return tensor.data_ptr()


def packed(
    weight_NK: Tensor, bias_N: Tensor | None, precision: Precision | None, memory: list[object]
) -> library.NativeLinear:
    """A linear layer in blocks of W outputs, (N / W, K, W); `memory` receives the tensors that it points to."""
    width, (outputs, inputs) = library.load().width(), weight_NK.shape
    weight_NK, scale_N = weight_NK.detach().float(), None
    if precision == "int8":
        weight_NK, scale_N = int8_weight(weight_NK)
    elif precision == "bfloat16":
        weight_NK = weight_NK.bfloat16()
    filled_NK = F.pad(weight_NK, (0, 0, 0, -outputs % width))
    weight = filled_NK.view(-1, width, inputs).transpose(1, 2).contiguous()
    bias_N = None if bias_N is None else bias_N.detach().float().clone()
    memory += [weight, scale_N, bias_N]
    scale, bias = (None if x_N is None else x_N.data_ptr() for x_N in (scale_N, bias_N))
    return library.NativeLinear(weight.data_ptr(), scale, bias, inputs, outputs, PRECISION_CODES[precision])
