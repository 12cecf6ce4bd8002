"""MEGABYTE symbol by symbol: the local model runs at every symbol, the global model when a patch is full.

All rows are at the same position in their patches, each in a patch of its own.

Legend: B rows, T symbols, K patches, P symbols in a patch, C recent symbols, G global width, L local width, X width of
the patch context, r positions of the previous patch, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.attention import CrossPatchAttention
from megabyte_mm.models.base import PatchDecoder, prefill_unique
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.decoding.neighbours import NeighbourhoodSteps
from megabyte_mm.models.decoding.steps import projection, reads_patches, stack_steps, viewed_slots
from megabyte_mm.models.megabyte.chunked_loss import receptive_field
from megabyte_mm.models.megabyte.patch_borders import PATCHES_AT_ONCE, first_inputs, local_contexts, reading_in

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte


class MegabyteDecoder(PatchDecoder):
    """Caches the keys and values of all patches for the global model, and those of the open patch for the local one."""

    def __init__(self, model: Megabyte, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        self._model, self.capacity, self.alignment = model, capacity, model.patch_size
        self.conditions = condition_B
        self.reads_patches, self.max_patch_size = reads_patches(condition_B.device, execution), model.patch_size
        self._max_patches = -(capacity // -model.patch_size)
        self._cross_patch = model.config.cross_patch
        self._global_caches: list[LayerCache] = []
        self._local_caches: list[LayerCache] = []
        batch, like = len(condition_B), next(model.parameters())
        self._like, self._dtype = like, execution.dtype(like)
        before = 0
        if model.global_stack is not None:
            self._global_caches = model.global_stack.caches(batch, self._max_patches, self._dtype)
            self._global_step = stack_steps(
                model.global_stack, self._global_caches, execution, captured=self.reads_patches
            )
            layer = model.heads if model.local_stack is None else model.to_local
            makes_logits = model.local_stack is None
            exact = replace(execution, exact=execution.exact or makes_logits)
            self._project_global = projection(layer.weight, layer.bias, exact)
            before = model.embedder.receptive_field
        if model.local_stack is not None:
            self._local_caches = model.local_stack.caches(batch, self._cross_patch + model.patch_size, self._dtype)
            table_VL = model.local_symbols.weight
            self._local_step = stack_steps(
                model.local_stack, self._local_caches, execution, table_VL, self.reads_patches
            )
        self._neighbourhood: NeighbourhoodSteps | None = None
        if model.neighbourhood is not None:
            self._neighbourhood = NeighbourhoodSteps(model.neighbourhood, condition_B, capacity, execution)
        width = SYMBOLS if model.config.local_stack is None else model.config.local_stack.dim
        self._patch_context_BPX = like.new_empty(batch, model.patch_size, width)
        """The local model's context in the open patch, or without a local model the logits."""
        self._patch_BP = torch.full((batch, model.patch_size), END, device=like.device)
        self._recent_ids_BC = torch.full((batch, max(1, before)), END, device=like.device)
        """Symbols in front of the open patch that the embedder sees; a row with fewer fills the last columns."""
        self._local_start_B = torch.zeros(batch, dtype=torch.long, device=like.device)
        """The first visible slot of the local caches: 0, or r in the first patch of a row."""
        self._global_start_B = torch.zeros_like(self._local_start_B)
        """The first visible slot of the global caches."""
        self._position_in_patch = 0
        """Symbols of the open patch that were read, the same for all rows."""
        self._patches: list[int] = []
        """Full patches of each row that were read."""
        self._num_patches_B = torch.zeros_like(self._local_start_B)
        """The same on the device, where rows that have ended are counted on."""

    @torch.no_grad()
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        size = self._model.patch_size
        self.lengths = [len(prefix) // size * size for prefix in prefixes]
        self._patches = [length // size for length in self.lengths]
        whole = [prefix[:length] for prefix, length in zip(prefixes, self.lengths, strict=True)]
        self._read_rows(dict(enumerate(whole)))
        self._position_in_patch = 0
        if self._neighbourhood is not None:
            self._neighbourhood.restart(dict(enumerate(whole)))
        return self._next_logits(None, len(prefixes))

    @torch.no_grad()
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        new_contexts = new_contexts or {}
        self._advance_lengths(ids_B, new_contexts)
        rows, full = len(ids_B), self._read_symbol(ids_B)
        if full and len(new_contexts) < rows:
            self._close_patch(rows, self._num_slots())
            self._count_patch()
        self._read_new_contexts(new_contexts)
        if full:
            self._position_in_patch = 0
            return self._next_logits(None, rows)
        # The other rows read their open patch again beside these, with the same results.
        for position in range(self._position_in_patch if new_contexts else 0):
            self._next_logits(self._patch_BP[:rows, position - 1] if position else None, rows, position)
        return self._next_logits(ids_B, rows)

    @property
    def patch_size(self) -> int:
        return self._model.patch_size

    def has_patch(self) -> bool:
        return not self._position_in_patch and super().has_patch()

    @property
    def num_viewed(self) -> int:
        return viewed_slots(self._num_slots(), self._max_patches)

    @torch.no_grad()
    def read_patch(self, logits_BV: Tensor, choose: Callable[[int, Tensor], Tensor], num_viewed: int) -> Tensor:
        rows = len(self._patches)
        try:
            while not self._read_symbol(ids_B := choose(self._position_in_patch, logits_BV)):
                logits_BV = self._next_logits(ids_B, rows)
        finally:  # also where recording fails
            self._position_in_patch = 0
        self._close_patch(rows, num_viewed)
        return self._next_logits(None, rows)

    def count_patch(self) -> None:
        super().count_patch()
        self._count_patch()

    def _count_patch(self) -> None:
        self._patches = [patches + (row not in self._finished) for row, patches in enumerate(self._patches)]

    def _num_slots(self) -> int:
        """Slots of the global caches up to that of the patch that closes next, over all rows."""
        return min(max(self._patches) + 2, self._max_patches)

    def _read_symbol(self, ids_B: Tensor) -> bool:
        """Append a symbol to the open patch of each row. True where it is full then."""
        self._patch_BP[: len(ids_B), self._position_in_patch] = ids_B
        if self._neighbourhood is not None:
            self._neighbourhood.read(ids_B)
        self._position_in_patch += 1
        return self._position_in_patch == self.patch_size

    def _read_new_contexts(self, contexts: Mapping[int, Tensor]) -> None:
        """Restart these rows from the whole patches of their new contexts."""
        for row, ids_T in contexts.items():
            self._patches[row] = len(ids_T) // self._model.patch_size
        size = self._model.patch_size
        self._read_rows({row: ids_T[: self._patches[row] * size] for row, ids_T in contexts.items()})
        if self._neighbourhood is not None:
            self._neighbourhood.restart(contexts)

    def _read_rows(self, prefixes: Mapping[int, Tensor]) -> None:
        if prefixes:
            with reading_in(self._dtype, self._like):
                prefill_unique(self._model, prefixes, self.condition_numbers, self._read, self._copy)

    def _next_logits(self, ids_B: Tensor | None, rows: int, position: int | None = None) -> Tensor:
        """Logits at a position of the open patch, by default the present one, -> (B, V).

        ids: the symbol in front of it; None where the patch begins.
        """
        model, position = self._model, self._position_in_patch if position is None else position
        if model.local_stack is None:
            return self._patch_context_BPX[:rows, position].clone()
        if ids_B is None:
            input_BL = first_inputs(model, self._recent_ids_BC[:rows, -1], self._num_patches_B[:rows] > 0)
        else:
            input_BL = model.local_bytes(ids_B)
        input_BL = input_BL + self._patch_context_BPX[:rows, position]
        if self._neighbourhood is not None:
            input_BL = self._neighbourhood.add(input_BL, back=self._position_in_patch - position)
        slot = self._cross_patch + position
        start_B = self._local_start_B[:rows]
        slot_B = torch.full_like(start_B, slot)
        return self._local_step(input_BL, start_B, slot_B, slot + 1)

    def _close_patch(self, rows: int, num_slots: int) -> None:
        """Read the full patch of each row with the global model, and give the next patch its context.

        num_slots: of the global caches, those that are looked at.
        """
        patch_BP, slot_B = self._patch_BP[:rows], self._num_patches_B[:rows]
        # A row that has filled its window stays in its last slot, which is not read again.
        slot_B.add_(1).clamp_(max=self._max_patches - 1)
        if self._model.global_stack is not None:
            number_B = (slot_B - 1).clamp_min(0)
            embedded_BG = self._model.embedder.one_patch(patch_BP, number_B, self._recent_ids_BC[:rows])
            global_BG = self._global_step(embedded_BG, self._global_start_B[:rows], slot_B, num_slots)
            self._set_patch_context(slice(0, rows), global_BG)
        self._recent_ids_BC[:rows] = torch.cat([self._recent_ids_BC[:rows], patch_BP], dim=1)[:, patch_BP.shape[1] :]
        if self._cross_patch:
            self._local_start_B[:rows] = 0
            for attention, cache in self._local_layers():
                attention.close_patch(cache, patch_BP.shape[1])

    def _set_patch_context(self, rows: slice, global_BG: Tensor) -> None:
        """Project the global output for the patches that these rows are about to open: (B, G)."""
        model = self._model
        if model.local_stack is None:
            logits_BX = self._project_global(global_BG)
            self._patch_context_BPX[rows] = logits_BX.view(len(global_BG), model.patch_size, SYMBOLS)
            return
        self._patch_context_BPX[rows] = local_contexts(self._project_global, global_BG, model.local_positions.weight)

    def _read(self, row: int, ids_T: Tensor) -> None:
        """Restart a row from these symbols, which are whole patches."""
        model = self._model
        condition_B = self.conditions[row : row + 1]
        self._num_patches_B[row] = len(ids_T) // model.patch_size
        recent = min(len(ids_T), self._recent_ids_BC.shape[1])
        self._recent_ids_BC[row, self._recent_ids_BC.shape[1] - recent :] = ids_T[len(ids_T) - recent :]
        global_BKG = self._read_globally(row, ids_T[None], condition_B, receptive_field(model) + 1)
        if global_BKG is not None:
            self._set_patch_context(slice(row, row + 1), global_BKG[:, -1])
        else:
            self._patch_context_BPX[row] = model.local_context(None, condition_B, patches=1)[0]
        if self._cross_patch:
            self._local_start_B[row] = 0 if len(ids_T) else self._cross_patch
            self._read_locally(row, ids_T[None], condition_B, None if global_BKG is None else global_BKG[:, :-1])

    def _read_globally(self, row: int, ids_BT: Tensor, condition_B: Tensor, last: int) -> Tensor | None:
        """Fill a row's global caches, and return the global output of the last patches, the open one included."""
        model = self._model
        if model.global_stack is None:
            return None
        caches = [cache.row(row) for cache in self._global_caches]
        global_BKG: Tensor = model.global_stack(model.start_CG[condition_B].unsqueeze(1), caches)
        step = PATCHES_AT_ONCE * model.patch_size
        for begin in range(0, ids_BT.shape[1], step):
            before_BC = ids_BT[:, max(begin - self._recent_ids_BC.shape[1], 0) : begin]
            embedded_BKG = model.embedder(ids_BT[:, begin : begin + step], begin // model.patch_size, before_BC)
            global_BKG = torch.cat([global_BKG, model.global_stack(embedded_BKG, caches)], dim=1)[:, -last:]
        return global_BKG

    def _read_locally(self, row: int, ids_BT: Tensor, condition_B: Tensor, global_BKG: Tensor | None) -> None:
        """Fill a row's local caches with the patch in front of the open one, if any, from its receptive field."""
        if not ids_BT.shape[1]:
            return
        caches = [cache.row(row) for cache in self._local_caches]
        first = max(ids_BT.shape[1] // self._model.patch_size - receptive_field(self._model), 0)
        self._model.local_output(global_BKG, ids_BT, condition_B, first, caches)

    def _copy(self, source: int, to: int) -> None:
        for cache in self._global_caches:
            cache.copy_row(source, to, self._patches[source] + 1)
        for cache in self._local_caches:
            cache.copy_row(source, to, self._cross_patch)
        for state_B in (self._recent_ids_BC, self._patch_context_BPX, self._local_start_B, self._num_patches_B):
            state_B[to] = state_B[source]

    def _local_layers(self) -> list[tuple[CrossPatchAttention, LayerCache]]:
        stack = self._model.local_stack
        return [] if stack is None else list(zip(stack.attentions(), self._local_caches, strict=True))  # type: ignore[arg-type]
