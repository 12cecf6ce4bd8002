"""What training, scoring, generation and compression may ask of a model, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.models.config import from_plain
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Execution
from megabyte_mm.models.flops import PartWork, total_flops
from megabyte_mm.models.layers import Stack

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""How long torch.compile looks for fast code, and whether it records CUDA graphs."""


RENAMED_FIELDS = {"byte_scale": "embedding_scale"}
"""Fields of model configs in checkpoints and config files of older versions, and their present names."""


def with_present_names(values: Any) -> Any:
    """The fields of a model config, those with names of older versions under their present ones."""
    if not isinstance(values, Mapping):
        return values
    renamed = {old: new for old, new in RENAMED_FIELDS.items() if old in values and new not in values}
    return {renamed.get(name, name): value for name, value in values.items()}


class ModelConfig(ABC):
    """The architecture of a byte model: a frozen dataclass for each, of plain values and nested dataclasses.

    On the command line `max_len`, `conditions` and, for models with patches, `patch_size` may stay None: the data tell
    them, through `resolve`.
    """

    name: ClassVar[str]
    """Stable name, kept in checkpoints."""
    max_len: int | None
    conditions: int | None
    dropout: float
    init_std: float
    embedding_scale: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that `dataclasses.asdict` made plain; fields that older checkpoints lack take their defaults.

        Fields may have the names of older versions, see RENAMED_FIELDS. Raises ValueError, naming the field, for
        values that are no such config.
        """
        return from_plain(cls, with_present_names(values))

    @abstractmethod
    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> Self:
        """This config with what the data fix filled in; unit: bytes that stay together in the data.

        Raises ValueError, naming the field, where it says something else than the data or still leaves something open.
        """

    @abstractmethod
    def build(self) -> ByteModel:
        """The untrained model. Raises ValueError where a field that it needs is None."""

    def check_common_fields(self, *counts: str) -> None:
        """Raise ValueError, naming the field, where one that every architecture has is outside its range."""
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        for name in ("init_std", "embedding_scale"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    def filled(self, **found: int | None) -> dict[str, int | None]:
        """The given fields, each what the data say or else its own value; ValueError where the two contradict."""
        for name, value in found.items():
            own = getattr(self, name)
            if own is not None and value is not None and own != value:
                raise ValueError(f"{name} is {own}, but the data have {value}: leave it out, or make them agree")
        return {name: getattr(self, name) if value is None else value for name, value in found.items()}


class Decoder(ABC):
    """Gives the distribution of one symbol after the other, for rows that may be at different places.

    Its numbers are those of the model's `forward` at every position, and those of a row do not depend on the others. It
    holds at most `capacity` symbols of each row. `prefill_rows` or `prefill` comes first, even with empty prefixes.
    """

    capacity: int
    alignment: int
    """A long context is best cut at multiples of this many symbols."""
    lengths: list[int] | None = None
    """Symbols of each row that were read so far; None before `prefill_rows`."""
    conditions: Tensor
    """The condition of each row, (B,) int64."""

    @abstractmethod
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        """Forget everything, read the rows' prefixes as far as that goes in parallel, and return the next logits.

        prefixes: (t,) int64, 0..256, t < capacity, one for each row; condition: (B,) int64, by default those that the
        decoder was made with -> (B, 257): what follows the first `lengths` symbols of each. The others are to be given
        to `step`. Raises ValueError where a prefix is too long.
        """

    @abstractmethod
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        """Read one more symbol of each row and return the next logits: (B,) int64 -> (B, 257).

        new_contexts: by row, a context to restart from, (t,) int64, which ends with this symbol: what the row held
        without a multiple of `alignment` at its front. Raises ValueError where a row's symbol would be the last that
        fits, since nothing can follow it, and RuntimeError before `prefill_rows`.
        """

    def prefill(self, ids_BT: Tensor) -> Tensor:
        """Forget everything, read a prefix (T >= 0) of every row and return the next symbol's logits.

        ids: (B, T) int64, 0..256, T < capacity -> (B, 257). Raises ValueError where T is too long.
        """
        logits_BV = self.prefill_rows(ids_BT.unbind(0))
        assert self.lengths is not None
        for t in range(self.lengths[0], ids_BT.shape[1]):
            logits_BV = self.step(ids_BT[:, t])
        return logits_BV

    def finish_row(self, row: int) -> None:
        """A row that has come to its end: what is read of it from now on is of no interest, and may be any number."""
        self._finished.add(row)

    def _reset_lengths(self, prefixes: Sequence[Tensor], condition_B: Tensor | None) -> None:
        """Note that these are read. Raises ValueError where nothing can follow one, or where they are too many."""
        if not 1 <= len(prefixes) <= len(self.conditions):
            raise ValueError(f"{len(prefixes)} rows; this decoder takes 1 to {len(self.conditions)}")
        for prefix in prefixes:
            self._check_room(len(prefix))
        if condition_B is not None:
            self.conditions[: len(prefixes)] = condition_B
        self.lengths = [len(prefix) for prefix in prefixes]
        self._finished: set[int] = set()

    def _advance_lengths(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor]) -> list[int]:
        """Note that one more symbol of each row is read, and return how many that makes. Raises as `step` does."""
        if self.lengths is None:
            raise RuntimeError("a decoder's prefill comes before its first step")
        if ids_B.shape != (len(self.lengths),):
            raise ValueError(f"symbols of shape {tuple(ids_B.shape)}; {len(self.lengths)} rows were begun")
        lengths = list(self.lengths)
        for row, length in enumerate(lengths):
            if row not in self._finished:
                lengths[row] = len(new_contexts[row]) if row in new_contexts else length + 1
                self._check_room(lengths[row])
        self.lengths = lengths
        return lengths

    def _check_room(self, length: int) -> None:
        if length >= self.capacity:
            raise ValueError(f"{length} symbols leave no room for another in a window of {self.capacity}")


class ByteModel(nn.Module, ABC):
    """An autoregressive model of symbols 0..256. Position t of its output is the distribution of symbol t."""

    config: ModelConfig
    """What built this model, with nothing left open."""
    patch_size: int = 1
    """Symbols in a patch; 1 for models without patches."""
    max_len: int
    """The longest sequence seen in training: the window."""
    activation_budget: float = 2**31
    """Bytes: where the activations of a training step would take more, they are kept in part and computed anew."""
    common_random: torch.Generator | None = None
    """What processes that train together draw from where all must draw the same; None where there is only one."""
    largest: Callable[[int], int] = staticmethod(int)
    """The largest of the numbers that such processes have, each its own; all must ask."""

    @property
    @abstractmethod
    def max_positions(self) -> int | None:
        """The longest sequence that the model has positions for; None if there is no limit."""

    @abstractmethod
    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Logits of every symbol given the ones before it.

        ids: (B, T) int64, 0..256, 1 <= T <= max_positions; condition: (B,) int64, default 0 -> (B, T, 257).
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
        """What `decoder` gives: as many rows as conditions, which it may change, and a length that the model reads."""

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        """The names of embeddings that also make logits: steps of lower precision round them as they do layers."""
        return ()

    def check_length(self, length: int | None) -> int:
        """The length, max_len if None. Raises ValueError for a sequence that the model cannot read."""
        length = self.max_len if length is None else length
        if length < 1 or length > (self.max_positions or length):
            reason = ", the places that it has learned" if self.max_positions else ""
            raise ValueError(
                f"a sequence of {length} symbols; this model takes 1 to {self.max_positions or 'any number'}{reason}"
            )
        return length

    def work(self) -> PartWork:
        """What a forward pass over a full window of one row multiplies, by the part that does it.

        Raises ValueError for an architecture that does not tell.
        """
        raise ValueError(f"no costs are known for {type(self).__name__}")

    def training_work(self) -> PartWork:
        """The same of the forward half of a training step, on average over the places that it may learn from."""
        return self.work()

    def flops_per_byte(self) -> float:
        """Floating-point operations of one forward pass, per byte of a full window."""
        return total_flops(self.work()) / self.max_len

    def training_flops_per_byte(self) -> float:
        """Floating-point operations of a training step: the backward pass multiplies twice as much as the forward."""
        return 3 * total_flops(self.training_work()) / self.max_len

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32."""
        logits_BVT = self(ids_BT, condition_B).float().transpose(1, 2)
        return F.cross_entropy(logits_BVT, ids_BT, reduction="none")

    def training_nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> tuple[Tensor, slice]:
        """What a training step learns from: the nats of a span of the symbols, and which span that is.

        (B, T) int64 -> (B, t) float32, where `ids_BT[:, span]` has shape (B, t). All symbols, unless a model is
        trained on a few positions of a window at a time.
        """
        return self.nll(ids_BT, condition_B), slice(None)

    def compile_blocks(self, mode: CompileMode = "default") -> None:
        """Let torch.compile write the code of Transformer blocks in training; weights and their names stay.

        Results are those of the plain code but for rounding. Each new shape costs some seconds once. mode: torch's own;
        reduce-overhead records CUDA graphs.
        """
        for part in self.modules():
            if isinstance(part, Stack):
                part.compile_blocks(mode)

    def checkpoint_blocks(self) -> None:
        """Let training steps keep the inputs of Transformer blocks alone, and compute the rest anew to go backward."""
        for part in self.modules():
            if isinstance(part, Stack):
                part.always_recompute = True

    def spec(self) -> dict[str, Any]:
        """Name and plain config: enough for `models.build` to make the same architecture."""
        return {"name": self.config.name, "config": asdict(self.config)}  # type: ignore[call-overload] # a dataclass


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients, and then each of its modules back in its own."""
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
    """Let a decoder's rows read their prefixes, in eval mode; where an earlier row has the same, copy from it instead.

    read: takes a row and its prefix. copy: takes the row that has read, and the one that is to hold the same.
    """
    different: list[int] = []
    with evaluating(model):
        for row, ids_T in prefixes.items():
            alike = (one for one in different if conditions[one] == conditions[row])
            other = next((one for one in alike if torch.equal(prefixes[one], ids_T)), None)
            if other is not None:
                copy(other, row)
                continue
            read(row, ids_T)
            different.append(row)


def condition_ids(condition_B: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """The given conditions, or 0 for every row. Raises ValueError where there is not one for each row."""
    if condition_B is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    if condition_B.shape != (batch,):
        raise ValueError(f"condition has shape {tuple(condition_B.shape)}, expected ({batch},)")
    return condition_B
