"""Causal attention: over a whole sequence, after what a cache holds, and across the border of a patch.

Legend: B rows, K patches, N independent sequences (B, or B * K), T new positions, S positions attended to, D model
width, H heads, E head width, r positions of the previous patch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.kernels.packed_attention import PackedOptions, packed_attention, packs
from megabyte_mm.models.rotary import RotaryEmbedding, apply_rotary

CPU_EXPLICIT_UP_TO = 512
"""Up to this many keys, attention on a CPU is explicit: torch's fused kernel takes two to ten times as long in bfloat16
for forward and backward, and about as long in float32; for forward alone, half as long again in bfloat16, but less in
float32 (benchmarks/train_step). Scores of longer sequences would fill the memory."""
CUDA_EXPLICIT_UP_TO = 8, 16
"""Up to so many queries and keys it is explicit on CUDA too, where a fused kernel spends a tile of 64 or 128 positions
on each sequence (docs/performance.md). In bfloat16 and float16 the kernels of packed_attention.py come first."""

FUSED_ROWS = {"cuda": 65_535}
"""By device type, how many sequences a fused kernel takes at a time. On CUDA they are a dimension of its grid, and a
batch easily has more patches than that."""


def attend(q_NHTE: Tensor, k_NHSE: Tensor, v_NHSE: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention where query t of T sees the first S - T + t + 1 of S keys -> (N, H, T, E)."""
    length, num_keys = q_NHTE.shape[2], k_NHSE.shape[2]
    if _explicit(q_NHTE, num_keys):
        return _attend_explicitly(q_NHTE, k_NHSE, v_NHSE, dropout)
    # Plain conditions: torch.compile cannot hand a comparison of dynamic lengths to a kernel, and breaks the graph.
    if length == 1:
        return _attend_fused(q_NHTE, k_NHSE, v_NHSE, dropout)
    if length == num_keys:
        return _attend_fused(q_NHTE, k_NHSE, v_NHSE, dropout, causal=True)
    visible_TS = torch.ones(length, num_keys, dtype=torch.bool, device=q_NHTE.device).tril(num_keys - length)
    return _attend_fused(q_NHTE, k_NHSE, v_NHSE, dropout, visible_TS)


def attend_across(
    q_NHPE: Tensor, k_NHSE: Tensor, v_NHSE: Tensor, patches: int, previous: int, dropout: float = 0.0
) -> Tensor:
    """As `attend`, for N = B * `patches` sequences whose first `previous` keys come from the patch before.

    These keys are masked for the first patch of each row, which has none before it.
    """
    if _explicit(q_NHPE, k_NHSE.shape[2]):
        return _attend_explicitly(q_NHPE, k_NHSE, v_NHSE, dropout, patches, previous)
    # First patches separately: a mask for them alone would be as large as all scores.
    q_BHPE, k_BHSE, v_BHSE = (torch.unflatten(x_NHTE, 0, (-1, patches))[:, 0] for x_NHTE in (q_NHPE, k_NHSE, v_NHSE))
    first_BHPE = attend(q_BHPE, k_BHSE[:, :, previous:], v_BHSE[:, :, previous:], dropout)
    if patches == 1:
        return first_BHPE
    others_BKHPE = attend(q_NHPE, k_NHSE, v_NHSE, dropout).view(-1, patches, *q_NHPE.shape[1:])
    return torch.cat([first_BHPE.unsqueeze(1), others_BKHPE[:, 1:]], dim=1).flatten(0, 1)


def _attend_fused(
    q_NHTE: Tensor,
    k_NHSE: Tensor,
    v_NHSE: Tensor,
    dropout: float,
    visible_TS: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """torch's fused kernels, on as many sequences at a time as they take."""
    most = FUSED_ROWS.get(q_NHTE.device.type)
    if most is None or len(q_NHTE) <= most:
        return F.scaled_dot_product_attention(q_NHTE, k_NHSE, v_NHSE, visible_TS, dropout, causal)
    parts = zip(*(torch.split(x_NHTE, most) for x_NHTE in (q_NHTE, k_NHSE, v_NHSE)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v, visible_TS, dropout, causal) for q, k, v in parts])


def _explicit(q_NHTE: Tensor, num_keys: int) -> bool:
    if q_NHTE.shape[2] == 1:
        return False
    if q_NHTE.device.type == "cuda":
        queries, keys = CUDA_EXPLICIT_UP_TO
        return q_NHTE.shape[2] <= queries and num_keys <= keys
    faster = torch.is_grad_enabled() or q_NHTE.dtype == torch.bfloat16
    return faster and q_NHTE.device.type == "cpu" and num_keys <= CPU_EXPLICIT_UP_TO


