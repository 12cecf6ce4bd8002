"""Rows of several parts symbol by symbol: each row is at its own position in a patch of its own size.

Legend: B rows, T symbols, K patches, P symbols of the largest patch, p symbols of one, n rows of some kind, C recent
symbols, G global width, L local width, V the 257 symbols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.models.base import PatchDecoder, prefill_unique
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.decoding.neighbours import NeighbourhoodSteps
from megabyte_mm.models.decoding.steps import projection, reads_patches, stack_steps, viewed_slots
from megabyte_mm.models.megabyte.config import PartConfig
from megabyte_mm.models.megabyte.patch_borders import PATCHES_AT_ONCE, first_inputs, local_contexts, reading_in
from megabyte_mm.models.transfer import numbers_to_device

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte


@dataclass
class Cursor:
    """The position of a row: the open patch, and how much of it was read.

    numbers: of the row's parts in the config, in their order. index: of the open patch's part among them. patch: of the
    open patch in its part. position: symbols of the open patch that were read. steps: patches of the row before it.
    """

    parts: Sequence[PartConfig]
    numbers: Sequence[int]
    index: int = 0
    patch: int = 0
    position: int = 0
    steps: int = 0

    @property
    def part(self) -> PartConfig:
        """The part of the open patch."""
        return self.parts[self.index]

    @property
    def number(self) -> int:
        """The number of that part in the config."""
        return self.numbers[self.index]

    @property
    def size(self) -> int:
        """Symbols of the open patch."""
        return self.part.patch_size

    def close(self) -> bool:
        """Open the next patch. True where a part begins with it; the last part has no end."""
        self.patch, self.position, self.steps = self.patch + 1, 0, self.steps + 1
        if self.patch < self.part.patches or self.index + 1 == len(self.parts):
            return False
        self.index, self.patch = self.index + 1, 0
        return True


class PartsDecoder(PatchDecoder):
    """Caches the keys and values of all patches for the global model, and those of the open patch for the local one."""

    def __init__(self, model: Megabyte, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        assert model.global_stack is not None
        assert model.local_stack is not None
        self._model, self.capacity = model, capacity
        self.conditions = condition_B
        self.alignment = math.lcm(*model.config.patch_sizes)
        self._last_slot = model.max_patches - 1
        parts = model.config.parts or ()
        self._max_patches = {
            size: max(part.patches for part in parts if part.patch_size == size) for size in model.config.patch_sizes
        }
        """Patches of the longest part, by their size."""
        self._layers = {size: model.layers_of(size) for size in model.config.patch_sizes}
        batch, like, largest = len(condition_B), next(model.parameters()), max(self._layers)
        self._like, self._dtype = like, execution.dtype(like)
        self._global_caches = model.global_stack.caches(batch, model.max_patches, self._dtype)
        self._local_caches = model.local_stack.caches(batch, largest, self._dtype)
        self.reads_patches, self.max_patch_size = reads_patches(condition_B.device, execution), largest
        self._global_step = stack_steps(model.global_stack, self._global_caches, execution, captured=self.reads_patches)
        self._local_step = stack_steps(
            model.local_stack, self._local_caches, execution, model.local_symbols.weight, self.reads_patches
        )
        self._projections = {
            size: projection(layers.to_local.weight, None, execution) for size, layers in self._layers.items()
        }
        self._part_B = torch.zeros_like(condition_B)
        """The number of the part of each row's open patch."""
        self._neighbourhood: NeighbourhoodSteps | None = None
        if model.neighbourhood is not None:
            self._neighbourhood = NeighbourhoodSteps(model.neighbourhood, self._part_B, capacity, execution)
        self._context_BPL = like.new_zeros(batch, largest, model.local_stack.config.dim)
        """The local model's context in the open patches."""
        self._patch_BP = torch.full((batch, largest), END, device=like.device)
        recent = max(1, *(layers.embedder.receptive_field for layers in self._layers.values()))
        self._recent_ids_BC = torch.full((batch, recent), END, device=like.device)
        """Symbols in front of the open patch, of the same part; a row with fewer fills the last columns."""
        self._cursors: list[Cursor] = []
        self._counts_2B = torch.zeros(2, batch, dtype=torch.long, device=like.device)
        """For whole patches: the number of each row's open patch in the part, and the slot in the global caches."""
        self._counted = False
        """True while `_counts_2B` is that of the cursors."""

    def capacity_of(self, row: int) -> int:
        order = self._model.config.order(self.condition_numbers[row])
        return min(self.capacity, sum(part.max_len for part in order))

    def alignment_of(self, row: int) -> int:
        return math.lcm(*(part.patch_size for part in self._model.config.order(self.condition_numbers[row])))

    @torch.no_grad()
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        conditions = self.condition_numbers[: len(prefixes)]
        self._cursors, self._counted = [Cursor((), ()) for _ in prefixes], False
        return self._next_logits(self._restart(dict(enumerate(prefixes)), conditions))

    @torch.no_grad()
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        new_contexts, self._counted = new_contexts or {}, False
        self._advance_lengths(ids_B, new_contexts)
        rows = len(ids_B)
        self._patch_BP[:rows].scatter_(1, self._positions(rows)[:, None], ids_B[:, None])
        if self._neighbourhood is not None:
            self._neighbourhood.read(ids_B)
        closing = []
        for row, cursor in enumerate(self._cursors):
            if row in self._finished or row in new_contexts:
                continue
            cursor.position += 1
            if cursor.position == cursor.size:
                closing.append(row)
        if closing:
            self._close_patches(closing, rows)
        if new_contexts:
            self._restart(new_contexts, self.condition_numbers)
        return self._next_logits(ids_B)

    @property
    def patch_size(self) -> int:
        return self._cursors[0].size

    @property
    def num_viewed(self) -> int:
        return viewed_slots(
            min(max(cursor.steps for cursor in self._cursors) + 2, self._last_slot + 1), self._last_slot + 1
        )

    def has_patch(self) -> bool:
        """As of `PatchDecoder`; and all patches are of one part, and none is its last."""
        cursors = [cursor for row, cursor in enumerate(self._cursors) if row not in self._finished]
        aligned = {(cursor.number, cursor.position) for cursor in cursors} == {(self._cursors[0].number, 0)}
        return aligned and all(cursor.patch + 1 < cursor.part.patches for cursor in cursors) and super().has_patch()

    def begin_patch(self) -> None:
        if not self._counted:
            counts = [[cursor.patch for cursor in self._cursors], [cursor.steps for cursor in self._cursors]]
            self._counts_2B[:, : len(self._cursors)] = numbers_to_device(counts, self._counts_2B.device)
            self._counted = True

    def count_patch(self) -> None:
        super().count_patch()
        for row, cursor in enumerate(self._cursors):
            if row not in self._finished:
                cursor.close()

    @torch.no_grad()
    def read_patch(self, logits_BV: Tensor, choose: Callable[[int, Tensor], Tensor], num_viewed: int) -> Tensor:
        size, rows = self.patch_size, len(self._cursors)
        for position in range(size):
            ids_B = choose(position, logits_BV)
            self._patch_BP[:rows, position] = ids_B
            if self._neighbourhood is not None:
                self._neighbourhood.read(ids_B)
            if position + 1 < size:
                logits_BV = self._local_logits(position + 1, self._model.local_bytes(ids_B))
        return self._local_logits(0, self._close_whole_patch(rows, num_viewed))

    def _close_whole_patch(self, rows: int, num_viewed: int) -> Tensor:
        """Read the full patches of all rows with the global model, and return the first inputs of the next: (B, L)."""
        model, size = self._model, self.patch_size
        layers, (patch_B, slot_B) = self._layers[size], self._counts_2B[:, :rows]
        patch_BP, recent_BC = self._patch_BP[:rows, :size], self._recent_ids_BC[:rows]
        embedded_BG = layers.embedder.one_patch(patch_BP, patch_B, recent_BC)
        recent_BC.copy_(torch.cat([recent_BC, patch_BP], dim=1)[:, size:])
        # Rows that have ended go on in place.
        patch_B.add_(1).clamp_(max=self._max_patches[size] - 1)
        slot_B.add_(1).clamp_(max=self._last_slot)
        input_BG = embedded_BG + model.part_PG[self._part_B[:rows]]
        global_BG = self._global_step(input_BG, torch.zeros_like(slot_B), slot_B, num_viewed)
        self._context_BPL[:rows, :size] = local_contexts(
            self._projections[size], global_BG, layers.local_positions.weight
        )
        return first_inputs(model, recent_BC[:, -1], patch_B > 0)

    def _local_logits(self, position: int, input_BL: Tensor) -> Tensor:
        """Logits at the same position of all open patches: (B, L) -> (B, V)."""
        input_BL = input_BL + self._context_BPL[: len(input_BL), position]
        if self._neighbourhood is not None:
            input_BL = self._neighbourhood.add(input_BL)
        start_B = torch.zeros(len(input_BL), dtype=torch.long, device=input_BL.device)
        return self._local_step(input_BL, start_B, torch.full_like(start_B, position), position + 1)

    def _cursor(self, condition: int, length: int) -> Cursor:
        """The position behind the first `length` symbols of a row."""
        config = self._model.config
        assert config.orders is not None
        cursor = Cursor(config.order(condition), config.orders[condition])
        while length >= cursor.size:
            length -= cursor.size
            cursor.close()
        cursor.position = length
        return cursor

    def _positions(self, rows: int) -> Tensor:
        return numbers_to_device([cursor.position for cursor in self._cursors[:rows]], self._patch_BP.device)

    def _next_logits(self, ids_B: Tensor) -> Tensor:
        """Logits of the present positions, given the symbol in front of each; where a patch begins it has no effect."""
        model, rows = self._model, len(ids_B)
        assert model.local_stack is not None
        slots = [cursor.position for cursor in self._cursors]
        slot_B = numbers_to_device(slots, ids_B.device)
        input_BL = model.local_bytes(ids_B)
        if not all(slots):
            input_BL = torch.where((slot_B == 0)[:, None], self._starts(range(rows)), input_BL)
        index_B1L = slot_B[:, None, None].expand(-1, 1, input_BL.shape[1])
        input_BL = input_BL + self._context_BPL[:rows].gather(1, index_B1L)[:, 0]
        if self._neighbourhood is not None:
            input_BL = self._neighbourhood.add(input_BL)
        return self._local_step(input_BL, torch.zeros_like(slot_B), slot_B, max(slots) + 1)

    def _starts(self, rows: Sequence[int]) -> Tensor:
        """The first input of the local model in the open patches of some rows: (n, L)."""
        patches = [self._cursors[row].patch for row in rows]
        row_n, patch_n = numbers_to_device([list(rows), patches], self._recent_ids_BC.device)
        return first_inputs(self._model, self._recent_ids_BC[row_n, -1], patch_n > 0)

    def _close_patches(self, closing: Sequence[int], rows: int) -> None:
        """Read the full patches of these rows with the global model, and give the next ones their contexts."""
        embedded_BG = self._embedded(closing, rows)
        new_parts = []
        for row in closing:
            cursor = self._cursors[row]
            size, recent = cursor.size, self._recent_ids_BC.shape[1]
            joined_C = torch.cat([self._recent_ids_BC[row], self._patch_BP[row, :size]])
            self._recent_ids_BC[row] = joined_C[len(joined_C) - recent :]
            if cursor.close():
                new_parts.append(row)
        self._set_parts(closing)
        # A row in the middle of its patch writes to the slot of its next one, which is not read until then.
        ahead = set(range(rows)) - set(closing)
        slots = [min(cursor.steps + (row in ahead), self._last_slot) for row, cursor in enumerate(self._cursors)]
        slot_B = numbers_to_device(slots, embedded_BG.device)
        input_BG = embedded_BG + self._model.part_PG[self._part_B[:rows]]
        global_BG = self._global_step(input_BG, torch.zeros_like(slot_B), slot_B, max(slots) + 1)
        self._set_contexts(closing, global_BG)
        if self._neighbourhood is not None and new_parts:
            self._neighbourhood.restart({row: self._patch_BP[row, :0] for row in new_parts})

    def _embedded(self, closing: Sequence[int], rows: int) -> Tensor:
        """The embeddings of the full patches of these rows, 0 in the others: (B, G)."""
        start_CG = self._model.start_CG
        embedded_BG = start_CG.new_zeros(rows, start_CG.shape[1])
        for size, chosen in self._by_size(closing).items():
            embedder, row_n = self._layers[size].embedder, numbers_to_device(chosen, start_CG.device)
            number_n = numbers_to_device([self._cursors[row].patch for row in chosen], start_CG.device)
            patch_np = self._patch_BP[row_n, :size]
            embedded_BG[row_n] = embedder.one_patch(patch_np, number_n, self._recent_ids_BC[row_n])
        return embedded_BG

    def _set_parts(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._part_B[row] = self._cursors[row].number

    def _set_contexts(self, rows: Sequence[int], global_BG: Tensor) -> None:
        """Project the global output for the patches that these rows are about to open: (B, G), a row for each row."""
        for size, chosen in self._by_size(rows).items():
            row_n = numbers_to_device(chosen, global_BG.device)
            positions_pL = self._layers[size].local_positions.weight
            self._context_BPL[row_n, :size] = local_contexts(self._projections[size], global_BG[row_n], positions_pL)

    def _by_size(self, rows: Iterable[int]) -> dict[int, list[int]]:
        """The rows by the size of their open patches."""
        grouped: dict[int, list[int]] = {}
        for row in rows:
            grouped.setdefault(self._cursors[row].size, []).append(row)
        return grouped

    def _restart(self, contexts: Mapping[int, Tensor], conditions: Sequence[int]) -> Tensor:
        """Let these rows read their contexts, and return the last symbol of the open patch of every row: (B,)."""
        for row, ids_T in contexts.items():
            cursor = self._cursors[row] = self._cursor(conditions[row], len(ids_T))
            self._patch_BP[row, : cursor.position] = ids_T[len(ids_T) - cursor.position :]
        if self._neighbourhood is not None:
            self._neighbourhood.restart({row: self._of_open_part(row, ids_T) for row, ids_T in contexts.items()})
        with reading_in(self._dtype, self._like):
            prefill_unique(self._model, contexts, conditions, self._read, self._copy)
        last = [max(cursor.position - 1, 0) for cursor in self._cursors]
        row_B, last_B = numbers_to_device([range(len(last)), last], self._patch_BP.device)
        return self._patch_BP[row_B, last_B]

    def _of_open_part(self, row: int, ids_T: Tensor) -> Tensor:
        """The last symbols of a row, which belong to the part of its open patch."""
        cursor = self._cursors[row]
        return ids_T[len(ids_T) - cursor.patch * cursor.size - cursor.position :]

    def _read(self, row: int, ids_T: Tensor) -> None:
        """Read the symbols in front of a row's present position with both models."""
        cursor = self._cursors[row]
        self._read_globally(row, ids_T[: len(ids_T) - cursor.position])
        if cursor.position:
            self._read_open_patch(row)

    def _read_open_patch(self, row: int) -> None:
        """Fill a row's local caches at the positions of its open patch that were read."""
        cursor, model = self._cursors[row], self._model
        assert model.local_stack is not None
        ids_1Q = self._patch_BP[row : row + 1, : cursor.position]
        start_1L = self._starts([row])
        input_1QL = torch.cat([start_1L[:, None], model.local_bytes(ids_1Q[:, :-1])], dim=1)
        input_1QL = input_1QL + self._context_BPL[row : row + 1, : cursor.position]
        if self._neighbourhood is not None:
            begin = cursor.patch * cursor.size
            input_1QL = input_1QL + self._neighbourhood.features(row, begin, begin + cursor.position)
        model.local_stack(input_1QL, [cache.row(row) for cache in self._local_caches])

    def _read_globally(self, row: int, ids_T: Tensor) -> None:
        """Fill a row's global caches from these symbols, whole patches, and give its open patch a context."""
        model, cursor = self._model, self._cursors[row]
        assert model.global_stack is not None
        embedded, numbers, begin = [model.start_CG[self.conditions[row]][None, None]], [], 0
        for part, number in zip(cursor.parts, cursor.numbers, strict=True):
            part_1t = ids_T[None, begin : begin + part.max_len]
            embedded.append(self._layers[part.patch_size].embedder(part_1t))
            numbers += [number] * (part_1t.shape[1] // part.patch_size)
            begin += part.max_len
        self._set_parts([row])
        part_K = numbers_to_device([*numbers, cursor.number], ids_T.device)
        input_1KG = torch.cat(embedded, dim=1) + model.part_PG[part_K]
        caches = [cache.row(row) for cache in self._global_caches]
        for begin in range(0, input_1KG.shape[1], PATCHES_AT_ONCE):
            global_1kG = model.global_stack(input_1KG[:, begin : begin + PATCHES_AT_ONCE], caches)
        rows_BG = global_1kG.new_zeros(len(self._cursors), global_1kG.shape[-1])
        rows_BG[row] = global_1kG[0, -1]
        self._set_contexts([row], rows_BG)
        recent = min(cursor.patch * cursor.size, self._recent_ids_BC.shape[1])
        self._recent_ids_BC[row, self._recent_ids_BC.shape[1] - recent :] = ids_T[len(ids_T) - recent :]

    def _copy(self, source: int, to: int) -> None:
        for cache in self._global_caches:
            cache.copy_row(source, to, self._cursors[source].steps + 1)
        for cache in self._local_caches:
            cache.copy_row(source, to, self._cursors[source].position)
        for state_B in (self._recent_ids_BC, self._context_BPL, self._part_B):
            state_B[to] = state_B[source]
