"""MEGABYTE's loss in chunks of patches; only one chunk at a time holds the tensors of its backward pass.

torch.utils.checkpoint would do for one chunk. Over many it leaves hundreds of small objects behind each, between which
the heap grows by as much as the chunks take; and it adds up the gradients of weights in autocast's precision.

Legend: B rows, T symbols, K patches, k patches of a chunk, C symbols of a chunk, G global width, L local width, V the
257 symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS
from megabyte_mm.models.layers import stack_activations
from megabyte_mm.models.loss import chunked_cross_entropy

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte

MIN_CHUNK_RATIO = 4
"""A chunk has at least this many times the patches that cross-patch attention makes it read again in front of it."""
NOT_LOCAL = ("embedder.", "global_stack.", "start_CG", "part_PG")
"""Names of the parameters that the global output is computed with, and chunks are not."""


@dataclass(frozen=True)
class Chunk:
    """A range of patches that the local model reads at once: the inputs, in patches, and the outputs, in symbols."""

    inputs: slice
    outputs: slice


def chunked_nll(
    model: Megabyte,
    global_BKG: Tensor | None,
    ids_BT: Tensor,
    condition_B: Tensor,
    activation_budget: float,
    size: int | None = None,
) -> Tensor:
    """The nats of whole patches of symbols, given the global model's output: (B, T) int64 -> (B, T).

    size: symbols in a patch, by default the model's.
    """
    patch_size = size or model.patch_size
    chunks = list(plan_chunks(model, len(ids_BT), ids_BT.shape[1], activation_budget, patch_size))

    def nll(chunk: Chunk, global_BkG: Tensor | None) -> Tensor:
        return _chunk_nll(model, global_BkG, ids_BT, condition_B, chunk, patch_size)

    if len(chunks) == 1:
        return nll(chunks[0], global_BKG)
    if torch.is_grad_enabled():
        return in_chunks(nll, chunks, global_BKG, lambda: local_weights(model), ids_BT)
    return torch.cat([nll(chunk, None if global_BKG is None else global_BKG[:, chunk.inputs]) for chunk in chunks], 1)


def plan_chunks(model: Megabyte, batch: int, length: int, activation_budget: float, size: int) -> Iterator[Chunk]:
    """Ranges of patches that are read together, each with the patches before it in its receptive field."""
    patches = length // size
    step = patches_at_once(model, batch, activation_budget, size)
    for first in range(0, patches, step):
        last = min(first + step, patches)
        yield Chunk(slice(max(first - receptive_field(model), 0), last), slice(first * size, last * size))


def patches_at_once(model: Megabyte, batch: int, activation_budget: float, size: int | None = None) -> int:
    """The number of patches of each row whose local activations are held together; size: symbols of each."""
    size = size or model.patch_size
    stack = model.config.local_stack
    visible = size + model.config.cross_patch
    per_symbol = 3 * 4 * SYMBOLS if stack is None else stack_activations(stack, visible)
    fitting = min(activation_budget / (per_symbol * batch * size), model.max_patches)
    return max(int(fitting), MIN_CHUNK_RATIO * receptive_field(model), 1)


def receptive_field(model: Megabyte) -> int:
    """The number of patches before its own that a position of the local model depends on: one per layer."""
    stack = model.config.local_stack
    return stack.layers if stack is not None and model.config.cross_patch else 0


def local_weights(model: Megabyte) -> list[Tensor]:
    """The trainable parameters that a chunk is computed with."""
    named = model.named_parameters()
    return [weight for name, weight in named if weight.requires_grad and not _below_sizes(name).startswith(NOT_LOCAL)]


def _below_sizes(name: str) -> str:
    """The name of a weight inside the layers of its patch size."""
    return name.split(".", 2)[2] if name.startswith("more_sizes.") else name


def _chunk_nll(
    model: Megabyte, global_BkG: Tensor | None, ids_BT: Tensor, condition_B: Tensor, chunk: Chunk, size: int
) -> Tensor:
    """The nats of a chunk's outputs, given the global model's output for its inputs."""
    target_BC = ids_BT[:, chunk.outputs]
    if model.local_stack is None:
        logits_BkX = model.heads(global_BkG)
        nats_N = F.cross_entropy(logits_BkX.view(-1, SYMBOLS).float(), target_BC.flatten(), reduction="none")
        return nats_N.view_as(target_BC)
    first = chunk.inputs.start
    hidden_BCL = model.local_output(global_BkG, ids_BT[:, : chunk.outputs.stop], condition_B, first, size=size)
    hidden_BCL = hidden_BCL[:, chunk.outputs.start - first * size :]
    nats_N = chunked_cross_entropy(hidden_BCL.flatten(0, 1), model.local_symbols.weight, target_BC.flatten())
    return nats_N.view_as(target_BC)


Compute = Callable[[Chunk, Tensor | None], Tensor]
"""The outputs of a chunk, (B, its symbols), from its inputs, (B, its patches, G), or None if there are none."""
Weights = Callable[[], Sequence[Tensor]]
"""The weights of now, always in the same order: a sharded module's are other tensors in the backward pass."""


