"""From symbols to patch vectors: the first of MEGABYTE's three parts.

Legend: B rows, T symbols (a multiple of P), K patches, P symbols in a patch, E width of a symbol, G = P * E.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from megabyte_mm.alphabet import SYMBOLS


class PatchEmbedder(nn.Module):
    """Embeds symbols and positions, and lays a patch's P vectors side by side, unprojected (paper, section 2.2)."""

    def __init__(self, patch_size: int, max_patches: int, width: int) -> None:
        super().__init__()
        if width % patch_size:
            raise ValueError(f"global dim {width} is not a multiple of patch_size {patch_size}")
        self.patch_size = patch_size
        self.symbols = nn.Embedding(SYMBOLS, width // patch_size)
        self.positions = nn.Embedding(max_patches * patch_size, width // patch_size)

    def forward(self, ids_BT: Tensor, first_patch: int = 0) -> Tensor:
        """(B, T) int64 -> (B, K, G), where the symbols begin at patch number `first_patch` of their sequence."""
        start = first_patch * self.patch_size
        positions_T = torch.arange(start, start + ids_BT.shape[1], device=ids_BT.device)
        embedded_BTE: Tensor = self.symbols(ids_BT) + self.positions(positions_T)
        return embedded_BTE.reshape(ids_BT.shape[0], -1, self.patch_size * embedded_BTE.shape[-1])
