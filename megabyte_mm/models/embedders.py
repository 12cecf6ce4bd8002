"""From symbols to patch vectors: the first of MEGABYTE's three parts.

Legend: B rows, T symbols (a multiple of P), C symbols before them, K patches, P symbols in a patch, E width of a
symbol, G = P * E.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS
from megabyte_mm.models.layers import drawn_parameter


class PatchEmbedder(nn.Module):
    """Embeds symbols and positions, and lays a patch's P vectors side by side, unprojected (paper, section 2.2).

    positions: how many have a learned vector; 0 where the global model knows positions otherwise. convolve: let the
    vectors of symbols, before positions are added, look back by causal convolutions.
    """

    def __init__(self, patch_size: int, width: int, positions: int, convolve: bool = False) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.symbols = nn.Embedding(SYMBOLS, width // patch_size)
        self.convolutions = CausalConvolutions(width // patch_size) if convolve else None
        self.positions = nn.Embedding(positions, width // patch_size) if positions else None

    @property
    def reach(self) -> int:
        """How many symbols before a patch its vector depends on."""
        return CausalConvolutions.reach if self.convolutions is not None else 0

    def forward(self, ids_BT: Tensor, first_patch: int = 0, before_BC: Tensor | None = None) -> Tensor:
        """(B, T) int64 -> (B, K, G), where the symbols begin at patch number `first_patch` of their sequence.

        before: what precedes them, all of it or at least `reach` symbols.
        """
        embedded_BTE: Tensor = self.symbols(ids_BT)
        if self.convolutions is not None:
            embedded_BTE = self.convolutions(embedded_BTE, None if before_BC is None else self.symbols(before_BC))
        if self.positions is not None:
            start = first_patch * self.patch_size
            embedded_BTE = embedded_BTE + self.positions.weight[start : start + ids_BT.shape[1]]
        return embedded_BTE.reshape(ids_BT.shape[0], -1, self.patch_size * embedded_BTE.shape[-1])

    def one_patch(self, ids_BP: Tensor, patch_B: Tensor) -> Tensor:
        """One patch of each row, where row b's is number `patch_B[b]`, without convolutions -> (B, G)."""
        embedded_BPE: Tensor = self.symbols(ids_BP)
        if self.positions is not None:
            embedded_BPE = embedded_BPE + self.positions.weight.view(-1, *embedded_BPE.shape[1:])[patch_B]
        return embedded_BPE.flatten(1)


class CausalConvolutions(nn.Module):
    """Convolutions over the last 3, 5 and 7 symbols, one after the other (paper, section 2.3.1).

    They make what stands for a byte independent of its place in the patch. The paper gives the filter sizes alone; here
    each has a ReLU and is added to its input.
    """

    SIZES = (3, 5, 7)
    reach = sum(size - 1 for size in SIZES)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, size) for size in self.SIZES)

    def forward(self, x_BTE: Tensor, before_BCE: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); before: (B, C, E), what precedes, of which only the last `reach` places matter."""
        length = x_BTE.shape[1]
        if not length:
            return x_BTE
        if before_BCE is not None:
            x_BTE = torch.cat([before_BCE, x_BTE], dim=1)
        x_BET = x_BTE.transpose(1, 2)
        for layer, size in zip(self.layers, self.SIZES, strict=True):
            x_BET = x_BET + F.relu(layer(F.pad(x_BET, (size - 1, 0))))
        return x_BET.transpose(1, 2)[:, -length:]


class SequenceEmbedder(nn.Module):
    """What a model without patches reads: at place 0 the condition's start, at place t the symbol t - 1.

    positions: how many places have a learned vector; 0 where attention knows positions. scale: what the vector of a
    symbol is multiplied with where it is read.
    """

    def __init__(self, width: int, positions: int, conditions: int, std: float, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.symbols = nn.Embedding(SYMBOLS, width)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.start_CE = drawn_parameter(conditions, width, std=std)

    def forward(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
        """What stands at places 0 to T: (B, T) int64, (B,) int64 -> (B, T + 1, E)."""
        start_B1E = self._placed(F.embedding(condition_B, self.start_CE).unsqueeze(1), 0)
        return torch.cat([start_B1E, self.after(ids_BT, 1)], dim=1)

    def after(self, ids_BT: Tensor, place: int) -> Tensor:
        """What the symbols put at the places that follow them, the first of them at `place`: (B, T) -> (B, T, E)."""
        return self._placed(self.symbols(ids_BT) * self.scale, place)

    def one(self, ids_B: Tensor, place_B: Tensor, condition_B: Tensor) -> Tensor:
        """One symbol of each row, which stands before `place_B`, or what stands at place 0: (B,) -> (B, E)."""
        begins_B1 = (place_B == 0).unsqueeze(1)
        read_BE = torch.where(begins_B1, F.embedding(condition_B, self.start_CE), self.symbols(ids_B) * self.scale)
        return read_BE if self.positions is None else read_BE + self.positions(place_B)

    def to_logits(self, hidden_BTE: Tensor) -> Tensor:
        """Logits by the table of symbols, which input and output share: (B, T, E) -> (B, T, 257)."""
        return F.linear(hidden_BTE, self.symbols.weight)

    def _placed(self, x_BTE: Tensor, place: int) -> Tensor:
        if self.positions is None:
            return x_BTE
        placed_BTE: Tensor = x_BTE + self.positions.weight[place : place + x_BTE.shape[1]]
        return placed_BTE
