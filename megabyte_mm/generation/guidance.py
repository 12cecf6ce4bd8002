"""Classifier-free guidance (Ho and Salimans 2022): logits with a first part, mixed with those without it.

Legend: B rows, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from megabyte_mm.models import Decoder, PatchDecoder


class GuidedDecoder(PatchDecoder):
    """Mixes two rows of a decoder for each of its own: u + scale * (c - u), c with the first part and u without it.

    The second row reads the same symbols behind that part, under another condition. Its first `skipped` symbols are the
    part. decoder: of twice the rows.
    """

    def __init__(self, decoder: Decoder, scale: float, skipped: int, condition_without: int) -> None:
        assert isinstance(decoder, PatchDecoder)
        self._decoder, self._scale, self._skipped = decoder, scale, skipped
        self._condition_without = condition_without
        self._rows = 0
        self.capacity, self.alignment = decoder.capacity, decoder.alignment
        self.conditions = decoder.conditions[: len(decoder.conditions) // 2]
        self.reads_patches, self.max_patch_size = decoder.reads_patches, decoder.max_patch_size

    def capacity_of(self, row: int) -> int:
        return self._decoder.capacity_of(row)

    def alignment_of(self, row: int) -> int:
        return self._decoder.alignment_of(row)

    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        """As of `Decoder`. Raises ValueError for a prefix without the whole first part."""
        if any(len(ids_T) < self._skipped for ids_T in prefixes):
            raise ValueError("guidance needs the whole first part of every row")
        self._rows = len(prefixes)
        if condition_B is not None:
            self.conditions[: self._rows] = condition_B
        with_B = self.conditions[: self._rows]
        conditions_2B = torch.cat([with_B, torch.full_like(with_B, self._condition_without)])
        both = [*prefixes, *(ids_T[self._skipped :] for ids_T in prefixes)]
        logits_2BV = self._decoder.prefill_rows(both, conditions_2B)
        self._take_lengths()
        return self._mixed(logits_2BV)

    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        """As of `Decoder`; rows of records never start new contexts."""
        assert not new_contexts
        logits_2BV = self._decoder.step(ids_B.repeat(2))
        self._take_lengths()
        return self._mixed(logits_2BV)

    def finish_row(self, row: int) -> None:
        """As of `Decoder`."""
        self._decoder.finish_row(row)
        self._decoder.finish_row(self._rows + row)

    @property
    def patch_size(self) -> int:
        return self._decoder.patch_size

    @property
    def num_viewed(self) -> int:
        return self._decoder.num_viewed

    def has_patch(self) -> bool:
        return self._decoder.has_patch()

    def begin_patch(self) -> None:
        self._decoder.begin_patch()

    def read_patch(self, logits_BV: Tensor, choose: Callable[[int, Tensor], Tensor], num_viewed: int) -> Tensor:
        def choose_for_both(position: int, logits_2BV: Tensor) -> Tensor:
            # The first are those that this decoder returned.
            return choose(position, self._mixed(logits_2BV) if position else logits_2BV).repeat(2)

        return self._mixed(self._decoder.read_patch(logits_BV, choose_for_both, num_viewed))

    def count_patch(self) -> None:
        self._decoder.count_patch()
        self._take_lengths()

    def _take_lengths(self) -> None:
        lengths = self._decoder.lengths
        assert lengths is not None
        self.lengths = lengths[: self._rows]

    def _mixed(self, logits_2BV: Tensor) -> Tensor:
        with_BV, without_BV = logits_2BV.chunk(2)
        return without_BV + self._scale * (with_BV - without_BV)
