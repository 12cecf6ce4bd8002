"""The architecture of a MEGABYTE model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from megabyte_mm.errors import FieldError
from megabyte_mm.models.config import BlockConfig, ModelConfig, StackConfig
from megabyte_mm.models.neighbourhood.config import NeighbourhoodConfig

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte


@dataclass(frozen=True)
class PartConfig:
    """One kind of part that the rows of a model have: the text of a caption, a picture, a sound.

    Args:
        patch_size: Symbols in a patch.
        max_len: Longest part in symbols; a multiple of patch_size.
    """

    patch_size: int
    max_len: int

    def __post_init__(self) -> None:
        if self.patch_size < 1:
            raise FieldError("patch_size", f"is {self.patch_size}; it must be at least 1")
        if self.max_len < 1 or self.max_len % self.patch_size:
            raise FieldError("max_len", f"is {self.max_len}; it must be a multiple of patch_size {self.patch_size}")

    @property
    def patches(self) -> int:
        """Patches of the longest part."""
        return self.max_len // self.patch_size


@dataclass(frozen=True)
class MegabyteConfig(ModelConfig):
    """The architecture of a MEGABYTE model.

    Three fields may stay None on the command line, where the data fill them in; `Megabyte` itself needs the first two.

    Args:
        patch_size: Symbols in a patch. For images it follows from the scan (3 p² for colour, p² for grey).
        max_len: Longest sequence in symbols; on the command line, the data's window.
        global_stack: The Transformer over patches. Its dim is the whole patch's width: a multiple of patch_size. None
            leaves it out, for comparison: each patch is then predicted without the ones before it.
        local_stack: The Transformer over the symbols of one patch. None leaves it out, for comparison: the global
            output then predicts each symbol of a patch independently of the others.
        conv_encoder: Causal convolutions over the bytes before they are cut into patches.
        cross_patch: Positions of the previous patch that the local model's attention sees, up to patch_size.
        local_start: Input of the local model where a patch begins: a learned vector, as in the paper, or the last
            byte of the patch before.
        embedding_scale: Factor on a byte's embedding where the local model reads it, but not where the same table makes
            logits. With small initial weights, about 5 makes the input bytes matter from the first step (Vaswani et
            al. 2017 use the square root of the width).
        patch_scale: Factor on the patches that the global model reads. With small initial weights, about 10 keeps what
            the first blocks add from hiding them.
        embedding_init: First values of the embeddings that patches are made of: random, as in the paper, or waves,
            cosines and sines of a byte's value. With waves, similar samples or pixels make similar patches from the
            first step, and a model that reads sounds in order to name them learns much sooner.
        neighbourhood: Features of the bytes near each position, added to the local model's input; None for the paper's
            model.
        block: The variant of the Transformer blocks of both stacks.
        conditions: Number of learned start patches: one, or one more than there are classes.
        parts: The kinds of parts of rows, where sources have patch sizes of their own or records several parts; null
            takes them from the data.
        orders: For each condition, the numbers of the parts of its rows in their order; null takes them from the data.
        dropout: Share of attention weights and of sublayer outputs dropped in training (0.1 in the paper).
        init_std: Standard deviation of the initial weights, truncated at two of them (0.006 in the paper).
    """

    name: ClassVar[str] = "megabyte"

    patch_size: int | None = None
    max_len: int | None = None
    global_stack: StackConfig | None = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    local_stack: StackConfig | None = field(default_factory=lambda: StackConfig(dim=256, layers=4, heads=4))
    conv_encoder: bool = False
    cross_patch: int = 0
    local_start: Literal["learned", "byte"] = "learned"
    embedding_scale: float = 1.0
    patch_scale: float = 1.0
    embedding_init: Literal["random", "waves"] = "random"
    neighbourhood: NeighbourhoodConfig | None = None
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    parts: tuple[PartConfig, ...] | None = None
    orders: tuple[tuple[int, ...], ...] | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    def __post_init__(self) -> None:
        self.check_common_fields("patch_size", "max_len", "conditions")
        if self.local_start not in ("learned", "byte"):
            raise FieldError("local_start", f"is {self.local_start!r}; known: learned, byte")
        if self.embedding_init not in ("random", "waves"):
            raise FieldError("embedding_init", f"is {self.embedding_init!r}; known: random, waves")
        if self.global_stack is None and self.local_stack is None:
            raise FieldError("global_stack", "and local_stack are both None; one of them is needed")
        if self.cross_patch < 0:
            raise FieldError("cross_patch", f"is {self.cross_patch}; it must be at least 0")
        self.check_above_0("patch_scale")
        self._check_unused("global_stack", "conv_encoder", "patch_scale", "embedding_init")
        self._check_unused("local_stack", "cross_patch", "local_start", "embedding_scale", "neighbourhood")
        if self.patch_size is not None:
            self._check_patch_size(self.patch_size)
        if self.parts is not None or self.orders is not None:
            self._check_parts()

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        """The patch sizes of all parts, the first part's first; that of the model where rows have one part."""
        if self.parts is None:
            return () if self.patch_size is None else (self.patch_size,)
        return tuple(dict.fromkeys(part.patch_size for part in self.parts))

    def order(self, condition: int) -> tuple[PartConfig, ...]:
        """The parts of a row with that condition. Only for a config with parts."""
        assert self.parts is not None
        assert self.orders is not None
        return tuple(self.parts[number] for number in self.orders[condition])

    @property
    def longest_row(self) -> MegabyteConfig:
        if self.orders is None:
            return self
        lengths = [sum(part.max_len for part in self.order(number)) for number in range(len(self.orders))]
        return self.with_one_order(lengths.index(max(lengths)))

    def with_one_order(self, condition: int) -> MegabyteConfig:
        """The config of a model whose rows are those of one condition. Only for a config with parts."""
        assert self.orders is not None
        length = sum(part.max_len for part in self.order(condition))
        return replace(self, max_len=length, conditions=1, orders=(self.orders[condition],))

    def _check_parts(self) -> None:
        if not self.parts or not self.orders:
            raise FieldError("parts", "and orders come together, and neither may be empty")
        if any(not order or not all(0 <= number < len(self.parts) for number in order) for order in self.orders):
            raise FieldError("orders", f"must hold numbers of parts, 0 to {len(self.parts) - 1}")
        if self.conditions not in (None, len(self.orders)):
            raise FieldError("orders", f"are {len(self.orders)}, but there are {self.conditions} conditions")
        longest = max(sum(part.max_len for part in self.order(number)) for number in range(len(self.orders)))
        expected = {"patch_size": self.parts[0].patch_size, "max_len": longest}
        for name, value in expected.items():
            if getattr(self, name) not in (None, value):
                raise FieldError(name, f"is {getattr(self, name)}, but the parts make it {value}: leave it out")
        for name in ("global_stack", "local_stack"):
            if getattr(self, name) is None:
                raise FieldError(name, "is None; a model whose rows have parts needs it")
        if self.cross_patch:
            raise FieldError("cross_patch", f"is {self.cross_patch}; a model whose rows have parts has none: set 0")
        for size in self.patch_sizes:
            self._check_patch_size(size)

    def _check_unused(self, stack: str, *names: str) -> None:
        """Raise FieldError if one of these fields is set, but the stack that uses it is left out."""
        defaults = {name: MegabyteConfig.__dataclass_fields__[name].default for name in names}
        unused = [name for name in names if getattr(self, name) != defaults[name]]
        if getattr(self, stack) is not None or not unused:
            return
        _, values = " and ".join(f"{name} is {getattr(self, name)!r}" for name in unused).split(" ", 1)
        wanted = ", ".join(f"{name}: {defaults[name]!r}" for name in unused)
        raise FieldError(unused[0], f"{values}, but there is no {stack} to use it: without one, set {wanted}")

    def _check_patch_size(self, patch_size: int) -> None:
        if self.global_stack is not None and self.global_stack.dim % patch_size:
            raise FieldError(
                "global_stack.dim",
                f"{self.global_stack.dim} is not a multiple of patch_size {patch_size}: "
                f"the global model sees the patch's {patch_size} embeddings side by side",
            )
        if self.cross_patch > patch_size:
            raise FieldError(
                "cross_patch", f"is {self.cross_patch}; a patch has only patch_size {patch_size} positions"
            )

    def with_parts(self, parts: Sequence[PartConfig], orders: Sequence[Sequence[int]]) -> MegabyteConfig:
        of_data = {"parts": tuple(parts), "orders": tuple(tuple(order) for order in orders)}
        for name, value in of_data.items():
            if getattr(self, name) not in (None, value):
                raise FieldError(name, "are not those of the data: leave them out")
        return replace(self, **of_data)  # type: ignore[arg-type] # it does not look at the names

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> MegabyteConfig:
        resolved = self.resolve_fields(patch_size=patch_size, max_len=max_len, conditions=conditions)
        size = resolved["patch_size"]
        if size is None:
            raise FieldError("patch_size", "is missing: this modality leaves the patch size to you")
        if size % unit:
            raise FieldError("patch_size", f"{size} cuts through the data's {unit}-byte frames")
        return replace(self, **resolved)  # type: ignore[arg-type] # it does not look at the names

    def build(self) -> Megabyte:
        from megabyte_mm.models.megabyte.model import Megabyte

        return Megabyte(self)
