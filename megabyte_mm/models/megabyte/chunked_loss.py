"""A long result in chunks, of which only one at a time holds what its backward pass needs.

torch.utils.checkpoint would do for one chunk. Over many it leaves hundreds of small objects behind each, between which
the heap grows by as much as the chunks take; and it adds up the gradients of weights in autocast's precision.

Legend: B rows, T results, S places of what all chunks read from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Chunk:
    """Which places of what all chunks read from it needs, and which results it gives."""

    inputs: slice
    outputs: slice


Compute = Callable[[Chunk, Tensor | None], Tensor]
"""The results of a chunk, (B, its T), from what it reads, (B, its S, ...); None where there is nothing to read."""
Weights = Callable[[], Sequence[Tensor]]
"""The present ones, always in the same order: those of a sharded module are others in the backward pass."""


def in_chunks(
    compute: Compute, chunks: Sequence[Chunk], read_BSx: Tensor | None, weights: Weights, like_BT: Tensor
) -> Tensor:
    """All chunks' results as float32, (B, T); each is computed once more when its gradients are wanted.

    weights: all that `compute` uses beside what it is given and that gradients are wanted of. like: of the shape and on
    the device of the results, without gradients. What is drawn at random is drawn the same again.
    """
    arguments = (compute, chunks, weights, like_BT, read_BSx, *weights())
    results_BT: Tensor = _InChunks.apply(*arguments)  # type: ignore[no-untyped-call]
    return results_BT


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        compute: Compute,
        chunks: Sequence[Chunk],
        weights: Weights,
        like_BT: Tensor,
        read_BSx: Tensor | None,
        *used: Tensor,
    ) -> Tensor:
        ctx.compute, ctx.chunks, ctx.weights, ctx.state = compute, chunks, weights, _RngAndAutocastState(like_BT.device)
        ctx.save_for_backward(read_BSx, *used)
        results_BT = torch.empty(like_BT.shape, dtype=torch.float32, device=like_BT.device)
        for chunk in chunks:
            # As in the backward pass: without gradients attention would take another way, and draw otherwise.
            with torch.enable_grad():
                results_BT[:, chunk.outputs] = compute(chunk, _part(read_BSx, chunk)).detach()
        return results_BT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BT: Tensor) -> tuple[Tensor | None, ...]:
        read_BSx, *_ = ctx.saved_tensors  # raises where a weight has been changed in between
        weights = list(ctx.weights())
        grad_read_BSx = None if read_BSx is None else torch.zeros_like(read_BSx)
        grads: list[Tensor | None] = [None] * len(weights)
        with ctx.state.restored():
            for chunk in ctx.chunks:
                part = _part(read_BSx, chunk)
                wanted = weights if part is None else [part, *weights]
                with torch.enable_grad():
                    results_BC = ctx.compute(chunk, part)
                found = list(torch.autograd.grad(results_BC, wanted, grad_BT[:, chunk.outputs], allow_unused=True))
                if part is not None:
                    grad_part = found.pop(0)
                    if grad_part is not None and grad_read_BSx is not None:
                        grad_read_BSx[:, chunk.inputs] += grad_part
                grads = [_sum(total, more) for total, more in zip(grads, found, strict=True)]
        return None, None, None, None, grad_read_BSx, *grads


def _part(read_BSx: Tensor | None, chunk: Chunk) -> Tensor | None:
    """What a chunk reads, as the beginning of a graph of its own."""
    return None if read_BSx is None else read_BSx[:, chunk.inputs].detach().requires_grad_()


def _sum(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if more is None:
        return total
    # A copy: compiled code may give memory that the next chunk writes over.
    return more.clone() if total is None else total.add_(more)


class _RngAndAutocastState:
    """Random numbers and autocast as they are now, to be had again later."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._gpus = [device] if device.type == "cuda" else []
        self._random = torch.get_rng_state(), [torch.cuda.get_rng_state(gpu) for gpu in self._gpus]
        kind = device.type
        known = torch.amp.autocast_mode.is_autocast_available(kind)
        self._precision = (torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) if known else None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """As they were, and afterwards again as they are now."""
        with torch.random.fork_rng(self._gpus):
            torch.set_rng_state(self._random[0])
            for gpu, state in zip(self._gpus, self._random[1], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            if self._precision is None:
                yield
                return
            dtype, enabled = self._precision
            with torch.autocast(self._device.type, dtype, enabled):
                yield
