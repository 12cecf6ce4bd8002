"""Which parts of a record files and texts are, and the order that they begin."""

from __future__ import annotations

from data_adapters import TextAdapter
from megabyte_mm.checkpoint import Bundle, Modality, modality_of_file


def order_of_given(bundle: Bundle, names: list[str], to: str | None) -> list[str]:
    """The given parts as the only order that begins with them has them; else as they were given."""
    orders = [order for order in bundle.orders[1:] if to in (None, order[-1], "+".join(order))]
    begun = {order[: len(names)] for order in orders if set(order[: len(names)]) == set(names)}
    return list(begun.pop()) if len(begun) == 1 else names


def part_of_file(bundle: Bundle, file: str, to: str | None) -> str:
    """The part that a file is, by the suffix of its part in training, else by those of the adapters.

    Of several parts that read it, the one that begins an order.
    """
    suffixes = {name: str(modality.files.get("suffix", "")).lower() for name, modality in bundle.modalities.items()}
    named = [name for name, suffix in suffixes.items() if suffix and file.lower().endswith(suffix)]
    if named:  # 7.mask.png is a mask, though 7.png may be a picture
        return max(named, key=lambda name: len(suffixes[name]))
    names = [name for name, modality in bundle.modalities.items() if _is_named(modality, file)]
    if not names:
        return modality_of_file(bundle, file)
    firsts = [order[0] for order in bundle.orders[1:] if to in (None, order[-1], "+".join(order))]
    chosen = [name for name in names if name in firsts] or names
    return chosen[0] if len(set(chosen)) == 1 else modality_of_file(bundle, file)


def _is_named(modality: Modality, file: str) -> bool:
    return file.lower().endswith(tuple(modality.adapter.suffixes))


def text_part(bundle: Bundle) -> tuple[str, TextAdapter]:
    """The first part that is text."""
    for name, modality in bundle.modalities.items():
        if isinstance(modality.adapter, TextAdapter):
            return name, modality.adapter
    raise ValueError("--text: this model has no part that is text")
