"""Rows of several parts with patch sizes of their own: patches of all sizes are steps of one global sequence.

Pieces of the same kind and length are embedded together and go through the local model together; the global model reads
whole rows.

Legend: B rows, T symbols, n pieces, t symbols of a piece, K patches of a row, k patches of a piece, G global width, V
the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.base import DEFAULT_STEP, StepOptions
from megabyte_mm.models.megabyte.chunked_loss import chunked_nll
from megabyte_mm.models.megabyte.config import MegabyteConfig
from megabyte_mm.models.transfer import numbers_to_device

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte


@dataclass(frozen=True)
class Pieces:
    """The parts of one kind in the rows of a batch, all of one length.

    part: its number in the config. patch_size, length: in symbols; the length is in whole patches. rows, starts, first:
    of each piece its row, its first symbol and its first patch in the row.
    """

    part: int
    patch_size: int
    length: int
    rows: tuple[int, ...]
    starts: tuple[int, ...]
    first: tuple[int, ...]

    @property
    def patches(self) -> int:
        """Patches of each piece."""
        return self.length // self.patch_size

    def symbols(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The indices of the pieces' symbols in a batch: (n, 1) and (n, t)."""
        return self._indices(self.starts, self.length, device)

    def steps(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The indices of the pieces' patches in the global sequences: (n, 1) and (n, k)."""
        return self._indices(self.first, self.patches, device)

    def _indices(self, firsts: Sequence[int], count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        row_n1, first_n1 = numbers_to_device([self.rows, firsts], device)[..., None].unbind()
        return row_n1, first_n1 + torch.arange(count, device=device)


def pieces_of(
    config: MegabyteConfig, conditions: Sequence[int], length: int, without: Set[tuple[int, int]] = frozenset()
) -> list[Pieces]:
    """The pieces of rows of at most `length` symbols, in the order of their parts.

    without: parts to leave out, each by the condition of its row and its first symbol.
    """
    patches_of: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    assert config.parts is not None
    assert config.orders is not None
    for row, condition in enumerate(conditions):
        start = first = 0
        for number in config.orders[condition]:
            part = config.parts[number]
            patches = min(part.patches, -((start - length) // part.patch_size))
            if patches < 1:
                break
            if (condition, start) not in without:
                patches_of.setdefault((number, patches), []).append((row, start, first))
            start, first = start + part.max_len, first + patches
    return [
        Pieces(number, size := config.parts[number].patch_size, patches * size, *zip(*where, strict=True))
        for (number, patches), where in sorted(patches_of.items())
    ]


def parts_nll(
    model: Megabyte, ids_BT: Tensor, condition_B: Tensor | None, options: StepOptions = DEFAULT_STEP
) -> Tensor:
    """The nats of each symbol, 0 behind the end of its row's last part: (B, T) int64 -> (B, T) float32.

    The local model does not read the parts that `options.unlearned` names, which also have 0.
    """
    conditions, condition_B = _conditions(condition_B, len(ids_BT)), model.checked(ids_BT, condition_B)
    pieces, padded_BT = _prepared(model, ids_BT, conditions)
    recompute = model.recomputes_global(len(ids_BT), options.activation_budget)
    global_BKG = _global_output(model, padded_BT, condition_B, pieces, recompute)
    learned = pieces
    if options.unlearned:
        learned = pieces_of(model.config, conditions, ids_BT.shape[1], options.unlearned)
    nats_BT = torch.zeros(padded_BT.shape, device=ids_BT.device)
    for piece in learned:
        symbols, steps = piece.symbols(ids_BT.device), piece.steps(ids_BT.device)
        part_n = torch.full((len(piece.rows),), piece.part, device=ids_BT.device)
        nats_nt = chunked_nll(
            model, global_BKG[steps], padded_BT[symbols], part_n, options.activation_budget, piece.patch_size
        )
        nats_BT = nats_BT.index_put(symbols, nats_nt.float())
    if torch.is_grad_enabled():
        nats_BT = nats_BT + _unused(model, learned)
    return nats_BT[:, : ids_BT.shape[1]]


def parts_logits(model: Megabyte, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
    """Logits of each symbol, 0 behind the end of its row's last part: (B, T) int64 -> (B, T, V)."""
    conditions, condition_B = _conditions(condition_B, len(ids_BT)), model.checked(ids_BT, condition_B)
    pieces, padded_BT = _prepared(model, ids_BT, conditions)
    recompute = model.recomputes_global(len(ids_BT), DEFAULT_STEP.activation_budget)
    global_BKG = _global_output(model, padded_BT, condition_B, pieces, recompute)
    logits_BTV = global_BKG.new_zeros(*padded_BT.shape, SYMBOLS)
    for piece in pieces:
        symbols, steps = piece.symbols(ids_BT.device), piece.steps(ids_BT.device)
        part_n = torch.full((len(piece.rows),), piece.part, device=ids_BT.device)
        hidden_ntL = model.local_output(global_BKG[steps], padded_BT[symbols], part_n, size=piece.patch_size)
        logits_ntV = F.linear(hidden_ntL, model.local_symbols.weight)
        logits_BTV = logits_BTV.index_put(symbols, logits_ntV.to(logits_BTV.dtype))
    return logits_BTV[:, : ids_BT.shape[1]]


def parts_global_output(model: Megabyte, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
    """The output of the global model at the step that predicts each patch: (B, T) int64 -> (B, K, G)."""
    pieces, padded_BT = _prepared(model, ids_BT, _conditions(condition_B, len(ids_BT)))
    return _global_output(model, padded_BT, condition_B, pieces, recompute=False)


def _conditions(condition_B: Tensor | None, batch: int) -> list[int]:
    """Conditions as numbers; without them, as where operations are counted, all rows have the first."""
    return [0] * batch if condition_B is None or condition_B.is_meta else condition_B.tolist()


def _prepared(model: Megabyte, ids_BT: Tensor, conditions: Sequence[int]) -> tuple[list[Pieces], Tensor]:
    """The pieces of a batch, and its symbols with END up to the last patch's end."""
    pieces = pieces_of(model.config, conditions, ids_BT.shape[1])
    end = max(max(piece.starts) + piece.length for piece in pieces)
    return pieces, F.pad(ids_BT, (0, max(end - ids_BT.shape[1], 0)), value=END)


def _global_output(
    model: Megabyte, ids_BT: Tensor, condition_B: Tensor, pieces: Sequence[Pieces], recompute: bool
) -> Tensor:
    """Embed the patches of all pieces, shift them by one and read them with the global model: (B, K, G).

    What predicts a patch also receives the vector of that patch's part: nothing else says where a part begins.
    """
    assert model.global_stack is not None
    device, patches = ids_BT.device, max(max(piece.first) + piece.patches for piece in pieces)
    start_BG = F.embedding(condition_B, model.start_CG)
    input_BKG = start_BG.new_zeros(len(ids_BT), patches + 1, start_BG.shape[-1])
    part_BK = torch.zeros(len(ids_BT), patches, dtype=torch.long, device=device)
    for piece in pieces:
        row_n1, step_nk = piece.steps(device)
        embedded_nkG = model.layers_of(piece.patch_size).embedder(ids_BT[piece.symbols(device)])
        input_BKG = input_BKG.index_put((row_n1, step_nk + 1), embedded_nkG.to(input_BKG.dtype))
        part_BK[row_n1, step_nk] = piece.part
    shifted_BKG = torch.cat([start_BG[:, None], input_BKG[:, 1:-1]], dim=1)
    global_BKG: Tensor = model.global_stack(shifted_BKG + F.embedding(part_BK, model.part_PG), recompute=recompute)
    return global_BKG


def _unused(model: Megabyte, pieces: Sequence[Pieces]) -> Tensor:
    """A zero that depends on the local layers of the sizes that no piece has, so that every weight gets a gradient.

    Data parallel processes wait for the gradients of all weights, and each may hold other sizes.
    """
    missing = set(model.config.patch_sizes) - {piece.patch_size for piece in pieces}
    weights = [
        weight for size in sorted(missing) for layer in model.layers_of(size)[1:] for weight in layer.parameters()
    ]
    return torch.stack([weight.sum() * 0.0 for weight in weights]).sum() if weights else model.start_CG.new_zeros(())
