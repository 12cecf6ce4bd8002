"""A trained model with what is needed to use it on files: adapters, conditions, window."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_adapters import Adapter, registry
from megabyte_mm.checkpoint.provenance import Provenance
from megabyte_mm.errors import ArgumentValueError
from megabyte_mm.models import ByteModel, Megabyte, OneOrder

SPEC_KEY = "megabyte_mm"
"""Key of this project's own entry in a Lightning checkpoint."""
SPEC_VERSION = 2
"""Version of that entry, raised when its meaning changes. Version 1 had no `sources`."""


@dataclass(frozen=True)
class Modality:
    """The adapter of one kind of file.

    fixed_length: true if every stream fills the window, so that none ever ends. window: the most bytes that the model
    sees, if it has a window for each modality. files: of a part of records, how its files are found, as of
    `data.Source`: suffix, column and folder.
    """

    adapter: Adapter
    fixed_length: bool
    window: int | None = None
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A trained model with what is needed to use it on files.

    modalities: one named "", or those of a mix under the names of their conditions. conditions: the name of each
    condition number, "none" first. window: the most symbols that the model sees. provenance: the training run of
    its weights. unlearned: by the names of orders, the parts that had no weight in the loss (data.part_weights).
    """

    model: ByteModel
    modalities: Mapping[str, Modality]
    conditions: tuple[str, ...]
    window: int
    provenance: Provenance = field(default_factory=Provenance)
    unlearned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        """The model's config, a frozen dataclass."""
        return self.model.config

    @property
    def adapter(self) -> Adapter:
        """The adapter of the only modality. Raises ValueError for several: choose one with `for_modality`."""
        return self._only_modality().adapter

    @property
    def fixed_length(self) -> bool:
        """True if every stream of the only modality fills the window, so that none ever ends."""
        return self._only_modality().fixed_length

    @property
    def modality_name(self) -> str:
        """The name of the modality that `for_modality` chose from a mix, else ""."""
        return next(iter(self.modalities)) if len(self.modalities) == 1 else ""

    def for_modality(self, name: str) -> Bundle:
        """The same model for one of its modalities. Raises ValueError for an unknown name."""
        if name not in self.modalities:
            raise ValueError(f"this model has no modality {name!r}; it has {', '.join(self.modalities)}")
        modality = self.modalities[name]
        selected = replace(self, modalities={name: modality})
        if modality.window is None or not isinstance(self.model, Megabyte):
            return selected
        if name not in self.conditions:
            known = ", ".join(self.conditions[1:])
            raise ValueError(f"this model was not trained on {name} alone: it knows {known}")
        return replace(selected, model=OneOrder(self.model, self.conditions.index(name)), window=modality.window)

    of = for_modality
    """The former name, which the cards of exported models use."""

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of the parts of a row, for each condition; empty where the model reads one patch size."""
        orders = self.model.config.orders if isinstance(self.model, Megabyte) else None
        names = tuple(self.modalities)
        return tuple(tuple(names[part] for part in order) for order in orders or ())

    @property
    def reads_records(self) -> bool:
        """True if rows have several parts, such as a text and its picture."""
        return any(len(order) > 1 for order in self.orders)

    @property
    def alone(self) -> tuple[str, ...]:
        """The modalities whose files are read by themselves; others are parts of records only."""
        return tuple(name for name, one in self.modalities.items() if one.window is None or name in self.conditions)

    def condition_number(self, name: str | None) -> int:
        """The number of the class `name`; of the modality that `for_modality` chose; 0 for a model without conditions.

        Raises ValueError for an unknown class, and for None where the model was trained with classes.
        """
        if self.modality_name:
            return self.conditions.index(self.modality_name)
        classes = ", ".join(self.conditions[1:])
        if name is None and classes:
            reason = f"must be one of the classes that this model was trained with: {classes}"
            raise ArgumentValueError("condition", reason)
        number = 0 if name is None else self._number(name)
        if number is None:
            known = f"it knows {classes}" if classes else "it was trained without classes"
            raise ArgumentValueError("condition", f"{name}: unknown to this model; {known}")
        return number

    def window_of(self, name: str) -> int:
        """The most bytes of a modality that the model reads in a row."""
        return self.modalities[name].window or self.window

    def _number(self, name: str) -> int | None:
        """The number of the condition of that name, in whatever Unicode form either is written."""
        names = [unicodedata.normalize("NFC", known) for known in self.conditions]
        composed = unicodedata.normalize("NFC", name)
        return names.index(composed) if composed in names else None

    def condition_from_folder(self, path: Path, root: Path) -> int:
        """The number of the class after which the nearest folder above a file is named, 0 for none.

        Folders above `root`, by which the user named the file, do not count: they say nothing about its content.
        """
        for folder in path.absolute().parents:
            if (number := self._number(folder.name)) is not None:
                return number
            if folder == root.absolute():
                break
        return 0

    def spec(self) -> dict[str, Any]:
        """The checkpoint's entry: plain values, enough to load the weights and use them on files."""
        modalities = {
            name: {"adapter": registry.spec(modality.adapter), "fixed_length": modality.fixed_length}
            | ({} if modality.window is None else {"window": modality.window})
            | ({"files": dict(modality.files)} if modality.files else {})
            for name, modality in self.modalities.items()
        }
        data: dict[str, Any] = dict(modalities.get("", {"sources": modalities}))
        data |= {"window": self.window, "conditions": list(self.conditions)}
        if self.unlearned:
            data |= {"unlearned": {name: list(parts) for name, parts in self.unlearned.items()}}
        return make_spec(self.model, data)

    def _only_modality(self) -> Modality:
        if len(self.modalities) > 1:
            raise ValueError(
                f"this model has several modalities, {', '.join(self.modalities)}: "
                "select one with bundle.for_modality(name)"
            )
        return next(iter(self.modalities.values()))


def make_spec(model: ByteModel, data: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's entry beside the weights: plain values only, no import paths."""
    return {"format": SPEC_VERSION, "model": model.spec(), "data": data}
