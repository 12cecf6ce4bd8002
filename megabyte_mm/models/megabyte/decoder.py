"""MEGABYTE symbol by symbol: the local model at every symbol, the global one when a patch is full.

All rows are at the same place of their patches, each in a patch of its own.

Legend: B rows, T symbols, K patches, P symbols in a patch, C symbols kept of what was before, G global width, L local
width, X what the global model says of a place, r positions of the previous patch, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.attention import CrossPatchAttention
from megabyte_mm.models.base import Decoder, prefill_unique
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.decoding.steps import projection, stack_steps

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte import Megabyte

PATCHES_AT_ONCE = 512
"""A prefix is read so many patches at a time, so that memory does not grow with it but for the caches."""


class MegabyteDecoder(Decoder):
    """Keeps the keys and values of all patches for the global level, and those of the open patch for the local one."""

    def __init__(self, model: Megabyte, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        self._model, self.capacity, self.alignment = model, capacity, model.patch_size
        self.conditions = condition_B
        self._most_patches = -(capacity // -model.patch_size)
        self._global_caches: list[LayerCache] = []
        self._local_caches: list[LayerCache] = []
        batch, like = len(condition_B), next(model.parameters())
        if model.global_stack is not None:
            self._global_caches = model.global_stack.caches(batch, self._most_patches)
            self._global_step = stack_steps(model.global_stack, self._global_caches, execution)
            told = model.heads if model.local_stack is None else model.to_local
            self._project_global = projection(told.weight, told.bias, execution)
        if model.local_stack is not None:
            self._local_caches = model.local_stack.caches(batch, self._previous + model.patch_size)
            table_VL = model.local_symbols.weight
            self._local_step = stack_steps(model.local_stack, self._local_caches, execution, head_VD=table_VL)
        width = SYMBOLS if model.config.local_stack is None else model.config.local_stack.dim
        self._patch_context_BPX = like.new_empty(batch, model.patch_size, width)
        """What the global model says of the open patch: the local model's context, or without one the logits."""
        self._patch_BP = torch.full((batch, model.patch_size), END, device=like.device)
        self._recent_ids_BC = torch.full((batch, max(1, self._receptive_field)), END, device=like.device)
        """The symbols before the open patch that still matter; where a row has fewer, its last so many columns."""
        self._local_start_B = torch.zeros(batch, dtype=torch.long, device=like.device)
        """The oldest local position that a row sees: 0, or r where there is no patch before."""
        self._global_start_B = torch.zeros_like(self._local_start_B)
        """The oldest global position that a row sees."""
        self._position_in_patch = 0
        """How many symbols of the open patch were read, the same for all rows."""
        self._patches: list[int] = []
        """How many full patches of each row were read."""

    @property
    def _previous(self) -> int:
        return self._model.config.cross_patch

    @property
    def _receptive_field(self) -> int:
        return self._model.embedder.receptive_field if self._model.global_stack is not None else 0

    @torch.no_grad()
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        size = self._model.patch_size
        self.lengths = [len(prefix) // size * size for prefix in prefixes]
        self._patches = [length // size for length in self.lengths]
        whole = [prefix[:length] for prefix, length in zip(prefixes, self.lengths, strict=True)]
        self._read_rows(dict(enumerate(whole)))
        self._position_in_patch = 0
        return self._next(None, len(prefixes))

    @torch.no_grad()
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        new_contexts = new_contexts or {}
        self._advance_lengths(ids_B, new_contexts)
        rows, size = len(ids_B), self._model.patch_size
        self._patch_BP[:rows, self._position_in_patch] = ids_B
        self._position_in_patch += 1
        full = self._position_in_patch == size
        if full and len(new_contexts) < rows:
            self._close_patch(rows)
        self._patches = [patches + full * (row not in self._finished) for row, patches in enumerate(self._patches)]
        self._read_new_contexts(new_contexts)
        if full:
            self._position_in_patch = 0
            return self._next(None, rows)
        # Other rows read their open patch once more beside these, and find what they found.
        for place in range(self._position_in_patch if new_contexts else 0):
            self._next(self._patch_BP[:rows, place - 1] if place else None, rows, place)
        return self._next(ids_B, rows)

    def _read_new_contexts(self, contexts: Mapping[int, Tensor]) -> None:
        """Let these rows hold the whole patches of their fresh contexts."""
        for row, ids_T in contexts.items():
            self._patches[row] = len(ids_T) // self._model.patch_size
        size = self._model.patch_size
        self._read_rows({row: ids_T[: self._patches[row] * size] for row, ids_T in contexts.items()})

    def _read_rows(self, prefixes: Mapping[int, Tensor]) -> None:
        if prefixes:
            prefill_unique(self._model, prefixes, self.conditions.tolist(), self._read, self._copy)

    def _next(self, ids_B: Tensor | None, rows: int, place: int | None = None) -> Tensor:
        """Logits at a place of the open patch, by default the next, after a symbol or a patch's start -> (B, V)."""
        model, place = self._model, self._position_in_patch if place is None else place
        if model.local_stack is None:
            return self._patch_context_BPX[:rows, place].clone()
        read_BL = self._starts(rows) if ids_B is None else model.local_bytes(ids_B)
        slot = self._previous + place
        start_B = self._local_start_B[:rows]
        slot_B = torch.full_like(start_B, slot)
        return self._local_step(read_BL + self._patch_context_BPX[:rows, place], start_B, slot_B, slot + 1)

    def _starts(self, rows: int) -> Tensor:
        """What the local model reads first in a patch: (B, L)."""
        start_BL = self._model.local_start_L.expand(rows, -1)
        if self._model.config.local_start == "learned":
            return start_BL
        begun_B1 = torch.tensor([patches > 0 for patches in self._patches], device=start_BL.device)[:, None]
        return torch.where(begun_B1, self._model.local_bytes(self._recent_ids_BC[:rows, -1]), start_BL)

    def _close_patch(self, rows: int) -> None:
        """Let the global model read a full patch of each row, and the next see what it may of it."""
        patch_BP = self._patch_BP[:rows]
        if self._model.global_stack is not None:
            # A row that ends with the window goes on in its last place, where nobody looks.
            slots = [min(patches + 1, self._most_patches - 1) for patches in self._patches]
            slot_B = torch.tensor(slots, device=patch_BP.device)
            embedded_BG = self._embedded(patch_BP, [max(slot - 1, 0) for slot in slots])
            global_BG = self._global_step(embedded_BG, self._global_start_B[:rows], slot_B, max(slots) + 1)
            self._set_patch_context(slice(0, rows), global_BG)
        self._recent_ids_BC[:rows] = torch.cat([self._recent_ids_BC[:rows], patch_BP], dim=1)[:, patch_BP.shape[1] :]
        if self._previous:
            self._local_start_B[:rows] = 0
            for attention, cache in self._local_layers():
                attention.close_patch(cache, patch_BP.shape[1])

    def _embedded(self, patch_BP: Tensor, numbers: list[int]) -> Tensor:
        """Patches as the global model reads them, by their numbers in their sequences: (B, P) -> (B, G)."""
        embedder = self._model.embedder
        if not embedder.receptive_field:
            return embedder.one_patch(patch_BP, torch.tensor(numbers, device=patch_BP.device))
        # Row by row: the order in which convolutions sum depends on how many rows there are.
        embedded = []
        for row, number in enumerate(numbers):
            known = min(number * self._model.patch_size, embedder.receptive_field)
            before_1C = self._recent_ids_BC[row : row + 1, self._recent_ids_BC.shape[1] - known :]
            embedded.append(embedder(patch_BP[row : row + 1], number, before_1C)[0])
        return torch.cat(embedded)

    def _set_patch_context(self, rows: slice, global_BG: Tensor) -> None:
        """Keep what the global model says of the patches that these rows are about to open: (B, G)."""
        model = self._model
        if model.local_stack is None:
            logits_BX = self._project_global(global_BG)
            self._patch_context_BPX[rows] = logits_BX.view(len(global_BG), model.patch_size, SYMBOLS)
            return
        context_NX = self._project_global(global_BG.reshape(len(global_BG) * model.patch_size, -1))
        context_BPX = context_NX.view(len(global_BG), model.patch_size, -1)
        self._patch_context_BPX[rows] = context_BPX + model.local_positions.weight

    def _read(self, row: int, ids_T: Tensor) -> None:
        """Let a row hold these symbols, whole patches of them, and nothing else."""
        model, size = self._model, self._model.patch_size
        condition_B = self.conditions[row : row + 1]
        kept = min(len(ids_T), self._recent_ids_BC.shape[1])
        self._recent_ids_BC[row, self._recent_ids_BC.shape[1] - kept :] = ids_T[len(ids_T) - kept :]
        caches = [cache.row(row) for cache in self._local_caches]
        receptive_field = len(caches) if self._previous else 0
        recent_BKG = self._read_globally(row, ids_T[None], condition_B, receptive_field + 1)
        if model.local_stack is not None and recent_BKG is None:
            self._patch_context_BPX[row] = model.local_context(None, condition_B, patches=1)[0]
        if recent_BKG is not None:
            self._set_patch_context(slice(row, row + 1), recent_BKG[:, -1])
        if self._previous:
            self._local_start_B[row] = 0 if len(ids_T) else self._previous
        if self._previous and len(ids_T):
            # Each layer looks back by one patch, so that as many patches matter as there are layers.
            begin = max(len(ids_T) - receptive_field * size, 0)
            global_output_BKG = None if recent_BKG is None else recent_BKG[:, :-1]
            before_B1 = ids_T[None, begin - 1 : begin] if begin else None
            model.local_output(global_output_BKG, ids_T[None, begin:], condition_B, before_B1, caches)

    def _read_globally(self, row: int, ids_BT: Tensor, condition_B: Tensor, last: int) -> Tensor | None:
        """Let a row's global caches hold a prefix; what the model says of its last patches and the one after them."""
        model = self._model
        if model.global_stack is None:
            return None
        caches = [cache.row(row) for cache in self._global_caches]
        recent_BKG: Tensor = model.global_stack(model.start_CG[condition_B].unsqueeze(1), caches)
        stretch = PATCHES_AT_ONCE * model.patch_size
        for begin in range(0, ids_BT.shape[1], stretch):
            before_BC = ids_BT[:, max(begin - self._recent_ids_BC.shape[1], 0) : begin]
            embedded_BKG = model.embedder(ids_BT[:, begin : begin + stretch], begin // model.patch_size, before_BC)
            recent_BKG = torch.cat([recent_BKG, model.global_stack(embedded_BKG, caches)], dim=1)[:, -last:]
        return recent_BKG

    def _copy(self, source: int, to: int) -> None:
        for cache in self._global_caches:
            cache.copy_row(source, to, self._patches[source] + 1)
        for cache in self._local_caches:
            cache.copy_row(source, to, self._previous)
        for kept_B in (self._recent_ids_BC, self._patch_context_BPX, self._local_start_B):
            kept_B[to] = kept_B[source]

    def _local_layers(self) -> list[tuple[CrossPatchAttention, LayerCache]]:
        stack = self._model.local_stack
        return [] if stack is None else list(zip(stack.attentions(), self._local_caches, strict=True))  # type: ignore[arg-type]
