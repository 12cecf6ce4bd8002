"""The geometry that a model must fit: window, unit, patch size and conditions of one source or of a mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from data_adapters import Adapter, Neighbourhood
from megabyte_mm.data.sources import Source
from megabyte_mm.errors import FieldError
from megabyte_mm.models.config import from_plain
from megabyte_mm.models.megabyte.config import PartConfig
from megabyte_mm.models.neighbourhood import Layout

if TYPE_CHECKING:
    from megabyte_mm.models.config import ModelConfig

    Net = TypeVar("Net", bound=ModelConfig)

DEFAULT_WINDOW = 2048
DEFAULT_PATCH_UNITS = 16
MAX_PART = 2**16
"""Bytes of a part whose length is not set, at most."""


@dataclass(frozen=True)
class Geometry:
    """The constraints that the data's byte layout puts on a model.

    window: symbols in a row, a multiple of unit. unit: bytes that stay together in every file (a pixel, a frame of
    sound, one byte). patch_size: the one that the layouts require, or None. conditions: names of the conditions, "none"
    first. fixed_length: every stream fills its window, so that no END ever occurs. neighbourhoods: one for all
    conditions, or one for each; with parts, one for each part. parts, orders: as of `MegabyteConfig`, None where all
    sources have one patch size. windows: bytes in a window of each source, where they have windows of their own.
    """

    window: int
    unit: int = 1
    patch_size: int | None = None
    conditions: tuple[str, ...] = ("none",)
    fixed_length: bool = False
    neighbourhoods: tuple[Neighbourhood, ...] = (Neighbourhood(),)
    parts: tuple[PartConfig, ...] | None = None
    orders: tuple[tuple[int, ...], ...] | None = None
    windows: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        adapters: Mapping[str, Adapter | None],
        window: int | None = None,
        units: Sequence[int] | None = None,
        settings: Mapping[str, Source] | None = None,
        orders: Sequence[Sequence[str]] = (),
        longest: Sequence[int] | None = None,
    ) -> Geometry:
        """The geometry of the sources of a mix by name, or of one source named "".

        adapters: None for one that is unknown until its files are read; then `window` must be given, and is not
        checked. window: the data.window setting; if None, see `_resolve_window`. units: of the files of each source; if
        None, those of the adapters. settings: of the sources; where they have patch sizes or windows of their own,
        their adapters must be known. orders: the names of the parts of records, for each condition; each source by
        itself if empty. longest: bytes of the longest file of each source. Raises FieldError, naming data.window or
        data.sources, for a contradiction.
        """
        if settings and (orders or any(source.patch_size or source.window for source in settings.values())):
            return cls._of_parts(adapters, window, units, settings, orders, longest)
        known = [adapter for adapter in adapters.values() if adapter is not None]
        units = units or [adapter.unit for adapter in known]
        if len(known) == len(adapters):
            window = _resolve_window(known, window, units)
        elif window is None:
            raise FieldError("data.window", "is missing, and there is no data.adapter that fixes it")
        conditions = ("none", *(name for name in adapters if name))
        fixed_length = all(adapter is not None and adapter.length == window for adapter in adapters.values())
        neighbourhoods = _neighbourhoods(adapters)
        return cls(window, math.lcm(*units), _common_patch_size(known), conditions, fixed_length, neighbourhoods)

    @classmethod
    def _of_parts(
        cls,
        adapters: Mapping[str, Adapter | None],
        window: int | None,
        units: Sequence[int] | None,
        settings: Mapping[str, Source],
        orders: Sequence[Sequence[str]],
        longest: Sequence[int] | None,
    ) -> Geometry:
        """The geometry of sources with patch sizes of their own: each is a part, by default alone in its rows."""
        parts, windows, neighbourhoods = [], [], []
        shared = {name for order in orders if len(order) > 1 for name in order}
        for number, (name, adapter) in enumerate(adapters.items()):
            if adapter is None:
                raise FieldError(f"data.sources.{name}.adapter", "is missing: patch sizes need it")
            unit = units[number] if units else adapter.unit
            needed = None
            if name in shared:  # before files are read, any length will do
                needed = max(longest[number], 1) if longest else 1
            try:
                size, length = _part_of(adapter, settings[name], window, unit, needed)
            except FieldError as error:
                raise error.inside(f"data.sources.{name}") from error
            parts.append(PartConfig(size, -(length // -size) * size))
            windows.append(length)
            neighbourhoods.append(adapter.neighbourhood)
        names = list(adapters)
        numbers = [tuple(map(names.index, order)) for order in orders or [(name,) for name in names]]
        return cls(
            max(sum(parts[part].max_len for part in order) for order in numbers),
            1,
            parts[0].patch_size,
            ("none", *("+".join(names[part] for part in order) for order in numbers)),
            all(adapter is not None and adapter.length is not None for adapter in adapters.values()),
            tuple(neighbourhoods),
            tuple(parts),
            # Rows without a condition, of which there are none in training, are read as those of the first.
            (numbers[0], *numbers),
            tuple(windows),
        )

    def window_of(self, source: int) -> int:
        """Bytes in a window of a source, by its number."""
        return self.windows[source] if self.windows else self.window

    def rooms_of(self, condition: int) -> list[int]:
        """Symbols of each part of a row of a condition; all of it where rows have one part."""
        if self.parts is None or self.orders is None:
            return [self.window]
        return [self.parts[part].max_len for part in self.orders[condition]]

    def resolve(self, net: Net, conditions: int | None = None) -> Net:
        """The model config with what it leaves to the data. conditions: their number, where no data have been read.

        Raises ValueError, naming fields of the config, where it contradicts the data.
        """
        if self.parts is not None and self.orders is not None:
            net = net.with_parts(self.parts, self.orders)
        resolved = net.resolve(self.patch_size, self.window, conditions or len(self.conditions), self.unit)
        layouts = [from_plain(Layout, asdict(neighbourhood)) for neighbourhood in self.neighbourhoods]
        return resolved.with_layouts(layouts)


def _part_of(
    adapter: Adapter, source: Source, window: int | None, unit: int, needed: int | None = None
) -> tuple[int, int]:
    """The patch size and the window of a source, in bytes. Raises FieldError for either.

    needed: bytes of the longest file, where each is whole in one row.
    """
    required = adapter.patch_size
    size = source.patch_size or required or DEFAULT_PATCH_UNITS * unit
    if required not in (None, size):
        raise FieldError(
            "patch_size", f"{size}: the layout of the {adapter.name} adapter has patches of {required} bytes"
        )
    if size % unit:
        raise FieldError("patch_size", f"{size} cuts through the {unit} bytes that stay together in the files")
    if adapter.length is not None:
        if source.window not in (None, adapter.length):
            raise FieldError("window", f"{source.window}: these files are streams of {adapter.length} bytes each")
        return size, adapter.length
    step = math.lcm(size, unit)
    length = source.window or (window or DEFAULT_WINDOW) // size * size
    if needed is not None and source.window is None:
        length = -(-needed // step) * step
        if length > MAX_PART:
            raise FieldError("window", f"is missing: the longest of these files has {needed} bytes: set a smaller one")
    if length < 1 or length % step:
        nearest = max(round(length / step), 1) * step
        raise FieldError("window", f"{length} must be a positive multiple of {step} bytes, such as {nearest}")
    return size, length


def _neighbourhoods(adapters: Mapping[str, Adapter | None]) -> tuple[Neighbourhood, ...]:
    """That of an only source, or of a mix's conditions: "none" and unknown files have that of any bytes."""
    each = [Neighbourhood() if adapter is None else adapter.neighbourhood for adapter in adapters.values()]
    return (each[0],) if "" in adapters else (Neighbourhood(), *each)


