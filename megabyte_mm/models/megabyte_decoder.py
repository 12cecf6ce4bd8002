"""MEGABYTE symbol by symbol: the local model at every symbol, the global one when a patch is full.

Legend: B rows, T symbols, K patches, P symbols in a patch, Q symbols of the open patch, G global width, L local width,
C symbols, V the 257 symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.attention import CrossPatchAttention
from megabyte_mm.models.base import Decoder
from megabyte_mm.models.cache import LayerCache

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte import Megabyte


class MegabyteDecoder(Decoder):
    """Keeps the keys and values of all patches for the global level, and those of the open patch for the local one."""

    def __init__(self, model: Megabyte, batch: int, condition_B: Tensor, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self.alignment = model.patch_size
        self._condition_B = condition_B
        patches = -(capacity // -model.patch_size)
        places = model.patch_size + model.config.cross_patch
        self._global_caches = model.global_stack.caches(batch, patches) if model.global_stack is not None else []
        self._local_caches = model.local_stack.caches(batch, places) if model.local_stack is not None else []
        self._kept = max(1, model.embedder.reach if model.global_stack is not None else 0)
        """How many symbols before the open patch are still needed."""
        self._before_BC: Tensor
        self._patch: list[Tensor] = []
        """The symbols of the open patch, (B,) each."""
        self._patches = 0
        self._told_BPX: Tensor
        """What the global model says of the open patch: the local model's context, or without one the logits."""

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        length, patch_size = ids_BT.shape[1], self._model.patch_size
        self.begin(length)
        for cache in (*self._global_caches, *self._local_caches):
            cache.clear()
        self._patches = length // patch_size
        known_BT = ids_BT[:, : self._patches * patch_size]
        self._before_BC = known_BT[:, -self._kept :]
        # One more patch than is known, since the model drops the last from its input.
        opened_BT = F.pad(known_BT, (0, patch_size), value=END)
        global_BKG = self._model.global_output(opened_BT, self._condition_B, self._global_caches)
        if self._model.config.cross_patch and self._patches:
            self._read_earlier_patches(known_BT, global_BKG)
        return self._open_patch(
            global_BKG if global_BKG is None else global_BKG[:, -1:], ids_BT[:, known_BT.shape[1] :]
        )

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        patch_size, model = self._model.patch_size, self._model
        self.advance()
        self._patch.append(ids_B)
        place = len(self._patch)
        if place == patch_size:
            return self._next_patch(torch.stack(self._patch, dim=1))
        if model.local_stack is None:
            return self._told_BPX[:, place]
        hidden_B1L = model.local_bytes(ids_B[:, None]) + self._told_BPX[:, place : place + 1]
        return model.to_logits(model.local_stack(hidden_B1L, self._local_caches))[:, 0]

    def _next_patch(self, patch_BP: Tensor) -> Tensor:
        """Let both levels read a full patch, and open the one after it: (B, P) -> (B, V)."""
        model, global_B1G = self._model, None
        if model.global_stack is not None:
            embedded_B1G = model.embedder(patch_BP, self._patches, self._before_BC)
            global_B1G = model.global_stack(embedded_B1G, self._global_caches)
        self._patches += 1
        self._before_BC = torch.cat([self._before_BC, patch_BP], dim=1)[:, -self._kept :]
        self._close_local()
        return self._open_patch(global_B1G, patch_BP[:, :0])

    def _open_patch(self, global_B1G: Tensor | None, ids_BQ: Tensor) -> Tensor:
        """Keep what is said of a new patch, and read its first Q symbols, Q < P: (B, 1, G), (B, Q) -> (B, V)."""
        model = self._model
        self._patch = list(ids_BQ.unbind(1))
        if model.local_stack is None:
            self._told_BPX = model.heads(global_B1G).view(len(ids_BQ), -1, SYMBOLS)
            return self._told_BPX[:, len(self._patch)]
        self._told_BPX = model.local_context(global_B1G, self._condition_B, patches=1)
        empty_BP = ids_BQ.new_full((len(ids_BQ), model.patch_size), END)
        starts_BL = model.local_starts(empty_BP, self._before_BC[:, -1:] if self._patches else None)
        hidden_BQL = model.local_stack(model.local_input(self._told_BPX, starts_BL, ids_BQ), self._local_caches)
        return model.to_logits(hidden_BQL[:, -1])

    def _close_local(self) -> None:
        """Forget the patch that is full, but for what the next one sees of it."""
        for attention, cache in self._local_layers():
            if isinstance(attention, CrossPatchAttention):
                attention.close_patch(cache)
            else:
                cache.clear()

    def _local_layers(self) -> list[tuple[object, LayerCache]]:
        stack = self._model.local_stack
        return [] if stack is None else list(zip(stack.attentions(), self._local_caches, strict=True))

    def _read_earlier_patches(self, known_BT: Tensor, global_BKG: Tensor | None) -> None:
        """Fill the local caches with what the open patch sees of the one before it.

        Each layer looks back by one patch, so that as many patches matter as there are layers.
        """
        first = max(self._patches - len(self._local_caches), 0)
        begin = first * self._model.patch_size
        told_BKG = None if global_BKG is None else global_BKG[:, first:-1]
        before_B1 = known_BT[:, begin - 1 :][:, :1] if first else None
        self._model.local_output(told_BKG, known_BT[:, begin:], self._condition_B, before_B1, self._local_caches)
