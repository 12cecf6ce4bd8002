"""What both decoders do where one patch ends and the next begins.

Legend: n rows, P symbols in a patch, C recent symbols, G global width, L local width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.models.megabyte.embedders import PatchEmbedder
from megabyte_mm.models.transfer import numbers_to_device

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte

PATCHES_AT_ONCE = 512
"""Patches of a prefix that are read at a time, so that memory grows with it only by the caches."""


def first_inputs(model: Megabyte, before_n: Tensor, follows_patch: Sequence[bool]) -> Tensor:
    """The first input of the local model in the open patch of each row: (n,) int64 -> (n, L).

    before: the symbol in front of the patch. follows_patch: whether it counts: not in a row's or a part's first patch.
    """
    start_nL = model.local_start_L.expand(len(before_n), -1)
    if model.config.local_start == "learned":
        return start_nL
    follows_n1 = numbers_to_device(follows_patch, start_nL.device)[:, None]
    return torch.where(follows_n1, model.local_bytes(before_n), start_nL)


def embed_patches(embedder: PatchEmbedder, patch_nP: Tensor, numbers: Sequence[int], recent_nC: Tensor) -> Tensor:
    """Embeddings of one patch of each row: (n, P) int64 -> (n, G).

    numbers: of the patches in their sequences. recent: the symbols in front of them; a row with fewer fills the last
    columns.
    """
    if not embedder.receptive_field:
        return embedder.one_patch(patch_nP, numbers_to_device(numbers, patch_nP.device))
    # Row by row: the order in which convolutions sum depends on the number of rows.
    embedded = []
    for row, number in enumerate(numbers):
        known = min(number * embedder.patch_size, embedder.receptive_field)
        before_1C = recent_nC[row : row + 1, recent_nC.shape[1] - known :]
        embedded.append(embedder(patch_nP[row : row + 1], number, before_1C)[0])
    return torch.cat(embedded)


def local_contexts(project: Callable[[Tensor], Tensor], global_nG: Tensor, positions_PL: Tensor) -> Tensor:
    """The inputs of the local model that do not depend on a patch's bytes: (n, G) -> (n, P, L).

    project: a position's share of the global output, (n * P, G / P) -> (n * P, L).
    """
    rows, size = len(global_nG), len(positions_PL)
    context_NL = project(global_nG.reshape(rows * size, -1))
    return context_NL.view(rows, size, -1) + positions_PL
