"""The interface of every byte model: ByteModel for training and scoring, Decoder for generation and compression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import check_ids
from megabyte_mm.models.config import ModelConfig
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Execution
from megabyte_mm.models.flops import FlopsByModule, count_flops, total_flops
from megabyte_mm.models.layers import Stack
from megabyte_mm.models.transfer import to_device

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""torch.compile's modes: how long it searches for fast code, and whether it records CUDA graphs."""


@dataclass(frozen=True)
class StepOptions:
    """Options of one training or validation step.

    Args:
        activation_budget: Bytes for the activations of the step. If they would take more, some are recomputed in the
            backward pass.
        shared_generator: A source of random numbers that is the same in all processes of a distributed run, for choices
            that they must make alike; None for torch's default generator.
        all_reduce_max: The maximum of a number over all processes; each of them must call it.
        unlearned: Parts of rows that the loss leaves out, each by the row's condition and its first symbol. Their nats
            need not be computed, and are 0 then.
        num_filled: Positions of the batch at which some row has a byte, where the caller knows it from the CPU; None to
            look at the symbols, for which a GPU is waited for.
    """

    activation_budget: float = 2**31
    shared_generator: torch.Generator | None = None
    all_reduce_max: Callable[[int], int] = int
    unlearned: frozenset[tuple[int, int]] = frozenset()
    num_filled: int | None = None


DEFAULT_STEP = StepOptions()


class Decoder(ABC):
    """Next-symbol distributions, one symbol at a time, for rows that may have different lengths.

    The logits are those of the model's `forward` at every position, and those of a row do not depend on the others. A
    row holds at most `capacity` symbols. `prefill_rows` or `prefill` comes first, even with empty prefixes.
    """

    capacity: int
    alignment: int
    """A long context is best truncated by a multiple of this many symbols."""
    lengths: list[int] | None = None
    """Symbols of each row read so far; None before `prefill_rows`."""
    conditions: Tensor
    """The condition of each row, (B,) int64; `set_conditions` changes them."""
    _condition_numbers: list[int] | None = None

    @property
    def condition_numbers(self) -> list[int]:
        """The condition of each row as a number, read from the device once."""
        if self._condition_numbers is None:
            self._condition_numbers = self.conditions.tolist()
        return self._condition_numbers

    def set_conditions(self, condition_B: Tensor) -> None:
        """Set the conditions of the first rows: (B,) int64, on any device."""
        self.conditions[: len(condition_B)] = to_device(condition_B, self.conditions.device)
        self._condition_numbers = None

    @abstractmethod
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        """Reset all rows, read as much of each row's prefix as can be read in parallel, and return the next logits.

        prefixes: (t,) int64, 0..256, t < capacity, one per row; condition: (B,) int64, by default the decoder's own
        -> (B, 257): the logits after the first `lengths` symbols of each row. The remaining symbols are left to `step`.
        Raises ValueError if a prefix is too long or holds what is no symbol.
        """

    @abstractmethod
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        """Read one more symbol of each row and return the next logits: (B,) int64 -> (B, 257).

        new_contexts: by row, a context to restart from, (t,) int64, which ends with this symbol: what the row held
        without a multiple of `alignment` at its front. Raises ValueError if a row is full, since nothing could follow
        the symbol, and RuntimeError before `prefill_rows`.
        """

    def prefill(self, ids_BT: Tensor) -> Tensor:
        """Reset all rows, read a prefix (T >= 0) of every row and return the next logits.

        ids: (B, T) int64, 0..256, T < capacity -> (B, 257). Raises ValueError if T is too long, and for ids that are no
        symbols.
        """
        logits_BV = self.prefill_rows(ids_BT.unbind(0))
        assert self.lengths is not None
        for t in range(self.lengths[0], ids_BT.shape[1]):
            logits_BV = self.step(ids_BT[:, t])
        return logits_BV

    def capacity_of(self, row: int) -> int:
        """Symbols that a row holds at most: less than `capacity` where rows of its condition are shorter."""
        return self.capacity

    def alignment_of(self, row: int) -> int:
        """The `alignment` of a row, where rows of its condition have another."""
        return self.alignment

    def finish_row(self, row: int) -> None:
        """Stop counting a row that has ended: its symbols and its logits may be anything from now on."""
        self._finished.add(row)

    def _reset_lengths(self, prefixes: Sequence[Tensor], condition_B: Tensor | None) -> None:
        """Record the prefixes' lengths and conditions.

        Raises ValueError if one fills its row or holds what is no symbol, and for too many rows.
        """
        if not 1 <= len(prefixes) <= len(self.conditions):
            raise ValueError(f"{len(prefixes)} rows; this decoder takes 1 to {len(self.conditions)}")
        if condition_B is not None:
            self.set_conditions(condition_B)
        for row, prefix in enumerate(prefixes):
            self._check_room(row, len(prefix))
            check_ids(prefix)
        self.lengths = [len(prefix) for prefix in prefixes]
        self._finished: set[int] = set()

    def _advance_lengths(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor]) -> list[int]:
        """Record that each row reads one more symbol, and return the new lengths. Raises as `step` does."""
        if self.lengths is None:
            raise RuntimeError("a decoder's prefill comes before its first step")
        if ids_B.shape != (len(self.lengths),):
            raise ValueError(f"symbols of shape {tuple(ids_B.shape)}; {len(self.lengths)} rows were prefilled")
        lengths = list(self.lengths)
        for row, length in enumerate(lengths):
            if row not in self._finished:
                lengths[row] = len(new_contexts[row]) if row in new_contexts else length + 1
                self._check_room(row, lengths[row])
        self.lengths = lengths
        return lengths

    def _check_room(self, row: int, length: int) -> None:
        if length >= self.capacity_of(row):
            raise ValueError(f"{length} symbols leave no room for another in a window of {self.capacity_of(row)}")


