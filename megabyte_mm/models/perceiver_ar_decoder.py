"""PerceiverAR symbol by symbol: keys of every position, and latents that begin anew after half of their number.

Legend: B rows, T symbols, S positions read so far, M latents, D model width, H heads, E head width, V the 257 symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.models.base import Decoder
from megabyte_mm.models.cache import LayerCache

if TYPE_CHECKING:
    from megabyte_mm.models.perceiver_ar import PerceiverAR


class PerceiverARDecoder(Decoder):
    """Keeps keys and values of every position for the latents to read, and those of the latents for each other.

    Every half of the latents' number of symbols, the latents begin anew at the positions that `forward` has there.
    """

    def __init__(self, model: PerceiverAR, batch: int, condition_B: Tensor, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self.alignment = model.stride if model.stride < capacity else 1  # a lone stretch may begin anywhere
        self._condition_B = condition_B
        stack = model.config.stack
        like = next(model.parameters())
        self._read = LayerCache(batch, stack.heads, capacity, stack.dim // stack.heads, like)
        self._caches = model.stack.caches(batch, model.config.latents)
        self._recent_BSD: Tensor
        """What stands at the last positions, as many as the next latents may begin with."""

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        length = ids_BT.shape[1]
        self.begin(length)
        self._read.clear()
        input_BSD = self._model.embedder(ids_BT, self._condition_B)
        self._read.append(*self._model.reader.keys_and_values(input_BSD, 0))
        first = max(length // self._model.stride - 1, 0) * self._model.stride
        self._recent_BSD = input_BSD[:, -self._model.stride :]
        return self._new_latents(input_BSD[:, first:], length)

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        length = self.advance()
        input_B1D = self._model.embedder.after(ids_B[:, None], length)
        self._read.append(*self._model.reader.keys_and_values(input_B1D, length))
        before_BSD = self._recent_BSD
        self._recent_BSD = torch.cat([before_BSD, input_B1D], dim=1)[:, -self._model.stride :]
        if length % self._model.stride == 0:
            return self._new_latents(torch.cat([before_BSD, input_B1D], dim=1), length)
        return self._latents(input_B1D, length)

    def _new_latents(self, input_BMD: Tensor, length: int) -> Tensor:
        for cache in self._caches:
            cache.clear()
        return self._latents(input_BMD, length)

    def _latents(self, input_BMD: Tensor, length: int) -> Tensor:
        """Logits after the last of M latents, which follow those in the caches: (B, M, D) -> (B, V).

        length: symbols read, so that the last latent stands where the next symbol will.
        """
        first = length + 1 - input_BMD.shape[1]
        begin = length - length % self._model.stride
        oldest = self._model.stretch_at(begin, self.capacity).oldest
        keys_BHSE, values_BHSE = (held_BHSE[:, :, oldest:] for held_BHSE in self._read.held())
        read_BMD = self._model.reader(input_BMD, first, keys_BHSE, values_BHSE)
        return self._model.embedder.to_logits(self._model.stack(read_BMD, self._caches)[:, -1])
