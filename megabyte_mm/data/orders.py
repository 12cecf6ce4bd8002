"""The orders in which records of several parts are read: each is a condition of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from megabyte_mm.data.part_files import adapter_named
from megabyte_mm.data.sources import Source
from megabyte_mm.errors import FieldError

PartsSetting = list[str] | list[list[str]] | None


@dataclass(frozen=True)
class PartOrder:
    """The names of the parts of a row, and its share of the training rows, in proportion to the other orders'."""

    parts: tuple[str, ...]
    weight: float = 1.0

    @property
    def name(self) -> str:
        """That of its condition."""
        return "+".join(self.parts)


def part_orders(parts: PartsSetting, drop_part: float, sources: Mapping[str, Source]) -> tuple[PartOrder, ...]:
    """The orders of data.parts; with drop_part, also each without its first part, for that share of the rows.

    Without data.parts, each source by itself. Raises FieldError for settings that cannot be used.
    """
    if not 0 <= drop_part < 1:
        raise FieldError("data.drop_part", f"{drop_part} must be at least 0 and below 1")
    if parts is None:
        if drop_part:
            raise FieldError("data.drop_part", f"is {drop_part}, and there are no data.parts")
        return tuple(PartOrder((name,), source.weight) for name, source in sources.items())
    orders: dict[tuple[str, ...], float] = {}
    for order in _lists(parts):
        dropped = drop_part if len(order) > 1 else 0.0
        orders[tuple(order)] = orders.get(tuple(order), 0.0) + 1.0 - dropped
        if dropped:
            orders[tuple(order[1:])] = orders.get(tuple(order[1:]), 0.0) + dropped
    if not any(len(order) > 1 for order in orders):
        raise FieldError("data.parts", ": name two parts or more, such as [text, image]")
    return tuple(PartOrder(order, weight) for order, weight in orders.items())


def parts_as_sources(orders: Sequence[PartOrder], sources: Mapping[str, Source]) -> dict[str, Source]:
    """A source for each part, with its adapter. Raises FieldError for a source that is no part, or has no adapter."""
    names = list(dict.fromkeys(name for order in orders for name in order.parts))
    if unused := sorted(set(sources) - set(names)):
        raise FieldError(f"data.sources.{unused[0]}", "is not one of data.parts")
    found = {name: sources.get(name, Source()) for name in names}
    return {name: replace(source, adapter=adapter_named(name, source.adapter)) for name, source in found.items()}


def _lists(parts: list[str] | list[list[str]]) -> list[list[str]]:
    """The orders, of which one need not be in a list of its own. Raises FieldError for anything else."""
    lists: list[list[str]] = []
    names: list[str] = []
    for part in parts:
        if isinstance(part, str):
            names.append(part)
        else:
            lists.append(part)
    lists += [names] if names else []
    if (names and len(lists) > 1) or any(not order or len(set(order)) < len(order) for order in lists):
        raise FieldError(
            "data.parts", f"{parts!r} must be a list of different names, such as [text, image], or several"
        )
    return lists


def check_part_weights(orders: Sequence[PartOrder], weights: Sequence[float]) -> None:
    """Raise FieldError for weights that are not one for each part of the longest order, or below 0."""
    longest = max(len(order.parts) for order in orders)
    if len(weights) != longest or not all(0 <= weight < math.inf for weight in weights) or not weights[-1]:
        raise FieldError(
            "data.part_weights", f"{list(weights)} must be {longest} numbers of 0 or more, the last above 0"
        )
