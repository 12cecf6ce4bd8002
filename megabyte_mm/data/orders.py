"""The orders in which records of several parts are read: each is a condition of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from megabyte_mm.data.part_files import adapter_named
from megabyte_mm.data.sources import Source
from megabyte_mm.errors import FieldError

PartsSetting = list[str] | list[list[str]] | None
WeightsSetting = list[float] | list[list[float]] | None


@dataclass(frozen=True)
class PartOrder:
    """The names of the parts of a row, and its share of the training rows, in proportion to the other orders'.

    part_weights: of the parts in the loss of a row; None where symbols count alike.
    """

    parts: tuple[str, ...]
    weight: float = 1.0
    part_weights: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """That of its condition."""
        return "+".join(self.parts)

    @property
    def unlearned(self) -> tuple[str, ...]:
        """The parts of weight 0, which the model reads and does not learn to generate."""
        weights = self.part_weights or (1.0,) * len(self.parts)
        return tuple(part for part, weight in zip(self.parts, weights, strict=True) if not weight)


def part_orders(
    parts: PartsSetting, drop_part: float, part_weights: WeightsSetting, sources: Mapping[str, Source]
) -> tuple[PartOrder, ...]:
    """The orders of data.parts; with drop_part, also each without its first part, for that share of the rows.

    Without data.parts, each source by itself. Raises FieldError for settings that cannot be used.
    """
    if not 0 <= drop_part < 1:
        raise FieldError("data.drop_part", f"{drop_part} must be at least 0 and below 1")
    if parts is None:
        if drop_part:
            raise FieldError("data.drop_part", f"is {drop_part}, and there are no data.parts")
        if part_weights is not None:
            raise FieldError("data.part_weights", f"is {part_weights}, and there are no data.parts")
        return tuple(PartOrder((name,), source.weight) for name, source in sources.items())
    lists = _lists(parts)
    if max(map(len, lists)) < 2:
        raise FieldError("data.parts", ": name two parts or more, such as [text, image]")
    of_lists = _weights(part_weights, lists)
    # An order that is listed has its own weights, also where it is the rest of another.
    weights = dict(zip(map(tuple, lists), of_lists, strict=True))
    if len(weights) < len(lists):
        raise FieldError("data.parts", f"{parts!r} has an order twice")
    shares: dict[tuple[str, ...], float] = {}
    for order, order_weights in zip(lists, of_lists, strict=True):
        dropped = drop_part if len(order) > 1 else 0.0
        for first, share in ((0, 1.0 - dropped), (1, dropped)):
            if share:
                rest = tuple(order[first:])
                shares[rest] = shares.get(rest, 0.0) + share
                weights.setdefault(rest, order_weights and order_weights[first:])
    return tuple(PartOrder(order, share, weights[order]) for order, share in shares.items())


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


def _weights(weights: WeightsSetting, orders: Sequence[Sequence[str]]) -> Sequence[tuple[float, ...] | None]:
    """The weights of the parts of each order; one list is for all, whose shorter orders have the last of it.

    Raises FieldError for anything but a number for each part, of 0 or more, and above 0 for the last.
    """
    if weights is None:
        return [None] * len(orders)
    longest = max(map(len, orders))
    flat = [weight for weight in weights if not isinstance(weight, list)]
    lists = [weight for weight in weights if isinstance(weight, list)]
    sizes = [len(order) for order in orders] if lists else [longest]
    each = lists or [flat]
    if (
        (lists and flat)
        or [len(numbers) for numbers in each] != sizes
        or not all(0 <= number < math.inf for numbers in each for number in numbers)
        or not all(numbers[-1] for numbers in each)
    ):
        wanted = f"{longest} numbers of 0 or more, the last above 0"
        several = ", or such a list for each of data.parts" if len(orders) > 1 else ""
        raise FieldError("data.part_weights", f"{weights!r} must be {wanted}{several}")
    if lists:
        return [tuple(numbers) for numbers in lists]
    return [tuple(flat[-len(order) :]) for order in orders]
