"""Model configs: what all architectures share, the sizes of a Transformer, and reading them from plain values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from megabyte_mm.errors import FieldError
from megabyte_mm.models.neighbourhood.config import Layout, NeighbourhoodConfig

if TYPE_CHECKING:
    from megabyte_mm.models.base import ByteModel

Config = TypeVar("Config")

RENAMED_FIELDS = {"byte_scale": "embedding_scale"}
"""Fields of model configs that older checkpoints and config files have under another name: old name -> present name."""

LATER_FIELDS: dict[str, Any] = {
    "neighbourhood": None,
    "patch_scale": 1.0,
    "embedding_init": "random",
    "parts": None,
    "orders": None,
    "signed": (),
}
"""Fields that model configs, or what they hold, did not always have, and the value of those without them."""

KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


class ModelConfig(ABC):
    """The architecture of a byte model: a frozen dataclass of plain values and nested dataclasses.

    On the command line `max_len`, `conditions` and, for models with patches, `patch_size` may stay None: `resolve`
    takes them from the data.
    """

    name: ClassVar[str]
    """Stable name, stored in checkpoints."""
    max_len: int | None
    conditions: int | None
    dropout: float
    init_std: float
    embedding_scale: float
    neighbourhood: NeighbourhoodConfig | None = None
    """None for models without such features, and for architectures without the field."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config of plain values as `dataclasses.asdict` makes them; missing fields take their defaults.

        Accepts the old names in RENAMED_FIELDS. Raises FieldError for an unknown field or a wrong value.
        """
        return from_plain(cls, _with_present_names(values))

    @abstractmethod
    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> Self:
        """This config with open fields taken from the data; unit: bytes that stay together in the data.

        Raises FieldError if a field contradicts the data, or is still open.
        """

    @abstractmethod
    def build(self) -> ByteModel:
        """The untrained model. Raises ValueError if a field that it needs is None."""

    @property
    def longest_row(self) -> Self:
        """The config of a model whose rows are all of the longest kind: its operations are those of a full window."""
        return self

    def with_layouts(self, layouts: Sequence[Layout]) -> Self:
        """This config with the data's layouts, if it has neighbourhood features and leaves their layouts open.

        layouts: one for all conditions, or one for each. Raises FieldError where the config has others.
        """
        if self.neighbourhood is None:
            return self
        if self.neighbourhood.layouts not in (None, tuple(layouts)):
            raise FieldError("neighbourhood.layouts", "are not those of the data: leave them out")
        return replace(self, neighbourhood=replace(self.neighbourhood, layouts=tuple(layouts)))  # type: ignore[type-var]

    def with_parts(self, parts: Sequence[Any], orders: Sequence[Sequence[int]]) -> Self:
        """This config for rows of several parts, or of sources with patch sizes of their own.

        parts, orders: as of `MegabyteConfig`. Raises FieldError for an architecture without patches.
        """
        raise FieldError("name", f"{self.name} reads no parts: data with a patch size for each source need megabyte")

    def check_common_fields(self, *counts: str) -> None:
        """Raise FieldError if one of these counts, or a field of every architecture, is outside its range."""
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FieldError(name, f"is {value}; it must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise FieldError("dropout", f"is {self.dropout}; it must be at least 0 and below 1")
        self.check_above_0("init_std", "embedding_scale")

    def check_above_0(self, *names: str) -> None:
        """Raise FieldError unless these numbers are above 0 and finite."""
        for name in names:
            if not 0.0 < getattr(self, name) < math.inf:
                raise FieldError(name, f"is {getattr(self, name)}; it must be a number above 0")

    def resolve_fields(self, **from_data: int | None) -> dict[str, int | None]:
        """Each field's value: that of the data, or if they have none the config's. Raises FieldError if both differ."""
        for name, value in from_data.items():
            configured = getattr(self, name)
            if configured is not None and value is not None and configured != value:
                raise FieldError(name, f"is {configured}, but the data have {value}: leave it out, or make them agree")
        return {name: getattr(self, name) if value is None else value for name, value in from_data.items()}


@dataclass(frozen=True)
class StackConfig:
    """The size of one Transformer stack.

    Args:
        dim: Width of the hidden states; a multiple of `heads`.
        layers: Number of blocks.
        heads: Attention heads in each block.
        feedforward: Width of the feed-forward layer, as a multiple of `dim`.
    """

    dim: int
    layers: int
    heads: int
    feedforward: int = 4

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "feedforward"):
            if getattr(self, name) < 1:
                raise FieldError(name, f"is {getattr(self, name)}; it must be at least 1")
        if self.dim % self.heads:
            raise FieldError("dim", f"{self.dim} is not a multiple of heads {self.heads}")


@dataclass(frozen=True)
class BlockConfig:
    """The variant of a Transformer block. The defaults are the paper's.

    Args:
        norm: LayerNorm, or RMSNorm (Zhang and Sennrich 2019).
        activation: Of the feed-forward layer; swiglu is gated (Shazeer 2020), with two thirds of the width, so that it
            has as many weights; relu2 is the square of ReLU (So et al. 2021).
        positions: Learned tables, which fix the longest sequence, or rotary embeddings (Su et al. 2021), which do not.
            Positions inside a patch have a learned table in either case.
        qk_norm: Normalize each head's queries and keys.
        bias: Linear layers have biases.
    """

    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["relu", "gelu", "relu2", "swiglu"] = "relu"
    positions: Literal["learned", "rotary"] = "learned"
    qk_norm: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in ("norm", "activation", "positions"):
            if getattr(self, name) not in get_args(hints[name]):
                known = ", ".join(get_args(hints[name]))
                raise FieldError(name, f"is {getattr(self, name)!r}; known: {known}")


def from_plain(kind: type[Config], values: Any) -> Config:
    """The dataclass of plain values as `dataclasses.asdict` makes them; missing fields take their defaults.

    Raises FieldError for a field that is unknown, missing, of the wrong type or out of range; for nested dataclasses
    the field is dotted, as in `block.norm`.
    """
    if not isinstance(values, Mapping):
        raise FieldError(kind.__name__, f"is {values!r}; it must hold {_field_names(kind)}")
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type] # dataclasses
    for name in values:
        if name not in known:
            raise FieldError(name, f"is not a field of {kind.__name__}; it has {_field_names(kind)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise FieldError(name, "is missing")
    hints = get_type_hints(kind)
    return kind(**{name: _parse(name, value, hints[name]) for name, value in values.items()})


def is_of(value: Any, kind: type) -> bool:
    """True if a plain value is of that kind: a bool is not a number, an int is also a float."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else get_origin(kind) or kind)


