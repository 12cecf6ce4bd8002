"""Cross-entropy without holding the logits of all symbols.

Legend: N rows of hidden vectors, D model width, V the 257 symbols, W columns of a product with their table, C rows of a
chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS = 8192
"""Rows whose logits are held at once: 8 MiB in float32."""
CUDA_ROWS = 65_536
"""The same on CUDA, where the launches of small chunks take longer than their products: 64 MiB."""
CUDA_COLUMNS = 8
"""Columns of products come in multiples of it on CUDA, whose fast kernels need rows that begin at 16 bytes."""


def chunked_cross_entropy(hidden_ND: Tensor, table_VD: Tensor, ids_N: Tensor) -> Tensor:
    """Negative log-likelihood in nats of symbols whose logits are products of hidden vectors with a table of symbols.

    hidden: (N, D); table: (V, D); ids: (N,) int64 -> (N,) float32, or float64 if both factors are. Products have
    autocast's precision; logits are recomputed in the backward pass, some rows at a time.
    """
    nats_N: Tensor = _ChunkedCrossEntropy.apply(hidden_ND, table_VD, ids_N)  # type: ignore[no-untyped-call]
    return nats_N


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, table_VD: Tensor, ids_N: Tensor) -> Tensor:
        ctx.input_dtype = hidden_ND.dtype
        exact = torch.promote_types(hidden_ND.dtype, torch.float32)
        hidden_ND = hidden_ND.to(_product_dtype(hidden_ND))
        head = _Head(table_VD.to(hidden_ND.dtype))
        nats_N = torch.empty(ids_N.shape, dtype=exact, device=hidden_ND.device)
        norms_N = torch.empty_like(nats_N[:0] if head.is_fused else nats_N)
        for rows in _chunks(ids_N):
            logits_CW = head.logits(hidden_ND[rows])
            if head.is_fused:
                nats_N[rows] = F.nll_loss(logits_CW.log_softmax(-1, exact), ids_N[rows], reduction="none")
                continue
            logits_CW = logits_CW.to(exact)
            norms_N[rows] = logits_CW.logsumexp(-1)
            nats_N[rows] = norms_N[rows] - logits_CW.gather(1, ids_N[rows, None])[:, 0]
        ctx.save_for_backward(hidden_ND, table_VD, ids_N, norms_N)
        return nats_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_ND, table_VD, ids_N, norms_N = ctx.saved_tensors
        head = _Head(table_VD.to(hidden_ND.dtype))
        grad_hidden_ND = torch.empty_like(hidden_ND, dtype=ctx.input_dtype)
        grad_table_WD = torch.zeros_like(head.table_WD, dtype=norms_N.dtype)
        for rows in _chunks(ids_N):
            hidden_CD = hidden_ND[rows]
            if head.is_fused:
                probs_CW = head.logits(hidden_CD).softmax(-1, norms_N.dtype)
            else:
                probs_CW = head.logits(hidden_CD).to(norms_N.dtype).sub_(norms_N[rows, None]).exp_()
            # The gradient of a row's logits: the probability of each symbol, less 1 for the actual one.
            probs_CW.scatter_add_(1, ids_N[rows, None], norms_N.new_full((1, 1), -1.0).expand(len(hidden_CD), 1))
            grad_logits_CW = probs_CW.mul_(grad_N[rows, None]).to(hidden_ND.dtype)
            grad_hidden_ND[rows] = grad_logits_CW @ head.table_WD
            grad_table_WD += grad_logits_CW.T @ hidden_CD
        return grad_hidden_ND, grad_table_WD[: len(table_VD)].to(table_VD.dtype), None


class _Head:
    """The table of symbols as a factor; on CUDA with as many more rows as fast kernels need, of probability 0.

    is_fused: softmax is one kernel, which is faster there than to keep the sums.
    """

    def __init__(self, table_VD: Tensor) -> None:
        self.is_fused = table_VD.is_cuda
        missing = -len(table_VD) % CUDA_COLUMNS if self.is_fused else 0
        self.table_WD = F.pad(table_VD, (0, 0, 0, missing)) if missing else table_VD
        self._bias_W = F.pad(table_VD.new_zeros(len(table_VD)), (0, missing), value=float("-inf")) if missing else None

    def logits(self, hidden_CD: Tensor) -> Tensor:
        if self._bias_W is None:
            return hidden_CD @ self.table_WD.T
        return torch.addmm(self._bias_W, hidden_CD, self.table_WD.T)


def _product_dtype(like: Tensor) -> torch.dtype:
    """The dtype of matrix products with vectors like these, under autocast or not."""
    kind = like.device.type
    known = torch.amp.autocast_mode.is_autocast_available(kind)
    if like.dtype != torch.float64 and known and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return like.dtype


def _chunks(ids_N: Tensor) -> Iterator[slice]:
    step = CUDA_ROWS if ids_N.is_cuda else ROWS
    return (slice(first, first + step) for first in range(0, len(ids_N), step))