def in_chunks(
    compute: Compute, chunks: Sequence[Chunk], input_BKG: Tensor | None, weights: Weights, like_BT: Tensor
) -> Tensor:
    """All chunks' outputs as float32, (B, T); each is recomputed in the backward pass, with the same random numbers.

    weights: all tensors that `compute` uses beside its arguments and that need gradients. like: of the shape and on the
    device of the outputs, without gradients.
    """
    arguments = (compute, chunks, weights, like_BT, input_BKG, *weights())
    output_BT: Tensor = _InChunks.apply(*arguments)  # type: ignore[no-untyped-call]
    return output_BT


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        compute: Compute,
        chunks: Sequence[Chunk],
        weights: Weights,
        like_BT: Tensor,
        input_BKG: Tensor | None,
        *weight_tensors: Tensor,
    ) -> Tensor:
        ctx.compute, ctx.chunks, ctx.weights = compute, chunks, weights
        ctx.state = _RngAndAutocastState(like_BT.device)
        ctx.save_for_backward(input_BKG, *weight_tensors)
        output_BT = torch.empty(like_BT.shape, dtype=torch.float32, device=like_BT.device)
        for chunk in chunks:
            # As in the backward pass: without gradients another attention kernel would run, and drop other weights.
            with torch.enable_grad():
                output_BT[:, chunk.outputs] = compute(chunk, _inputs(input_BKG, chunk)).detach()
        return output_BT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BT: Tensor) -> tuple[Tensor | None, ...]:
        input_BKG, *_ = ctx.saved_tensors  # raises if a weight was changed in between
        weights = list(ctx.weights())
        grad_input_BKG = None if input_BKG is None else torch.zeros_like(input_BKG)
        grads: list[Tensor | None] = [None] * len(weights)
        with ctx.state.restored():
            for chunk in ctx.chunks:
                input_BkG = _inputs(input_BKG, chunk)
                sources = weights if input_BkG is None else [input_BkG, *weights]
                with torch.enable_grad():
                    output_BC = ctx.compute(chunk, input_BkG)
                more = list(torch.autograd.grad(output_BC, sources, grad_BT[:, chunk.outputs], allow_unused=True))
                if input_BkG is not None:
                    grad_BkG = more.pop(0)
                    if grad_BkG is not None and grad_input_BKG is not None:
                        grad_input_BKG[:, chunk.inputs] += grad_BkG
                grads = [_sum(total, grad) for total, grad in zip(grads, more, strict=True)]
        return None, None, None, None, grad_input_BKG, *grads


def _inputs(input_BKG: Tensor | None, chunk: Chunk) -> Tensor | None:
    """A chunk's inputs, as a leaf of a graph of its own."""
    return None if input_BKG is None else input_BKG[:, chunk.inputs].detach().requires_grad_()


def _sum(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if more is None:
        return total
    # A copy: compiled code may return memory that the next chunk overwrites.
    return more.clone() if total is None else total.add_(more)


class _RngAndAutocastState:
    """The random number generators and autocast as they are now, to be restored later."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._gpus = [device] if device.type == "cuda" else []
        self._random = torch.get_rng_state(), [torch.cuda.get_rng_state(gpu) for gpu in self._gpus]
        kind = device.type
        known = torch.amp.autocast_mode.is_autocast_available(kind)
        self._precision = (torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) if known else None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore them inside the block; afterwards they continue as before it."""
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