class PatchDecoder(Decoder):
    """A decoder that also reads whole patches, by the same operations on the same tensors whatever the rows hold.

    Such operations can be captured once, as a CUDA graph, and launched again for each patch.
    """

    reads_patches: bool
    """False where whole patches would be no faster."""
    max_patch_size: int
    """Symbols of the largest patches."""

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Symbols of the open patches."""

    @property
    @abstractmethod
    def num_viewed(self) -> int:
        """Patches that the global model looks at in the next whole patch: a few different numbers over all patches."""

    def has_patch(self) -> bool:
        """True where all rows are at the beginning of a patch, and have room for a symbol behind it."""
        assert self.lengths is not None
        ends = {row: length + self.patch_size for row, length in enumerate(self.lengths) if row not in self._finished}
        return all(end < self.capacity_of(row) for row, end in ends.items())

    @abstractmethod
    def read_patch(self, logits_BV: Tensor, choose: Callable[[int, Tensor], Tensor], num_viewed: int) -> Tensor:
        """Read a patch of each row, and return the logits behind it, (B, 257).

        logits: of the first symbol. choose: the symbols that are read, (B,) int64, from their position in the patch and
        their logits. Between `begin_patch` and `count_patch`, since it may only be recorded.
        """

    def begin_patch(self) -> None:
        """Move to the device what was only counted in Python."""

    def count_patch(self) -> None:
        """Record that each row has read a patch."""
        assert self.lengths is not None
        self.lengths = [
            length + self.patch_size * (row not in self._finished) for row, length in enumerate(self.lengths)
        ]


class ByteModel(nn.Module, ABC):
    """An autoregressive model of symbols 0..256. Position t of its output is the distribution of symbol t."""

    config: ModelConfig
    """The config that built this model, with no field left open."""
    patch_size: int = 1
    """Symbols in a patch; 1 for models without patches."""
    max_len: int
    """The window: the longest sequence in training."""

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        """The sizes of all patches: one, unless rows have parts with sizes of their own."""
        return (self.patch_size,)

    @property
    @abstractmethod
    def max_positions(self) -> int | None:
        """The longest sequence that the model has positions for; None if there is no limit."""

    @abstractmethod
    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Logits of every symbol given the ones before it.

        ids: (B, T) int64, 0..256, 1 <= T <= max_positions; condition: (B,) int64, default 0 -> (B, T, 257). Conditions
        may stay on the CPU: models of rows of several parts look at them there, without waiting for a GPU. Raises
        ValueError for ids that are too many or no symbols.
        """

    def decoder(
        self,
        batch: int,
        condition_B: Tensor | None = None,
        capacity: int | None = None,
        execution: Execution = DEFAULT_EXECUTION,
    ) -> Decoder:
        """A decoder for at most `batch` rows, each of at most `capacity` symbols, by default max_len.

        condition: (batch,) int64, default 0. Raises ValueError for a capacity above `max_positions`, and for an
        execution that this model or machine does not support.
        """
        conditions_B = condition_ids(condition_B, batch, next(self.parameters()).device)
        return self.new_decoder(conditions_B.clone(), self.check_length(capacity), execution)

    @abstractmethod
    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> Decoder:
        """The result of `decoder`: one row per condition, which it may change; a capacity that the model can read."""

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        """Names of embeddings that also make logits: steps of lower precision round them as they round layers."""
        return ()

    def check_length(self, length: int | None) -> int:
        """The length, max_len if None. Raises ValueError for a sequence that the model cannot read."""
        length = self.max_len if length is None else length
        limit = self.max_positions
        if length < 1 or length > (limit or length):
            reason = ", the number of its learned positions" if limit else ""
            raise ValueError(f"a sequence of {length} symbols; this model takes 1 to {limit or 'any number'}{reason}")
        return length

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32. Raises as `forward` does."""
        logits_BVT = self(ids_BT, condition_B).float().transpose(1, 2)
        return F.cross_entropy(logits_BVT, ids_BT, reduction="none")

    def training_nll(
        self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP
    ) -> tuple[Tensor, slice]:
        """The nats that a training step learns from, and the span of the symbols that they belong to.

        (B, T) int64 -> (B, t) float32, where `ids_BT[:, span]` has shape (B, t). All symbols, unless a model learns
        from a few positions of a window at a time.
        """
        return self.nll(ids_BT, condition_B, options), slice(None)

    def runs_blocks_once(self, batch: int, activation_budget: float) -> bool:
        """True if each block runs just once in a training step on that many full windows, as CUDA graphs like it."""
        return False

    def compile_blocks(self, mode: CompileMode = "default") -> None:
        """Compile the Transformer blocks with torch.compile for training; weights and their names stay.

        Results are those of the plain code but for rounding. Each new shape costs some seconds once. mode: torch's own;
        reduce-overhead records CUDA graphs.
        """
        for module in self.modules():
            if isinstance(module, Stack):
                module.compile_blocks(mode)

    def checkpoint_blocks(self) -> None:
        """Keep only the inputs of Transformer blocks in training steps, and recompute the rest in the backward pass."""
        for module in self.modules():
            if isinstance(module, Stack):
                module.always_recompute = True

    @property
    def num_parameters(self) -> int:
        """Number of trained values; those of tied tables count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def forward_flops(self) -> FlopsByModule:
        """Operations of a forward pass over a full window of one row, by module."""
        return count_flops(self)

    @property
    def training_flops(self) -> FlopsByModule:
        """The same of the forward half of a training step: its mean, for models that learn from a random span."""
        return self.forward_flops

    def flops_per_byte(self) -> float:
        """Floating-point operations of one forward pass, per byte of a full window."""
        return total_flops(self.forward_flops) / self.max_len

    def training_flops_per_byte(self) -> float:
        """Floating-point operations of a training step: the backward pass multiplies twice as much as the forward."""
        return 3 * total_flops(self.training_flops) / self.max_len

    def spec(self) -> dict[str, Any]:
        """Name and plain config: enough for `models.build` to make the same architecture."""
        return {"name": self.config.name, "config": asdict(self.config)}  # type: ignore[call-overload] # a dataclass


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode without gradients, and afterwards each of its modules back in its own mode."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def prefill_unique(
    model: nn.Module,
    prefixes: Mapping[int, Tensor],
    conditions: Sequence[int],
    read: Callable[[int, Tensor], object],
    copy: Callable[[int, int], object],
) -> None:
    """Let each row of a decoder read its prefix in eval mode; a row with the prefix of an earlier one copies from it.

    read: takes a row and its prefix. copy: takes the row that has read, and the one that is to hold the same.
    """
    unique: list[int] = []
    with evaluating(model):
        for row, ids_T in prefixes.items():
            candidates = (other for other in unique if conditions[other] == conditions[row])
            source = next((other for other in candidates if torch.equal(prefixes[other], ids_T)), None)
            if source is not None:
                copy(source, row)
                continue
            read(row, ids_T)
            unique.append(row)


def condition_ids(condition_B: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """The conditions on that device, 0 for every row if None. Raises ValueError if there is not one for each row."""
    if condition_B is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    if condition_B.shape != (batch,):
        raise ValueError(f"condition has shape {tuple(condition_B.shape)}, expected ({batch},)")
    return to_device(condition_B, device)