def _parse(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    [kind] = [kind for kind in kinds if kind is not type(None)]
    if is_dataclass(kind):
        return _parse_nested(name, value, kind)  # type: ignore[arg-type] # never an instance
    if get_origin(kind) is tuple:
        return _parse_tuple(name, value, get_args(kind))
    if get_origin(kind) is not Literal and not is_of(value, kind):
        raise FieldError(name, f"is {value!r}; it must be {KINDS[kind]}{_yaml_hint(value, kind)}")
    return value


def _parse_tuple(name: str, value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of a tuple of any length, `hints` (X, ...), or of as many as there are hints."""
    if not isinstance(value, list | tuple) or (hints[-1] is not ... and len(value) != len(hints)):
        size = "any number of" if hints[-1] is ... else len(hints)
        raise FieldError(name, f"is {value!r}; it must be a list of {size} values")
    each = [hints[0]] * len(value) if hints[-1] is ... else hints
    return tuple(_parse(f"{name}[{i}]", item, hint) for i, (item, hint) in enumerate(zip(value, each, strict=True)))


def _parse_nested(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, Mapping):
        raise FieldError(name, f"is {value!r}; it must hold {_field_names(kind)}")
    try:
        return from_plain(kind, value)
    except FieldError as error:
        raise error.inside(name) from error
    except ValueError as error:  # of a class whose messages begin with the field
        raise ValueError(f"{name}.{error}") from error


def _field_names(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


def _yaml_hint(value: Any, kind: type) -> str:
    """A hint for 1e-3, which YAML reads as text."""
    return "; YAML wants 1.0e-3 instead of 1e-3" if kind is float and isinstance(value, str) and "e" in value else ""


def _with_present_names(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    renamed = {old: new for old, new in RENAMED_FIELDS.items() if old in values and new not in values}
    return {renamed.get(name, name): value for name, value in values.items()}
