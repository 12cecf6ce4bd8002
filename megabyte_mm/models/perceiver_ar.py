"""PerceiverAR (Hawthorne et al. 2022): few latents at the end of a long window, which they all read once.

Legend: B rows, T symbols, S positions read so far, M latents, D model width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import END
from megabyte_mm.models.attention import HeadNorm, attend
from megabyte_mm.models.base import ByteModel, Decoder, ModelConfig, condition_ids
from megabyte_mm.models.cache import LayerCache
from megabyte_mm.models.embedders import SequenceEmbedder
from megabyte_mm.models.layers import (
    NORMS,
    BlockConfig,
    FeedForward,
    Stack,
    StackConfig,
    init_weights,
    matmul_parameters,
)
from megabyte_mm.models.rotary import Turns, turn


@dataclass(frozen=True)
class PerceiverARConfig(ModelConfig):
    """The architecture of a PerceiverAR.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The causal self-attention over the latents; the cross-attention in front of it has its width and heads.
        latents: How many of the last positions are latents: an even number. A training step learns from so many
            symbols of a window; in evaluation they move on by half of that.
        context: How far back they read, in symbols: at least as many as there are latents. None for the whole window.
        byte_scale: What a byte's vector is multiplied with where it is read, but not where the same table makes logits.
            With small initial weights 5 or so lets bytes be heard from the start (Vaswani et al. 2017: the root of the
            width).
        block: What the blocks are made of.
        conditions: How many starts are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
    """

    name: ClassVar[str] = "perceiver_ar"

    max_len: int | None = None
    stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    latents: int = 1024
    context: int | None = None
    byte_scale: float = 1.0
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PerceiverARConfig:
        stack = {"stack": StackConfig(**values["stack"])} if "stack" in values else {}
        return cls(**{**values, **stack, "block": BlockConfig(**values.get("block", {}))})

    def __post_init__(self) -> None:
        self.check_common_fields("max_len", "conditions")
        if self.latents < 2 or self.latents % 2:
            raise ValueError(f"latents is {self.latents}; it must be an even number from 2 up")
        if self.context is not None and self.context < self.latents:
            raise ValueError(f"context is {self.context}; it must hold the {self.latents} latents")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> PerceiverARConfig:
        found = self.filled(max_len=max_len, conditions=conditions)
        return replace(self, **found)  # type: ignore[arg-type] # it does not look at the names

    def build(self) -> PerceiverAR:
        return PerceiverAR(self)


class Stretch(NamedTuple):
    """The latents at the positions first..end - 1 read the positions from `oldest` on, and predict begin..end - 1."""

    oldest: int
    first: int
    begin: int
    end: int


class PerceiverAR(ByteModel):
    """One cross-attention from the latents to the whole window, then causal self-attention among them.

    `forward` slides over the window by half of the latents: a position is predicted by latents of which at least half
    lie before its own stretch, but for the first. What a position sees depends on its place alone, so that decoding
    can give the same numbers.
    """

    config: PerceiverARConfig

    def __init__(self, config: PerceiverARConfig) -> None:
        super().__init__()
        if config.max_len is None:
            raise ValueError("PerceiverAR needs a config with max_len")
        self.max_len = config.max_len
        self.stride = config.latents // 2
        self.config = config = replace(config, conditions=config.conditions or 1)
        learned = self.max_len if config.block.positions == "learned" else 0
        self.embedder = SequenceEmbedder(
            config.stack.dim, learned, config.conditions or 1, config.init_std, config.byte_scale
        )
        self.reader = Reader(config.stack, config.block, config.dropout)
        self.stack = Stack(config.stack, config.block, config.dropout)
        init_weights(self, config.init_std)

    @property
    def longest(self) -> int | None:
        """The longest sequence that has positions; None where any has."""
        return None if self.config.block.positions == "rotary" else self.max_len

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        input_BTD = self._input(ids_BT, condition_B)
        keys_BHTE, values_BHTE = self.reader.keys_and_values(input_BTD, 0)
        hidden = []
        for oldest, first, begin, end in self.stretches(ids_BT.shape[1]):
            seen = keys_BHTE[:, :, oldest:end], values_BHTE[:, :, oldest:end]
            latents_BMD = self.stack(self.reader(input_BTD[:, first:end], first, *seen))
            hidden.append(latents_BMD[:, begin - first :])
        return self.embedder.to_logits(torch.cat(hidden, dim=1))

    def training_nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> tuple[Tensor, slice]:
        """The nats of the latents at one place of the window, at random one of those that `forward` goes through."""
        # A place where every row has ended would teach nothing.
        filled = int((ids_BT != END).any(0).sum())
        stretches = self.training_stretches(min(filled + 1, ids_BT.shape[1]))
        oldest, first, _, end = stretches[int(torch.randint(len(stretches), ()))]
        input_BTD = self._input(ids_BT[:, :end], condition_B)
        seen = self.reader.keys_and_values(input_BTD[:, oldest:], oldest)
        latents_BMD = self.stack(self.reader(input_BTD[:, first:], first, *seen))
        logits_BVM = self.embedder.to_logits(latents_BMD).float().transpose(1, 2)
        return F.cross_entropy(logits_BVM, ids_BT[:, first:end], reduction="none"), slice(first, end)

    def stretches(self, length: int) -> list[Stretch]:
        """Where `forward` puts the latents, one time after the other, in a sequence of that length."""
        return [self.stretch_at(begin, length) for begin in range(0, length, self.stride)]

    def training_stretches(self, length: int) -> list[Stretch]:
        """Those of them that a training step chooses from: all latents are used, where the sequence is long enough."""
        stretches = self.stretches(length)
        return stretches[1:] or stretches

    def stretch_at(self, begin: int, length: int) -> Stretch:
        """The stretch that predicts the positions from `begin` on, a multiple of the stride."""
        oldest = 0 if self.config.context is None else max(begin + self.stride - self.config.context, 0)
        return Stretch(oldest, max(begin - self.stride, 0), begin, min(begin + self.stride, length))

    def _input(self, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
        """What stands at each position: (B, T) -> (B, T, D)."""
        self.check_length(ids_BT.shape[1])
        input_BTD: Tensor = self.embedder(ids_BT[:, :-1], condition_ids(condition_B, len(ids_BT), ids_BT.device))
        return input_BTD

    def decoder(self, batch: int, condition_B: Tensor | None = None, capacity: int | None = None) -> PerceiverARDecoder:
        device = next(self.parameters()).device
        return PerceiverARDecoder(self, batch, condition_ids(condition_B, batch, device), self.check_length(capacity))

    def flops_per_byte(self) -> float:
        """Forward pass over a window: keys of every position, and all latents of every stretch."""
        flops = float(2 * matmul_parameters(self.reader.kv) * self.max_len)
        flops += sum(self._flops_of_latents(stretch) for stretch in self.stretches(self.max_len))
        return flops / self.max_len + 2 * self.embedder.symbols.weight.numel()

    def training_flops_per_byte(self) -> float:
        """A training step reads the window up to one place, and learns from the latents that end there."""
        keys, table = matmul_parameters(self.reader.kv), self.embedder.symbols.weight.numel()
        steps = [
            2 * keys * (stretch.end - stretch.oldest)
            + self._flops_of_latents(stretch)
            + 2 * table * (stretch.end - stretch.first)
            for stretch in self.training_stretches(self.max_len)
        ]
        return 3 * sum(steps) / len(steps) / self.max_len

    def _flops_of_latents(self, stretch: Stretch) -> float:
        latents, seen = stretch.end - stretch.first, stretch.end - stretch.oldest
        matrices = matmul_parameters(self.stack) + matmul_parameters(self.reader) - matmul_parameters(self.reader.kv)
        stack = self.config.stack
        return latents * (2 * matrices + 4 * stack.dim * (seen + stack.layers * latents))


class Reader(nn.Module):
    """The cross-attention block: each latent gathers from all positions up to its own."""

    def __init__(self, config: StackConfig, block: BlockConfig, dropout: float) -> None:
        super().__init__()
        norm, self.heads = NORMS[block.norm], config.heads
        self.norm = norm(config.dim)
        self.q = nn.Linear(config.dim, config.dim, bias=block.bias)
        self.kv = nn.Linear(config.dim, 2 * config.dim, bias=block.bias)
        self.out = nn.Linear(config.dim, config.dim, bias=block.bias)
        head_dim = config.dim // config.heads
        self.q_norm = HeadNorm(head_dim) if block.qk_norm else nn.Identity()
        self.k_norm = HeadNorm(head_dim) if block.qk_norm else nn.Identity()
        self.turns = Turns(head_dim) if block.positions == "rotary" else None
        self.feedforward_norm = norm(config.dim)
        self.feedforward = FeedForward(config, block)
        self.dropout = nn.Dropout(dropout)

    def keys_and_values(self, input_BTD: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Of positions from `start` on: (B, T, D) -> twice (B, H, T, E)."""
        keys_BTD, values_BTD = self.kv(self.norm(input_BTD)).chunk(2, dim=-1)
        return self._placed(self.k_norm(self._split(keys_BTD)), start), self._split(values_BTD)

    def forward(self, input_BMD: Tensor, first: int, keys_BHSE: Tensor, values_BHSE: Tensor) -> Tensor:
        """The latents at the positions `first` to S - 1, which are the last of S: (B, M, D) -> (B, M, D)."""
        q_BHME = self._placed(self.q_norm(self._split(self.q(self.norm(input_BMD)))), first)
        dropped = self.dropout.p if self.training else 0.0
        mixed_BHME = attend(q_BHME, keys_BHSE, values_BHSE, dropped)
        x_BMD = input_BMD + self.dropout(self.out(mixed_BHME.transpose(1, 2).flatten(2)))
        read_BMD: Tensor = x_BMD + self.dropout(self.feedforward(self.feedforward_norm(x_BMD)))
        return read_BMD

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]

    def _placed(self, x_BHTE: Tensor, start: int) -> Tensor:
        if self.turns is None:
            return x_BHTE
        return turn(x_BHTE, self.turns.between(start, start + x_BHTE.shape[2], like=x_BHTE))


