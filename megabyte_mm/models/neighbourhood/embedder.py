"""Neighbourhood features: embeddings of the symbols around a position, of guesses made of them, and of hashed groups.

Related: contexts of lossless image coders and of PAQ; hashed n-gram embeddings of the Byte Latent Transformer (Pagnoni
et al. 2024).

Legend: B rows, S symbols, C positions, D width, R layouts, Q positions of all layouts' periods, J neighbours, F
predictors, G groups, M members of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import BYTES, SYMBOLS
from megabyte_mm.errors import FieldError
from megabyte_mm.models.neighbourhood.config import Layout, NeighbourhoodConfig

UNKNOWN = SYMBOLS
"""The value of a neighbour or guess that is not known, beside the 257 symbols."""
VALUES = SYMBOLS + 1
MULTIPLIER = 2_654_435_761
"""Knuth's multiplicative hash: the upper bits of the product, 32 in all, choose the row."""
MASK = 2**32 - 1


class NeighbourhoodEmbedder(nn.Module):
    """Sums the embeddings of a position's neighbours, guesses and groups. The rules are buffers, built from the config.

    scale: factor on the sum.
    """

    def __init__(self, config: NeighbourhoodConfig, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        self.period_R: Tensor
        self.first_R: Tensor
        """Where the offsets of each layout begin."""
        self.unit_R: Tensor
        self.offset_QJ: Tensor
        self.weight_RJF: Tensor
        self.sign_RJF: Tensor
        """What a neighbour from 128 on adds to the sum: -256 times its weight where it is signed, else 0."""
        self.divisor_RF: Tensor
        self.bias_RF: Tensor
        self.byte_RF: Tensor
        """The byte of a point that a predictor is for, -1 for all."""
        self.wrap_RF: Tensor
        self.modulo_RF: Tensor
        self.column_RGM: Tensor
        self.multiplier_RGM: Tensor
        """0 for what fills up a smaller group."""
        self.shift_RGM: Tensor
        layouts = config.used_layouts
        self.unit = math.lcm(*(layout.unit for layout in layouts))
        self.num_neighbours = max(len(layout.neighbours) for layout in layouts)
        self.num_predictors = max(len(layout.predictors) for layout in layouts)
        self._add_rules(layouts)
        columns = self.num_neighbours + self.num_predictors
        self.values = nn.Embedding(len(layouts) * columns * VALUES, width)
        self.groups = nn.Embedding(len(layouts) * self.num_groups * config.rows, width) if self.num_groups else None

    def use_layouts(self, layouts: Sequence[Layout]) -> None:
        """Replace the rules by those of other layouts, with as many neighbours, predictors and groups of each kind."""
        device, self.config = self.period_R.device, replace(self.config, layouts=tuple(layouts))
        self._add_rules(self.config.used_layouts)
        for name, rule in self.named_buffers():
            setattr(self, name, rule.to(device))

    def _add_rules(self, layouts: Sequence[Layout]) -> None:
        self._add_offsets(layouts)
        self._add_predictors(layouts)
        self._add_groups(layouts)

    def _add_offsets(self, layouts: Sequence[Layout]) -> None:
        periods = [layout.period for layout in layouts]
        self._buffer("period_R", periods)
        self._buffer("first_R", np.cumsum([0, *periods[:-1]]))
        self._buffer("unit_R", [layout.unit for layout in layouts])
        most = max(len(layout.neighbours) for layout in layouts)
        filled = [np.pad(offsets, ((0, 0), (0, most - offsets.shape[1]))) for offsets in map(Layout.offsets, layouts)]
        self._buffer("offset_QJ", np.concatenate(filled))

    def _add_predictors(self, layouts: Sequence[Layout]) -> None:
        count = self.num_predictors
        weights_RJF, signs_RJF = np.zeros((2, len(layouts), self.num_neighbours, count), np.int64)
        divisors, biases, bytes_, wraps, modulos = np.zeros((5, len(layouts), count), np.int64)
        divisors[:], bytes_[:] = 1, -1
        for r, layout in enumerate(layouts):
            for f, predictor in enumerate(layout.predictors):
                weights_RJF[r, : len(predictor.weights), f] = predictor.weights
                for j in predictor.signed:
                    signs_RJF[r, j, f] = -BYTES * predictor.weights[j]
                divisors[r, f], biases[r, f] = predictor.divisor, predictor.bias
                wraps[r, f], modulos[r, f] = predictor.wrap, predictor.modulo
                bytes_[r, f] = -1 if predictor.byte is None else predictor.byte
        self._buffer("weight_RJF", weights_RJF)
        self._buffer("sign_RJF", signs_RJF)
        self._buffer("divisor_RF", divisors)
        self._buffer("bias_RF", biases)
        self._buffer("byte_RF", bytes_)
        self._buffer("wrap_RF", wraps)
        self._buffer("modulo_RF", modulos)

    def _add_groups(self, layouts: Sequence[Layout]) -> None:
        count = self.num_groups = max(len(layout.groups) for layout in layouts)
        members = max((len(group.members) for layout in layouts for group in layout.groups), default=0)
        columns, multipliers, shifts = np.zeros((3, len(layouts), count, members), np.int64)
        factors = np.random.RandomState(0).randint(1, 2**31, size=members + 1, dtype=np.int64) | 1
        for r, layout in enumerate(layouts):
            for g, group in enumerate(layout.groups):
                size = len(group.members)
                # Predictors are counted on behind the neighbours of their own layout.
                missing = self.num_neighbours - len(layout.neighbours)
                columns[r, g, :size] = [m + missing * (m >= len(layout.neighbours)) for m in group.members]
                multipliers[r, g, :size], shifts[r, g, :size] = factors[:size], group.shift
        self._buffer("column_RGM", columns)
        self._buffer("multiplier_RGM", multipliers)
        self._buffer("shift_RGM", shifts)
        self.byte_multiplier = int(factors[-1])

    def _buffer(self, name: str, values: object) -> None:
        self.register_buffer(name, torch.tensor(np.asarray(values, np.int64)), persistent=False)

    def forward(self, ids_BS: Tensor, condition_B: Tensor, begin: int, end: int) -> Tensor:
        """The features of the positions from `begin` to `end` - 1, at most S: (B, S), (B,) int64 -> (B, C, D)."""
        position_1C = torch.arange(begin, end, device=ids_BS.device)[None]
        return self.at(ids_BS, position_1C, condition_B, self.config.dropout if self.training else 0.0)

    def at(self, ids_BS: Tensor, position_BC: Tensor, condition_B: Tensor, dropout: float = 0.0) -> Tensor:
        """The features of given positions, or of the same in all rows if (1, C): (B, S), (B, C) int64 -> (B, C, D).

        Each depends only on symbols before it. dropout: share of positions without the groups' vectors.
        """
        values_BCX, rows_BCG = self.indices(ids_BS, position_BC, self.layout_of(condition_B))
        features_BCD = _bag(values_BCX, self.values.weight)
        if self.groups is not None:
            grouped_BCD = _bag(rows_BCG, self.groups.weight)
            if dropout:
                kept_BC1 = torch.rand(*grouped_BCD.shape[:2], 1, device=ids_BS.device) >= dropout
                grouped_BCD = grouped_BCD * kept_BC1
            features_BCD = features_BCD + grouped_BCD
        return features_BCD * self.scale

    def layout_of(self, condition_B: Tensor) -> Tensor:
        """The number of the layout of each row; (1,) if all have the same."""
        return condition_B if len(self.period_R) > 1 else torch.zeros_like(condition_B[:1])

    def indices(self, ids_BS: Tensor, position_BC: Tensor, layout_B: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the two tables: (B, C, J + F) and (B, C, G) int64. layout: (1,) if all rows have the same."""
        byte_BC = position_BC % self.unit_R[layout_B, None]
        known_BCJ = self._neighbours(ids_BS, position_BC, layout_B)
        columns_BCX = torch.cat([known_BCJ, self._predictions(known_BCJ, byte_BC, layout_B)], dim=-1)
        columns = columns_BCX.shape[-1]
        first_BX = layout_B[:, None] * columns + torch.arange(columns, device=ids_BS.device)
        return columns_BCX + (first_BX * VALUES)[:, None], self._hashes(columns_BCX, byte_BC, layout_B)

    def _neighbours(self, ids_BS: Tensor, position_BC: Tensor, layout_B: Tensor) -> Tensor:
        """The symbols at the neighbours of each position, or UNKNOWN: (B, C, J)."""
        phase_BC = self.first_R[layout_B, None] + position_BC % self.period_R[layout_B, None]
        back_BCJ = self.offset_QJ[phase_BC]
        index_BCJ = position_BC[..., None] - back_BCJ
        batch, length = ids_BS.shape  # whose len() would be a number in an exported program
        if not length:
            return torch.full_like(index_BCJ.expand(batch, -1, -1), UNKNOWN)
        index_BX = index_BCJ.clamp(0, length - 1).flatten(1)
        symbols_BX = ids_BS.gather(1, index_BX.expand(batch, -1))
        unknown_BCJ = (back_BCJ == 0) | (index_BCJ < 0)
        return symbols_BX.view(batch, *index_BCJ.shape[1:]).masked_fill(unknown_BCJ, UNKNOWN)

    def _predictions(self, known_BCJ: Tensor, byte_BC: Tensor, layout_B: Tensor) -> Tensor:
        """The guesses of each predictor, or UNKNOWN: (B, C, F)."""
        if not self.num_predictors:
            return known_BCJ[..., :0]
        sum_BCF = known_BCJ.new_zeros(*known_BCJ.shape[:2], self.num_predictors)
        unknown_BCF = torch.zeros_like(sum_BCF, dtype=torch.bool)
        # One neighbour after another, for the memory. Autocast would round the factors of a matrix product.
        for j in range(self.num_neighbours):
            value_BC1, weight_B1F = known_BCJ[..., j, None], self.weight_RJF[:, j][layout_B, None]
            sum_BCF += value_BC1 * weight_B1F + (value_BC1 >= BYTES // 2) * self.sign_RJF[:, j][layout_B, None]
            unknown_BCF |= (value_BC1 >= BYTES) & (weight_B1F != 0)
        rules = (self.divisor_RF, self.bias_RF, self.byte_RF, self.wrap_RF, self.modulo_RF)
        divisor_B1F, bias_B1F, byte_B1F, wrap_B1F, modulo_B1F = (rule_RF[layout_B, None] for rule_RF in rules)
        half_B1F = wrap_B1F // 2
        wrapped_BCF = (sum_BCF + half_B1F) % wrap_B1F.clamp_min(1) - half_B1F
        sum_BCF = torch.where(wrap_B1F > 0, wrapped_BCF, sum_BCF)
        guess_BCF = torch.div(sum_BCF + bias_B1F, divisor_B1F, rounding_mode="floor")
        guess_BCF = torch.where(modulo_B1F > 0, guess_BCF % BYTES, guess_BCF.clamp(0, BYTES - 1))
        unknown_BCF = unknown_BCF | ((byte_B1F >= 0) & (byte_BC[..., None] != byte_B1F))
        return guess_BCF.masked_fill(unknown_BCF, UNKNOWN)

    def _hashes(self, columns_BCX: Tensor, byte_BC: Tensor, layout_B: Tensor) -> Tensor:
        """The row of each group in the table: (B, C, G)."""
        if not self.num_groups:
            return columns_BCX[..., :0]
        rows = []
        for g in range(self.num_groups):
            column_BM = self.column_RGM[layout_B, g]
            column_BCM = column_BM[:, None].expand(*columns_BCX.shape[:2], -1)
            values_BCM = columns_BCX.gather(-1, column_BCM)
            terms_BCM = ((values_BCM >> self.shift_RGM[layout_B, g, None]) + 1) * self.multiplier_RGM[layout_B, g, None]
            mixed_BC = (terms_BCM.sum(-1) + byte_BC * self.byte_multiplier) & MASK
            row_BC = (((mixed_BC * MULTIPLIER) & MASK) * self.config.rows) >> 32
            rows.append(row_BC + (layout_B[:, None] * self.num_groups + g) * self.config.rows)
        return torch.stack(rows, -1)


def _bag(rows_BCX: Tensor, table_ND: Tensor) -> Tensor:
    """The sums of rows of a table, in the order of the columns: (B, C, X) int64 -> (B, C, D)."""
    sums_ND: Tensor = F.embedding_bag(rows_BCX.flatten(0, 1), table_ND, mode="sum")
    return sums_ND.view(*rows_BCX.shape[:2], -1)


def neighbourhood_embedder(
    config: NeighbourhoodConfig | None, width: int, scale: float, kinds: int
) -> NeighbourhoodEmbedder | None:
    """The embedder of a model's config, None without one.

    kinds: conditions that choose a layout, or kinds of parts. Raises ValueError if the layouts are still open, and
    FieldError unless there is one, or one for each kind.
    """
    if config is None:
        return None
    if not config.layouts:
        raise ValueError("the model's neighbourhood needs layouts, which come from the data's adapters")
    if len(config.layouts) not in (1, kinds):
        reason = f"are {len(config.layouts)}, and there are {kinds} conditions or parts: one for all, or one for each"
        raise FieldError("neighbourhood.layouts", reason)
    return NeighbourhoodEmbedder(config, width, scale)
