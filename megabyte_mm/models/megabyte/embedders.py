"""The patch embedder: symbols to patch vectors.

Legend: B rows, T symbols (a multiple of P), C symbols before them, K patches, P symbols in a patch, E width of a
symbol, G = P * E.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS


class PatchEmbedder(nn.Module):
    """Embeds symbols and positions, and concatenates the P vectors of a patch, unprojected (paper, section 2.2).

    positions: how many have a learned vector; 0 for a global model with rotary positions. convolve: apply causal
    convolutions to the embedded symbols, before positions are added. scale: factor on the result.
    """

    def __init__(self, patch_size: int, width: int, positions: int, convolve: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.patch_size, self.scale = patch_size, scale
        self.symbols = nn.Embedding(SYMBOLS, width // patch_size)
        self.convolutions = CausalConvolutions(width // patch_size) if convolve else None
        self.positions = nn.Embedding(positions, width // patch_size) if positions else None

    @torch.no_grad()
    def start_as_waves(self, std: float) -> None:
        """Set the vectors of the bytes, (256, E), to waves over their values, with the standard deviation `std`.

        The waves have 1, 1, 2, 2, 3, ... periods over all values, cosines and sines by turns. They meet between 255 and
        0, where differences and signed numbers wrap.
        """
        width = self.symbols.embedding_dim
        phases_VE = torch.arange(256)[:, None] * (torch.arange(width) // 2 + 1) * (2 * math.pi / 256)
        waves_VE = torch.where(torch.arange(width) % 2 == 0, phases_VE.cos(), phases_VE.sin())
        self.symbols.weight[:256] = waves_VE * (std * math.sqrt(2))

    @property
    def receptive_field(self) -> int:
        """The number of symbols before a patch that its vector depends on."""
        return CausalConvolutions.receptive_field if self.convolutions is not None else 0

    def forward(self, ids_BT: Tensor, first_patch: int = 0, before_BC: Tensor | None = None) -> Tensor:
        """(B, T) int64 -> (B, K, G), for symbols that begin at patch number `first_patch` of their sequence.

        before: the symbols in front of them, all or at least the last `receptive_field`.
        """
        embedded_BTE: Tensor = self.symbols(ids_BT)
        if self.convolutions is not None:
            embedded_BTE = self.convolutions(embedded_BTE, None if before_BC is None else self.symbols(before_BC))
        if self.positions is not None:
            start = first_patch * self.patch_size
            embedded_BTE = embedded_BTE + self.positions.weight[start : start + ids_BT.shape[1]]
        embedded_BKG = embedded_BTE.reshape(ids_BT.shape[0], -1, self.patch_size * embedded_BTE.shape[-1])
        return embedded_BKG * self.scale

    def one_patch(self, ids_BP: Tensor, patch_B: Tensor) -> Tensor:
        """One patch of each row, number `patch_B[b]` in row b, without convolutions: (B, P) -> (B, G)."""
        embedded_BPE: Tensor = self.symbols(ids_BP)
        if self.positions is not None:
            embedded_BPE = embedded_BPE + self.positions.weight.view(-1, *embedded_BPE.shape[1:])[patch_B]
        return embedded_BPE.flatten(1) * self.scale


class CausalConvolutions(nn.Module):
    """Convolutions over the last 3, 5 and 7 symbols, one after the other (paper, section 2.3.1).

    They make the representation of a byte independent of its position in the patch. The paper gives only the filter
    sizes; here each convolution has a ReLU and is added to its input.
    """

    SIZES = (3, 5, 7)
    receptive_field = sum(size - 1 for size in SIZES)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, size) for size in self.SIZES)

    def forward(self, x_BTE: Tensor, before_BCE: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); before: (B, C, E), in front of them, of which the last `receptive_field` matter."""
        length = x_BTE.shape[1]
        if not length:
            return x_BTE
        if before_BCE is not None:
            x_BTE = torch.cat([before_BCE, x_BTE], dim=1)
        x_BET = x_BTE.transpose(1, 2)
        for layer, size in zip(self.layers, self.SIZES, strict=True):
            x_BET = x_BET + F.relu(layer(F.pad(x_BET, (size - 1, 0))))
        return x_BET.transpose(1, 2)[:, -length:]
