"""Options that several commands share, and how help is laid out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import DefaultHelpFormatter

from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import check_positive


class ExamplesFormatter(DefaultHelpFormatter):
    """Keeps the line breaks of the closing examples; all else is filled as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


__all__ = ["check_output", "check_positive", "modality_of_file", "pick_device", "select_modality"]


def check_output(option: str, file: str | os.PathLike[str] | None) -> None:
    """Raise ValueError, before minutes of work end in vain, for a file that could not be written; None is fine."""
    if file is not None and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
        raise ValueError(f"--{option} {file}: no file can be written there; name one in a folder that exists")


def pick_device(name: str) -> str:
    """`auto` is the first accelerator there is. Raises ValueError for one that this machine or torch lacks."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return name


def select_modality(bundle: Bundle, files: Sequence[str], condition: str | None) -> Bundle:
    """The model for one modality: its only one, or of a mix that which --condition names, or which reads the files.

    Raises ValueError where neither tells.
    """
    if len(bundle.modalities) == 1:
        return bundle
    known = ", ".join(bundle.modalities)
    if condition is not None:
        if condition not in bundle.modalities:
            raise ValueError(f"--condition {condition}: unknown to this model; it knows {known}")
        return bundle.of(condition)
    if not files:
        raise ValueError(f"this model was trained on several modalities; choose one with --condition: {known}")
    names = {file: modality_of_file(bundle, file) for file in files}
    if len(set(names.values())) > 1:
        told = "; ".join(f"{name} reads {file}" for file, name in names.items())
        raise ValueError(f"these are files of several modalities: {told}; take those of one at a time")
    return bundle.of(next(iter(names.values())))


def modality_of_file(bundle: Bundle, file: str) -> str:
    """The name of the modality of a mix that reads a file. Raises ValueError where none does, or several do."""
    suffix = Path(file).suffix.lower()
    names = [name for name, its in bundle.modalities.items() if suffix in its.adapter.suffixes]
    if len(names) != 1:
        told = f"{' and '.join(names)} read it" if names else "none reads it"
        raise ValueError(f"{file}: of this model's modalities, {', '.join(bundle.modalities)}, {told}; add --condition")
    return names[0]
