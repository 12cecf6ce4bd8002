"""Rotary position embeddings (Su et al. 2021): the product of a query and a key depends on their distance alone.

Legend: S positions, E head width (even), N rows, H heads, T positions of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0


class RotaryEmbedding:
    """Cosines and sines of the rotation angles of each position and pair of a head's numbers, in a growing table."""

    def __init__(self, head_dim: int) -> None:
        self._rates_e = BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim)
        self._table: Tensor | None = None
        self._back: tuple[tuple[object, ...], Tensor] | None = None
        """The latest inverse rotations, behind the arguments that they were made for."""

    def between(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Cosines and sines of positions start..stop - 1, (2, stop - start, E / 2), on the device of `like`.

        In float64 for a `like` of that kind, else in float32. A negative start gives the inverse rotation.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        if like.device.type == "meta":  # only shapes are needed
            return torch.empty(2, stop - start, len(self._rates_e), dtype=dtype, device="meta")
        if torch.compiler.is_exporting():  # a table that grows would be a constant of the program
            return self._computed(start, stop).to(like.device, dtype)
        if start < 0:
            return self._inverse(start, stop, like.device, dtype)
        table = self._table
        if table is None or table.shape[1] < stop or table.device != like.device or table.dtype != dtype:
            self._table = table = self._grown(stop, like.device, dtype)
        return table[:, start:stop]

    def _inverse(self, start: int, stop: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        # A decoder needs the same one at the end of every patch, where a copy to a GPU would wait for it.
        key = start, stop, device, dtype
        if self._back is None or self._back[0] != key:
            with torch.inference_mode(False):
                self._back = key, self._computed(start, stop).to(device, dtype)
        return self._back[1]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _grown(self, stop: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        # Twice what is needed, so that a growing sequence rarely needs a new table; and never as an inference tensor,
        # which could not be trained with later, nor as one of a CUDA graph, which would overwrite it.
        with torch.inference_mode(False):
            return self._computed(0, max(2 * stop, 64)).to(device, dtype)

    def _computed(self, start: int, stop: int) -> Tensor:
        # In double precision: at a million positions a float32 angle is off by a twentieth.
        angles_Se = torch.arange(start, stop, dtype=torch.float64, device="cpu")[:, None] * self._rates_e
        return torch.stack([angles_Se.cos(), angles_Se.sin()])


def apply_rotary(x_NHTE: Tensor, cos_sin_2Te: Tensor) -> Tensor:
    """Rotate the pairs (i, i + E / 2) of each position's numbers: (N, H, T, E), (2, T, E / 2) -> (N, H, T, E)."""
    cos_Te, sin_Te = cos_sin_2Te
    first_NHTe, second_NHTe = x_NHTE.to(cos_sin_2Te.dtype).chunk(2, dim=-1)
    rotated = first_NHTe * cos_Te - second_NHTe * sin_Te, second_NHTe * cos_Te + first_NHTe * sin_Te
    return torch.cat(rotated, dim=-1).to(x_NHTE.dtype)  # rounded once