def _resolve_window(adapters: Sequence[Adapter], window: int | None, units: Sequence[int]) -> int:
    """The window of all sources: `window`, else the longest fixed stream, else about DEFAULT_WINDOW.

    It holds whole units of every source, and the fixed streams of each; those of an only source fill it.
    """
    unit = math.lcm(*units)
    longest = max((adapter.length for adapter in adapters if adapter.length is not None), default=None)
    if longest is not None and len(adapters) == 1:
        if window not in (None, longest):
            raise FieldError(
                "data.window",
                f"{window}: files of the {adapters[0].name} adapter are streams of {longest} bytes and one window "
                "each; leave data.window out, or change the adapter's size",
            )
        return longest
    if window is None:
        window = longest or max(DEFAULT_WINDOW // unit, 1) * unit
    if window < 1 or window % unit:
        nearest = max(round(window / unit), 1) * unit
        raise FieldError(
            "data.window",
            f"{window} must be a positive multiple of {unit} bytes{_reason(adapters, units)}, such as {nearest}",
        )
    for adapter in adapters:
        if (adapter.length or 0) > window:
            raise FieldError(
                "data.window",
                f"{window}: streams of the {adapter.name} adapter have {adapter.length} bytes, and must fit into one "
                f"window: set data.window to {adapter.length} or more, or change the adapter's size",
            )
    return window


def _reason(adapters: Sequence[Adapter], units: Sequence[int]) -> str:
    """The reason for the unit, empty if the adapter makes it obvious."""
    if len(adapters) > 1:
        by_source = ", ".join(f"{adapter.name} {unit}" for adapter, unit in zip(adapters, units, strict=True))
        return f" to hold whole units of every source ({by_source})"
    return "" if units[0] == adapters[0].unit else " to hold whole units of every file"


def _common_patch_size(adapters: Sequence[Adapter]) -> int | None:
    """The patch size that the byte layouts require, if any. Raises FieldError where two require different ones."""
    sizes = {adapter.patch_size: adapter.name for adapter in adapters if adapter.patch_size is not None}
    if len(sizes) > 1:
        required = " and ".join(f"{name} of {size}" for size, name in sorted(sizes.items()))
        raise FieldError("data.sources", f": one model has one patch size, and the adapters ask for {required} bytes")
    return next(iter(sizes), None)