def _attend_explicitly(
    q_NHTE: Tensor, k_NHSE: Tensor, v_NHSE: Tensor, dropout: float, patches: int = 1, previous: int = 0
) -> Tensor:
    """Two batched products with the scores in between. See `attend_across` for `patches` and `previous`."""
    heads, length, width = q_NHTE.shape[1:]
    num_keys = k_NHSE.shape[2]
    q_MTE, k_MSE, v_MSE = (x_NHTE.flatten(0, 1) for x_NHTE in (q_NHTE, k_NHSE, v_NHSE))
    future_TS = q_MTE.new_full((length, num_keys), float("-inf")).triu(num_keys - length + 1)
    scores_MTS = torch.baddbmm(future_TS.expand(len(q_MTE), -1, -1), q_MTE * width**-0.5, k_MSE.transpose(1, 2))
    if previous:
        scores_MTS.view(-1, patches, heads, length, num_keys)[:, 0, ..., :previous] = float("-inf")
    weights_MTS = F.dropout(scores_MTS.softmax(-1), dropout, training=dropout > 0)
    return torch.bmm(weights_MTS.to(v_MSE.dtype), v_MSE).view_as(q_NHTE)


class HeadNorm(nn.RMSNorm):
    """RMSNorm in the precision of its input; torch's own takes a slow path if its weight has another."""

    def forward(self, x_NHTE: Tensor) -> Tensor:
        return F.rms_norm(x_NHTE, self.normalized_shape, self.weight.to(x_NHTE.dtype), self.eps)


