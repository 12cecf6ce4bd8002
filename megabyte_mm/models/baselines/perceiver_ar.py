"""PerceiverAR (Hawthorne et al. 2022): a few latents at the end of a long window read all of it once.

Legend: B rows, T symbols, S positions read so far, M latents, D model width, H heads, E head width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from megabyte_mm.alphabet import num_filled
from megabyte_mm.errors import FieldError
from megabyte_mm.models.attention import MultiHeadAttention, attend
from megabyte_mm.models.base import DEFAULT_STEP, Decoder, StepOptions, evaluating
from megabyte_mm.models.baselines.sequence import SequenceConfig, SequenceModel
from megabyte_mm.models.config import BlockConfig, StackConfig
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.flops import Flops, FlopsByModule, multiplied_weights
from megabyte_mm.models.layers import NORMS, FeedForward, Stack, init_weights


@dataclass(frozen=True)
class PerceiverARConfig(SequenceConfig):
    """The architecture of a PerceiverAR.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The causal self-attention over the latents; the cross-attention in front of it has its width and heads.
        context: Number of last symbols that the latents read: at least their number. None for the whole window.
        embedding_scale: Factor on a byte's embedding where it is read, but not where the same table makes logits.
            With small initial weights, about 5 makes the input bytes matter from the first step (Vaswani et al. 2017
            use the square root of the width).
        neighbourhood: Features of the bytes near each position, added to the input there; None for none.
        block: The variant of the Transformer blocks.
        conditions: Number of learned start vectors: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
        latents: Number of last positions that are latents, even. A training step learns from so many
            symbols of a window; in evaluation they move on by half of that.
    """

    name: ClassVar[str] = "perceiver_ar"

    latents: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latents < 2 or self.latents % 2:
            raise FieldError("latents", f"is {self.latents}; it must be an even number from 2 up")
        if self.context is not None and self.context < self.latents:
            raise FieldError("context", f"is {self.context}; it must hold the {self.latents} latents")

    def build(self) -> PerceiverAR:
        return PerceiverAR(self)


class LatentSpan(NamedTuple):
    """The latents at positions first..end - 1 read the positions from `oldest` on, and predict begin..end - 1."""

    oldest: int
    first: int
    begin: int
    end: int


class PerceiverAR(SequenceModel):
    """One cross-attention from the latents to the whole window, then causal self-attention among them.

    `forward` slides over the window by half of the latents: a position is predicted by latents of which at least half
    lie before its own span, except for the first span. What a position sees depends on the position alone, so that
    decoding can give the same numbers.
    """

    config: PerceiverARConfig

    def __init__(self, config: PerceiverARConfig) -> None:
        super().__init__(config)
        if config.latents > 2 * self.max_len:
            raise FieldError(
                "latents", f"is {config.latents}; a window of {self.max_len} symbols never fills half of them"
            )
        self.stride = config.latents // 2
        self.reader = CrossAttentionBlock(config.stack, config.block, config.dropout)
        self.stack = Stack(config.stack, config.block, config.dropout)
        init_weights(self, config.init_std)

    def hidden(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        input_BTD = self.embedded(ids_BT, condition_B)
        keys_BHTE, values_BHTE = self.reader.keys_and_values(input_BTD, 0)
        hidden = []
        for oldest, first, begin, end in self.spans(ids_BT.shape[1]):
            visible = keys_BHTE[:, :, oldest:end], values_BHTE[:, :, oldest:end]
            latents_BMD = self.stack(self.reader(input_BTD[:, first:end], first, *visible))
            hidden.append(latents_BMD[:, begin - first :])
        return torch.cat(hidden, dim=1)

    def training_nll(
        self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP
    ) -> tuple[Tensor, slice]:
        """The nats of the latents of one span, sampled from those that `forward` goes through, and that span."""
        oldest, first, _, end = self.sample_span(ids_BT, options)
        input_BTD = self.embedded(ids_BT[:, :end], condition_B)
        visible = self.reader.keys_and_values(input_BTD[:, oldest:], oldest)
        latents_BMD = self.stack(self.reader(input_BTD[:, first:], first, *visible))
        return self.nats(latents_BMD, ids_BT[:, first:end]), slice(first, end)

    def sample_span(self, ids_BT: Tensor, options: StepOptions = DEFAULT_STEP) -> LatentSpan:
        """Sample a training span, the same in all processes, but none where every row has ended."""
        own = num_filled(ids_BT) if options.num_filled is None else options.num_filled
        filled = options.all_reduce_max(own)
        spans = self.training_spans(min(filled + 1, ids_BT.shape[1]))
        return spans[int(torch.randint(len(spans), (), generator=options.shared_generator))]

    def spans(self, length: int) -> list[LatentSpan]:
        """The spans of latents in `forward`, in order, for a sequence of that length."""
        return [self.span_at(begin, length) for begin in range(0, length, self.stride)]

    def training_spans(self, length: int) -> list[LatentSpan]:
        """The spans that a training step samples from: all that use all latents, but for the end of a sequence."""
        spans = self.spans(length)
        return spans[1:] or spans

    def span_at(self, begin: int, length: int) -> LatentSpan:
        """The span that predicts the positions from `begin` on, a multiple of the stride."""
        oldest = 0 if self.config.context is None else max(begin + self.stride - self.config.context, 0)
        return LatentSpan(oldest, max(begin - self.stride, 0), begin, min(begin + self.stride, length))

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> PerceiverARDecoder:
        return PerceiverARDecoder(self, condition_B, capacity, execution)

    @cached_property
    def forward_flops(self) -> FlopsByModule:
        """Operations by formula: counting thousands of spans on the meta device would take minutes."""
        return self._flops(self.max_len, self.max_len, self.spans(self.max_len))

    @cached_property
    def training_flops(self) -> FlopsByModule:
        """The mean over the training spans: keys of what the latents see, and predictions at all latents."""
        spans = self.training_spans(self.max_len)
        each = [self._flops(span.end - span.oldest, span.end - span.first, [span]) for span in spans]
        return {name: sum((flops[name] for flops in each), Flops()) * (1 / len(each)) for name in each[0]}

    def _flops(self, keys: int, predictions: int, spans: list[LatentSpan]) -> FlopsByModule:
        """Operations for keys and values of so many positions, logits of so many, and the latents of some spans."""
        counts = [(span.end - span.first, span.end - span.oldest) for span in spans]
        latents = sum(count for count, _ in counts)
        pairs = sum(count * visible for count, visible in counts)
        latent_pairs = sum(count**2 for count, _ in counts)
        weights, kv = multiplied_weights(self), self.reader.kv.weight.numel()
        dim, layers = self.config.stack.dim, self.config.stack.layers
        reader = Flops(2 * (kv * keys + (weights["reader"] - kv) * latents), 4 * dim * pairs)
        stack = Flops(2 * weights["stack"] * latents, 4 * dim * layers * latent_pairs)
        logits = Flops(2 * weights["embedder"] * predictions)
        return {"": reader + stack + logits, "reader": reader, "stack": stack, "embedder.symbols": logits}


class CrossAttentionBlock(MultiHeadAttention):
    """Attention of each latent to all positions up to its own, and a feed-forward layer."""

    def __init__(self, config: StackConfig, block: BlockConfig, dropout: float) -> None:
        super().__init__(config.heads, dropout)
        norm = NORMS[block.norm]
        self.norm = norm(config.dim)
        self.q = nn.Linear(config.dim, config.dim, bias=block.bias)
        self.kv = nn.Linear(config.dim, 2 * config.dim, bias=block.bias)
        self._add_heads(config.dim, block.bias, block.qk_norm, rotary=block.positions == "rotary")
        self.feedforward_norm = norm(config.dim)
        self.feedforward = FeedForward(config, block)
        self.dropout = nn.Dropout(dropout)

    def keys_and_values(self, input_BTD: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values of positions from `start` on: (B, T, D) -> twice (B, H, T, E)."""
        keys_BHTE, values_BHTE = self._split(self.kv(self.norm(input_BTD)), 2)
        return self._rotate(self.k_norm(keys_BHTE), start), values_BHTE

    def forward(self, input_BMD: Tensor, first: int, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
        """Read keys and values with the latents at the positions from `first` on, the last M of S -> (B, M, D)."""
        [q_BHME] = self._split(self.q(self.norm(input_BMD)), 1)
        q_BHME = self._rotate(self.q_norm(q_BHME), first)
        x_BMD = input_BMD + self.dropout(self._merge(attend(q_BHME, keys_BHSE, values_BHSE, self._dropped)))
        latents_BMD: Tensor = x_BMD + self.dropout(self.feedforward(self.feedforward_norm(x_BMD)))
        return latents_BMD


class PerceiverARDecoder(Decoder):
    """Decodes row by row, since the latents of rows restart at different times."""

    def __init__(self, model: PerceiverAR, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        if execution.backend in ("native", "compile") or execution.precision:
            raise ValueError("PerceiverAR has only eager steps, with unrounded weights")
        self.capacity = capacity
        # A single span may begin at any whole unit.
        self.alignment = math.lcm(model.unit, model.stride if model.stride < capacity else 1)
        self._model, self.conditions = model, condition_B
        self._rows = [_Row(model, capacity) for _ in condition_B]

    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        with evaluating(self._model):
            return torch.cat(
                [self._rows[i].prefill(ids_T[None], self.conditions[i : i + 1]) for i, ids_T in enumerate(prefixes)]
            )

    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        new_contexts = new_contexts or {}
        self._advance_lengths(ids_B, new_contexts)
        with evaluating(self._model):
            return torch.cat([self._row_step(i, ids_B[i : i + 1], new_contexts.get(i)) for i in range(len(ids_B))])

    def _row_step(self, i: int, ids_1: Tensor, context_T: Tensor | None) -> Tensor:
        row = self._rows[i]
        if i in self._finished:
            return row.logits
        return row.step(ids_1) if context_T is None else row.prefill(context_T[None], self.conditions[i : i + 1])


class _Row:
    """Caches the keys and values of every position for the latents, and those of the latents for each other.

    Whenever a span is full, the latents restart at the positions that `forward` has for the next.
    """

    logits: Tensor
    """The latest result, (1, V)."""

    def __init__(self, model: PerceiverAR, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        stack = model.config.stack
        like = next(model.parameters())
        self._read = LayerCache.empty(1, stack.heads, capacity, stack.dim // stack.heads, like)
        self._caches = model.stack.caches(1, model.config.latents)
        self._length = 0
        self._ids_1T: Tensor
        self._condition_1: Tensor
        self._recent_BSD: Tensor
        """Embeddings of the last positions, as many as the next latents may begin with."""

    def prefill(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
        """Reset the row and read a prefix: (1, T), (1,) -> (1, V)."""
        length = self._length = ids_BT.shape[1]
        self._ids_1T, self._condition_1 = ids_BT, condition_B
        self._read.clear()
        input_BSD = self._model.inputs(ids_BT, condition_B)
        self._read.append(*self._model.reader.keys_and_values(input_BSD, 0))
        first = max(length // self._model.stride - 1, 0) * self._model.stride
        self._recent_BSD = input_BSD[:, -self._model.stride :]
        return self._new_latents(input_BSD[:, first:], length)

    def step(self, ids_B: Tensor) -> Tensor:
        """Read one more symbol: (1,) -> (1, V)."""
        self._length = length = self._length + 1
        self._ids_1T = torch.cat([self._ids_1T, ids_B[:, None]], dim=1)
        input_B1D = self._model.inputs(self._ids_1T, self._condition_1, length)
        self._read.append(*self._model.reader.keys_and_values(input_B1D, length))
        before_BSD = self._recent_BSD
        self._recent_BSD = torch.cat([before_BSD, input_B1D], dim=1)[:, -self._model.stride :]
        if length % self._model.stride == 0:
            return self._new_latents(torch.cat([before_BSD, input_B1D], dim=1), length)
        return self._latents(input_B1D, length)

    def _new_latents(self, input_BMD: Tensor, length: int) -> Tensor:
        for cache in self._caches:
            cache.clear()
        return self._latents(input_BMD, length)

    def _latents(self, input_BMD: Tensor, length: int) -> Tensor:
        """Logits after the last of M latents, which follow those in the caches: (B, M, D) -> (B, V).

        length: symbols read, which is the position of the last latent.
        """
        first = length + 1 - input_BMD.shape[1]
        begin = length - length % self._model.stride
        oldest = self._model.span_at(begin, self._capacity).oldest
        keys_BHSE, values_BHSE = (held_BHSE[:, :, oldest:] for held_BHSE in self._read.held())
        latents_BMD = self._model.reader(input_BMD, first, keys_BHSE, values_BHSE)
        self.logits = self._model.embedder.to_logits(self._model.stack(latents_BMD, self._caches)[:, -1])
        return self.logits
