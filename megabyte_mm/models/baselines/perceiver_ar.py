"""PerceiverAR (Hawthorne et al. 2022): few latents at the end of a long window, which they all read once.

Legend: B rows, T symbols, S positions read so far, M latents, D model width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from megabyte_mm.alphabet import END
from megabyte_mm.models.attention import MultiHeadAttention, attend
from megabyte_mm.models.base import Decoder, evaluating
from megabyte_mm.models.baselines.sequence import SequenceConfig, SequenceModel
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.flops import PartWork, Work, matmul_parameters, mean_work, stack_work, table_work
from megabyte_mm.models.layers import NORMS, BlockConfig, FeedForward, Stack, StackConfig, init_weights


class PerceiverARDecoder(Decoder):
    """Rows one by one: their latents begin anew at different times."""

    def __init__(self, model: PerceiverAR, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        if execution.backend in ("native", "compile") or execution.precision:
            raise ValueError("PerceiverAR has eager steps alone, with its weights as they are")
        self.capacity = capacity
        self.alignment = model.stride if model.stride < capacity else 1  # a lone span may begin anywhere
        self._model, self.conditions = model, condition_B
        self._rows = [_Row(model, capacity) for _ in condition_B]

    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        with evaluating(self._model):
            return torch.cat(
                [self._rows[i].read(ids_T[None], self.conditions[i : i + 1]) for i, ids_T in enumerate(prefixes)]
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
        return row.step(ids_1) if context_T is None else row.read(context_T[None], self.conditions[i : i + 1])


class _Row:
    """Keeps keys and values of every position for the latents to read, and those of the latents for each other.

    Every half of the latents' number of symbols, the latents begin anew at the positions that `forward` has there.
    """

    logits: Tensor
    """The last that were given, (1, V)."""

    def __init__(self, model: PerceiverAR, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        stack = model.config.stack
        like = next(model.parameters())
        self._read = LayerCache.empty(1, stack.heads, capacity, stack.dim // stack.heads, like)
        self._caches = model.stack.caches(1, model.config.latents)
        self._length = 0
        self._recent_BSD: Tensor
        """What stands at the last positions, as many as the next latents may begin with."""

    def read(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
        """Forget everything, and read a prefix: (1, T), (1,) -> (1, V)."""
        length = self._length = ids_BT.shape[1]
        self._read.clear()
        input_BSD = self._model.embedder(ids_BT, condition_B)
        self._read.append(*self._model.reader.keys_and_values(input_BSD, 0))
        first = max(length // self._model.stride - 1, 0) * self._model.stride
        self._recent_BSD = input_BSD[:, -self._model.stride :]
        return self._new_latents(input_BSD[:, first:], length)

    def step(self, ids_B: Tensor) -> Tensor:
        """Read one more symbol: (1,) -> (1, V)."""
        self._length = length = self._length + 1
        input_B1D = self._model.embedder.after(ids_B[:, None], length)
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

        length: symbols read, so that the last latent stands where the next symbol will.
        """
        first = length + 1 - input_BMD.shape[1]
        begin = length - length % self._model.stride
        oldest = self._model.span_at(begin, self._capacity).oldest
        keys_BHSE, values_BHSE = (held_BHSE[:, :, oldest:] for held_BHSE in self._read.held())
        read_BMD = self._model.reader(input_BMD, first, keys_BHSE, values_BHSE)
        self.logits = self._model.embedder.to_logits(self._model.stack(read_BMD, self._caches)[:, -1])
        return self.logits


@dataclass(frozen=True)
class PerceiverARConfig(SequenceConfig):
    """The architecture of a PerceiverAR.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The causal self-attention over the latents; the cross-attention in front of it has its width and heads.
        context: How far back the latents read, in symbols: at least their number. None for the whole window.
        embedding_scale: Factor on a byte's vector where it is read, but not where the same table makes logits.
            With small initial weights 5 or so lets bytes be heard from the start (Vaswani et al. 2017: the root of the
            width).
        block: What the blocks are made of.
        conditions: How many starts are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
        latents: How many of the last positions are latents: an even number. A training step learns from so many
            symbols of a window; in evaluation they move on by half of that.
    """

    name: ClassVar[str] = "perceiver_ar"

    latents: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latents < 2 or self.latents % 2:
            raise ValueError(f"latents is {self.latents}; it must be an even number from 2 up")
        if self.context is not None and self.context < self.latents:
            raise ValueError(f"context is {self.context}; it must hold the {self.latents} latents")

    def build(self) -> PerceiverAR:
        return PerceiverAR(self)


class LatentSpan(NamedTuple):
    """The latents at the positions first..end - 1 read the positions from `oldest` on, and predict begin..end - 1."""

    oldest: int
    first: int
    begin: int
    end: int