class MultiHeadAttention(nn.Module):
    """The base of self-attention and cross-attention: heads, norms and rotation of queries and keys, output layer."""

    out: nn.Linear
    q_norm: nn.Module
    k_norm: nn.Module
    rotary: RotaryEmbedding | None

    def __init__(self, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.weight_dropout = dropout

    def _add_heads(self, dim: int, bias: bool, qk_norm: bool, rotary: bool) -> None:
        """Add the modules behind the projections, which come first in a state_dict."""
        self.out = nn.Linear(dim, dim, bias=bias)
        self.q_norm = HeadNorm(dim // self.heads) if qk_norm else nn.Identity()
        self.k_norm = HeadNorm(dim // self.heads) if qk_norm else nn.Identity()
        self.rotary = RotaryEmbedding(dim // self.heads) if rotary else None

    @property
    def _dropped(self) -> float:
        return self.weight_dropout if self.training else 0.0

    def _split(self, projected_NTX: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split concatenated projections by heads: (N, T, parts * D) -> that many of (N, H, T, E)."""
        batch, length, width = projected_NTX.shape
        projected_NTXHE = projected_NTX.view(batch, length, parts, self.heads, width // parts // self.heads)
        return projected_NTXHE.permute(2, 0, 3, 1, 4).unbind(0)

    def _rotate(self, x_NHTE: Tensor, start: int) -> Tensor:
        """Queries or keys of positions from `start` on, rotated if positions are rotary."""
        if self.rotary is None:
            return x_NHTE
        return apply_rotary(x_NHTE, self.rotary.between(start, start + x_NHTE.shape[2], like=x_NHTE))

    def _merge(self, mixed_NHTE: Tensor) -> Tensor:
        out_NTD: Tensor = self.out(mixed_NHTE.transpose(1, 2).flatten(2))
        return out_NTD


class Attention(MultiHeadAttention):
    """Causal multi-head self-attention over whole sequences, or after the positions of a cache.

    rotary: rotate queries and keys by their positions. qk_norm: give each head's queries and keys a root mean square of
    1 and a learned scale, so that their products stay small (Henry et al. 2020).
    """

    previous = 0
    """Positions of the previous patch that it sees."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        qk_norm: bool = False,
        rotary: bool = False,
    ) -> None:
        super().__init__(heads, dropout)
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self._add_heads(dim, bias, qk_norm, rotary)

    def forward(self, x_NTD: Tensor, cache: LayerCache | None = None, patches: int | None = None) -> Tensor:
        """(N, T, D) -> (N, T, D). With a cache, the T positions follow those held there, and are added to them.

        patches: ignored; see CrossPatchAttention.
        """
        projected_NTX = self.qkv(x_NTD)
        packed = self._packed()
        if cache is None and packs(projected_NTX, packed):
            return self._attend_packed(projected_NTX, packed)
        q_NHTE, k_NHTE, v_NHTE = self._by_heads(projected_NTX)
        start = 0 if cache is None else cache.length
        q_NHTE, k_NHTE = self._rotate(q_NHTE, start), self._rotate(k_NHTE, start)
        if cache is not None:
            k_NHTE, v_NHTE = cache.append(k_NHTE, v_NHTE)
        # A cache may be of lower precision.
        gathered_NHTE = attend(q_NHTE.to(k_NHTE.dtype), k_NHTE, v_NHTE, self._dropped)
        return self._merge(gathered_NHTE.to(q_NHTE.dtype))

    def prepare(self, x_NTD: Tensor) -> None:
        """Make the table of rotations for inputs of this shape, which compiled code cannot do."""
        if self.rotary is not None:
            self.rotary.between(0, self.previous + x_NTD.shape[1], like=self.out.weight)

    def _packed(self, patches: int = 1, previous: int = 0) -> PackedOptions:
        return PackedOptions(self.heads, patches, previous, self.rotary is not None, self._dropped)

    def _attend_packed(self, projected_NTX: Tensor, options: PackedOptions) -> Tensor:
        if not isinstance(self.q_norm, nn.Identity):
            heads_NTHE = [x_NHTE.transpose(1, 2) for x_NHTE in self._by_heads(projected_NTX)]
            projected_NTX = torch.stack(heads_NTHE, dim=2).flatten(2)
        out_NTD: Tensor = self.out(packed_attention(projected_NTX, options))
        return out_NTD

    def _by_heads(self, projected_NTX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_NHTE, k_NHTE, v_NHTE = self._split(projected_NTX, 3)
        return self.q_norm(q_NHTE), self.k_norm(k_NHTE), v_NHTE


class CrossPatchAttention(Attention):
    """Self-attention inside each patch that also sees the last r positions of the patch before (paper, section 2.3.2).

    Positions are rotary: only distances matter, so that a patch's own positions start at r. A cache holds the r
    positions of the previous patch in front of those of the open one.
    """

    def __init__(self, dim: int, heads: int, previous: int, **options: Any) -> None:
        super().__init__(dim, heads, **options, rotary=True)
        self.previous = previous

    def forward(self, x_NTD: Tensor, cache: LayerCache | None = None, patches: int | None = None) -> Tensor:
        """(N, T, D) -> (N, T, D).

        With `patches`, the N = B * patches sequences are whole patches in order, and a cache only receives the
        positions that the next patch will see. Without, the T positions follow those in the cache.
        """
        if patches is None:
            return super().forward(x_NTD, cache)
        projected_NPX = self.qkv(x_NTD)
        packed = self._packed(patches, self.previous)
        if cache is None and packs(projected_NPX, packed):
            return self._attend_packed(projected_NPX, packed)
        q_NHPE, k_NHPE, v_NHPE = self._by_heads(projected_NPX)
        before_NHrE, values_NHrE = (self._before(x_NHPE, patches) for x_NHPE in (k_NHPE, v_NHPE))
        keys_NHSE = torch.cat([self._rotate(before_NHrE, 0), self._rotate(k_NHPE, self.previous)], dim=2)
        values_NHSE = torch.cat([values_NHrE, v_NHPE], dim=2)
        if cache is not None:
            self._cache_last(cache, k_NHPE[patches - 1 :: patches], v_NHPE[patches - 1 :: patches])
        q_NHPE = self._rotate(q_NHPE, self.previous)
        return self._merge(attend_across(q_NHPE, keys_NHSE, values_NHSE, patches, self.previous, self._dropped))

    def close_patch(self, cache: LayerCache, patch_size: int) -> None:
        """Replace the previous patch's positions with the last r of the open patch, which is at r to r + P - 1."""
        last = slice(patch_size, patch_size + self.previous)
        assert self.rotary is not None
        back_21e = self.rotary.between(-patch_size, 1 - patch_size, like=cache.keys)
        cache.keys[:, :, : self.previous] = apply_rotary(cache.keys[:, :, last], back_21e)
        cache.values[:, :, : self.previous] = cache.values[:, :, last].clone()

    def _cache_last(self, cache: LayerCache, k_BHPE: Tensor, v_BHPE: Tensor) -> None:
        cache.clear()
        cache.append(self._rotate(k_BHPE[:, :, -self.previous :], 0), v_BHPE[:, :, -self.previous :])

    def _before(self, x_NHPE: Tensor, patches: int) -> Tensor:
        """The last r positions of the patch before each: (N, H, P, E) -> (N, H, r, E), zeros before a row's first."""
        last_NHrE = x_NHPE[:, :, -self.previous :]
        last_BKHrE = last_NHrE.reshape(-1, patches, *last_NHrE.shape[1:])
        return F.pad(last_BKHrE[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)