class PerceiverARDecoder(Decoder):
    """Keeps keys and values of every position for the latents to read, and those of the latents for each other.

    Every half of the latents' number of symbols, the latents begin anew at the positions that `forward` has there.
    """

    def __init__(self, model: PerceiverAR, batch: int, condition_B: Tensor, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self.alignment = model.stride if model.stride < capacity else 1  # a lone stretch may begin anywhere
        self._condition_B = condition_B
        stack = model.config.stack
        like = next(model.parameters())
        self._read = LayerCache(batch, stack.heads, capacity, stack.dim // stack.heads, like)
        self._caches = model.stack.caches(batch, model.config.latents)
        self._recent_BSD: Tensor
        """What stands at the last positions, as many as the next latents may begin with."""
        self._length = 0

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        self._length = ids_BT.shape[1]
        self.check_room(self._length)
        self._read.clear()
        input_BSD = self._model.embedder(ids_BT, self._condition_B)
        self._read.append(*self._model.reader.keys_and_values(input_BSD, 0))
        first = max(self._length // self._model.stride - 1, 0) * self._model.stride
        self._recent_BSD = input_BSD[:, -self._model.stride :]
        return self._new_latents(input_BSD[:, first:])

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        self.check_room(self._length + 1)
        self._length += 1
        input_B1D = self._model.embedder.after(ids_B[:, None], self._length)
        self._read.append(*self._model.reader.keys_and_values(input_B1D, self._length))
        before_BSD = self._recent_BSD
        self._recent_BSD = torch.cat([before_BSD, input_B1D], dim=1)[:, -self._model.stride :]
        if self._length % self._model.stride == 0:
            return self._new_latents(torch.cat([before_BSD, input_B1D], dim=1))
        return self._latents(input_B1D)

    def _new_latents(self, input_BMD: Tensor) -> Tensor:
        for cache in self._caches:
            cache.clear()
        return self._latents(input_BMD)

    def _latents(self, input_BMD: Tensor) -> Tensor:
        """Logits after the last of M latents, which follow those in the caches: (B, M, D) -> (B, V)."""
        first = self._length + 1 - input_BMD.shape[1]
        begin = self._length - self._length % self._model.stride
        oldest = self._model.stretch_at(begin, self.capacity).oldest
        keys_BHSE, values_BHSE = (held_BHSE[:, :, oldest:] for held_BHSE in self._read.held())
        read_BMD = self._model.reader(input_BMD, first, keys_BHSE, values_BHSE)
        return self._model.embedder.to_logits(self._model.stack(read_BMD, self._caches)[:, -1])
