"""Steps of a Transformer stack in kernels of Triton. See `decoding/steps.py` for the same in torch's operations.

Legend: B rows, D model width, H heads, K inputs, N outputs, V outputs of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution, stored_weight
from megabyte_mm.models.kernels.support import runs_triton
from megabyte_mm.models.layers import Block, Stack, norm_parameters

Norm = tuple[str, Tensor, Tensor | None, float]
"""The kind of a norm, with weight, bias and epsilon."""


def runs_kernels(like: Tensor) -> bool:
    """True if steps of models with such weights can run in kernels of Triton."""
    return like.device.type == "cuda" and like.dtype == torch.float32 and runs_triton(like.device)


class FusedProjection:
    """A linear layer, in which the numbers of a row do not depend on the other rows."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, execution: Execution) -> None:
        self.weight_NK, self._scale_N = stored_weight(weight_NK.contiguous(), execution.precision)
        self._bias_N = None if bias_N is None else bias_N.detach()

    def __call__(
        self,
        x_BK: Tensor,
        norm: Norm | None = None,
        residual_BN: Tensor | None = None,
        activation: str = "none",
        gated: bool = False,
    ) -> Tensor:
        from megabyte_mm.models.decoding.fused import kernels

        return kernels.linear(
            x_BK.contiguous(),
            self.weight_NK,
            self._bias_N,
            self._scale_N,
            residual_BN,
            norm,
            activation,
            gated,
        )


class FusedStackSteps:
    """The steps of a stack, with a last linear layer if a head is given: (V, D)."""

    def __init__(
        self,
        stack: Stack,
        caches: Sequence[LayerCache],
        execution: Execution,
        head_VD: Tensor | None = None,
    ) -> None:
        self._blocks = [
            _BlockSteps(block, cache, execution)  # type: ignore[arg-type]
            for block, cache in zip(stack.blocks, caches, strict=True)
        ]
        self._stack_norm, self._norm = stack.norm, _norm(stack.norm)
        self._head = None if head_VD is None else FusedProjection(head_VD, None, replace(execution, exact=True))

    def __call__(self, x_BD: Tensor, start_B: Tensor, slot_B: Tensor, num_slots: int) -> Tensor:
        x_BD = x_BD.contiguous()
        for block in self._blocks:
            x_BD = block(x_BD, start_B, slot_B)
        if self._head is None:
            normed_BD: Tensor = self._stack_norm(x_BD)
            return normed_BD
        return self._head(x_BD, self._norm)


class _BlockSteps:
    def __init__(self, block: Block, cache: LayerCache, execution: Execution) -> None:
        attention, feedforward = block.attention, block.feedforward
        self._cache, self._feedforward = cache, feedforward
        self._qkv, self._out, self._up, self._down = (
            FusedProjection(layer.weight, layer.bias, execution)
            for layer in (attention.qkv, attention.out, feedforward.up, feedforward.down)
        )
        self._attention_norm, self._feedforward_norm = _norm(block.attention_norm), _norm(block.feedforward_norm)
        self._head_norms: tuple[Tensor, Tensor] | None = None
        self._head_epsilon = 0.0
        if isinstance(attention.q_norm, nn.RMSNorm) and isinstance(attention.k_norm, nn.RMSNorm):
            (_, query_E, _, self._head_epsilon), (_, key_E, *_) = _norm(attention.q_norm), _norm(attention.k_norm)
            self._head_norms = query_E, key_E
        rotary = attention.rotary
        self._cos_sin_2Ce = None
        if rotary is not None:
            self._cos_sin_2Ce = rotary.between(0, cache.capacity, like=attention.out.weight)

    def __call__(self, x_BD: Tensor, start_B: Tensor, slot_B: Tensor) -> Tensor:
        from megabyte_mm.models.decoding.fused import kernels

        keys, values = self._cache.keys, self._cache.values
        qkv_BX = self._qkv(x_BD, self._attention_norm)
        mixed_BD = kernels.attend(
            qkv_BX, keys, values, start_B, slot_B, self._head_norms, self._cos_sin_2Ce, self._head_epsilon
        )
        x_BD = self._out(mixed_BD, residual_BN=x_BD)
        feedforward = self._feedforward
        hidden_BF = self._up(x_BD, self._feedforward_norm, None, feedforward.activation, feedforward.gated)
        return self._down(hidden_BF, residual_BN=x_BD)


def _norm(module: nn.Module) -> Norm:
    kind, weight, bias, epsilon = norm_parameters(module)
    return kind, weight.detach(), None if bias is None else bias.detach(), epsilon
