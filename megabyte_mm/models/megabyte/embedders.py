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

    def one_patch(self, ids_BP: Tensor, number_B: Tensor, recent_BC: Tensor) -> Tensor:
        """One patch of each row, number `number_B[b]` of the sequence: (B, P) -> (B, G).

        recent: the symbols in front of it, at least `receptive_field`; where a row has fewer, in the last columns.
        """
        embedded_BPE: Tensor = self.symbols(ids_BP)
        if self.convolutions is not None:
            back_C = torch.arange(recent_BC.shape[1], 0, -1, device=recent_BC.device)
            known_BC = back_C <= number_B[:, None] * self.patch_size
            # Row by row: the order in which convolutions sum depends on the number of rows.
            rows = (x.split(1) for x in (embedded_BPE, self.symbols(recent_BC), known_BC))
            embedded_BPE = torch.cat([self.convolutions(*row) for row in zip(*rows, strict=True)])
        if self.positions is not None:
            embedded_BPE = embedded_BPE + self.positions.weight.view(-1, *embedded_BPE.shape[1:])[number_B]
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

    def forward(self, x_BTE: Tensor, before_BCE: Tensor | None = None, known_BC: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); before: (B, C, E), in front of them, of which the last `receptive_field` matter.

        known: (B, C) bool, False in front of a row's first symbol, by default nowhere.
        """
        length = x_BTE.shape[1]
        if not length:
            return x_BTE
        if before_BCE is not None:
            x_BTE = torch.cat([before_BCE, x_BTE], dim=1)
        x_BET = x_BTE.transpose(1, 2)
        known_B1T = None if known_BC is None else F.pad(known_BC, (0, length), value=True).unsqueeze(1)
        for layer, size in zip(self.layers, self.SIZES, strict=True):
            x_BET = x_BET if known_B1T is None else x_BET * known_B1T
            x_BET = x_BET + F.relu(layer(F.pad(x_BET, (size - 1, 0))))
        return x_BET.transpose(1, 2)[:, -length:]