class PerceiverAR(SequenceModel):
    """One cross-attention from the latents to the whole window, then causal self-attention among them.

    `forward` slides over the window by half of the latents: a position is predicted by latents of which at least half
    lie before its own span, but for the first. What a position sees depends on its place alone, so that decoding
    can give the same numbers.
    """

    config: PerceiverARConfig

    def __init__(self, config: PerceiverARConfig) -> None:
        super().__init__(config)
        if config.latents > 2 * self.max_len:
            raise ValueError(
                f"latents is {config.latents}; a window of {self.max_len} symbols never fills half of them"
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
            seen = keys_BHTE[:, :, oldest:end], values_BHTE[:, :, oldest:end]
            latents_BMD = self.stack(self.reader(input_BTD[:, first:end], first, *seen))
            hidden.append(latents_BMD[:, begin - first :])
        return torch.cat(hidden, dim=1)

    def training_nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> tuple[Tensor, slice]:
        """The nats of the latents at one place of the window, at random one of those that `forward` goes through."""
        oldest, first, _, end = self.sample_span(ids_BT)
        input_BTD = self.embedded(ids_BT[:, :end], condition_B)
        seen = self.reader.keys_and_values(input_BTD[:, oldest:], oldest)
        latents_BMD = self.stack(self.reader(input_BTD[:, first:], first, *seen))
        return self.nats(latents_BMD, ids_BT[:, first:end]), slice(first, end)

    def sample_span(self, ids_BT: Tensor) -> LatentSpan:
        """One of the training spans at random, but none where every row has ended: it would teach nothing."""
        filled = self.largest(int((ids_BT != END).any(0).sum()))
        spans = self.training_spans(min(filled + 1, ids_BT.shape[1]))
        return spans[int(torch.randint(len(spans), (), generator=self.common_random))]

    def spans(self, length: int) -> list[LatentSpan]:
        """Where `forward` puts the latents, one time after the other, in a sequence of that length."""
        return [self.span_at(begin, length) for begin in range(0, length, self.stride)]

    def training_spans(self, length: int) -> list[LatentSpan]:
        """Those of them that a training step chooses from: all latents are used, but for the end of a sequence."""
        spans = self.spans(length)
        return spans[1:] or spans

    def span_at(self, begin: int, length: int) -> LatentSpan:
        """The span that predicts the positions from `begin` on, a multiple of the stride."""
        oldest = 0 if self.config.context is None else max(begin + self.stride - self.config.context, 0)
        return LatentSpan(oldest, max(begin - self.stride, 0), begin, min(begin + self.stride, length))

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> PerceiverARDecoder:
        return PerceiverARDecoder(self, condition_B, capacity, execution)

    def work(self) -> PartWork:
        """Keys of every position, and all latents of every span."""
        return self._work(self.max_len, self.max_len, self.spans(self.max_len))

    def training_work(self) -> PartWork:
        """A step makes keys of what its latents see, and predicts where they stand."""
        return mean_work(
            [
                self._work(span.end - span.oldest, span.end - span.first, [span])
                for span in self.training_spans(self.max_len)
            ]
        )

    def _work(self, read: int, predicted: int, spans: list[LatentSpan]) -> PartWork:
        """read: positions whose keys are made. predicted: positions whose logits are."""
        latents = [span.end - span.first for span in spans]
        seen = [span.end - span.oldest for span in spans]
        keys, pairs = matmul_parameters(self.reader.kv), sum(map(mul, latents, seen))
        crossing = Work(matmul_parameters(self.reader) - keys, sum(latents), self.config.stack.dim, pairs)
        return {
            "reader": (Work(keys, read), crossing),
            "stack": (stack_work(self.stack, sum(latents), sum(count**2 for count in latents)),),
            "embedder.symbols": (table_work(self.embedder.symbols, predicted),),
        }


class CrossAttentionBlock(MultiHeadAttention):
    """The cross-attention block: each latent gathers from all positions up to its own."""

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
        """Of positions from `start` on: (B, T, D) -> twice (B, H, T, E)."""
        keys_BHTE, values_BHTE = self._split(self.kv(self.norm(input_BTD)), 2)
        return self._rotate(self.k_norm(keys_BHTE), start), values_BHTE

    def forward(self, input_BMD: Tensor, first: int, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
        """The latents at the positions `first` to S - 1, which are the last of S: (B, M, D) -> (B, M, D)."""
        [q_BHME] = self._split(self.q(self.norm(input_BMD)), 1)
        q_BHME = self._rotate(self.q_norm(q_BHME), first)
        x_BMD = input_BMD + self.dropout(self._merge(attend(q_BHME, keys_BHSE, values_BHSE, self._dropped)))
        read_BMD: Tensor = x_BMD + self.dropout(self.feedforward(self.feedforward_norm(x_BMD)))
        return read_BMD
