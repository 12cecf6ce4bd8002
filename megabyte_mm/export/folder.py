"""An exported model as a folder: written beside its place, and put there when it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_adapters import TextAdapter
from data_adapters.io import remove, temporary_beside
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.checkpoint.exported import CONFIG, WEIGHTS, write_exported
from megabyte_mm.checkpoint.provenance import TRAINING
from megabyte_mm.export.card import Card, SampleFiles, model_card
from megabyte_mm.generation import SHEET, Continuations, write_continuations

CARD, SAMPLES = "README.md", "samples"
PATTERNS = (CONFIG, WEIGHTS, CARD, f"{SAMPLES}/*")
"""What of a folder belongs to the export, as `fnmatch` has it."""
STEM = "sample"
SHOWN_TEXT = 1500
"""Bytes of a drawn text that the card shows."""


def check_export_folder(folder: Path, overwrite: bool) -> None:
    """Raise ValueError where no export may be put: a file, and a folder that holds something, unless told to."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a new folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty; name a new folder, or add --overwrite to replace an export in it")


def write_folder(folder: Path, write: Callable[[Path], object]) -> list[Path]:
    """Let `write` fill a folder beside this one, then put its files there; returns them.

    Files of other names stay. While files of an earlier export are replaced, the folder has no config: nobody can load
    the one with the weights of the other.
    """
    place = folder.absolute()
    temporary = temporary_beside(place)
    remove(temporary)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        names = sorted(path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file())
        if place.exists():
            _replace(temporary, place, names)
        else:
            temporary.rename(place)
    finally:
        remove(temporary)
    return [folder / name for name in names]


def write_model(folder: Path, card: Card, samples: Mapping[str, Continuations]) -> None:
    """Write weights, config, card and samples into an empty folder. samples: by modality; the card shows them."""
    drawn = {name: _write_samples(folder, card.bundle, name, made) for name, made in samples.items()}
    write_exported(folder, export_config(card.bundle), card.bundle.model.state_dict())
    (folder / CARD).write_text(model_card(card, drawn), encoding="utf-8")


def export_config(bundle: Bundle) -> dict[str, Any]:
    """What config.json holds beside the digest of the weights."""
    entries = {"megabyte_mm": version("megabyte-mm"), **bundle.spec()}
    training = bundle.training.values()
    return entries | ({TRAINING: training} if training else {})


def _write_samples(folder: Path, bundle: Bundle, name: str, made: Continuations) -> SampleFiles:
    adapter = bundle.modalities[name].adapter
    # A checkpoint may call its modalities anything, "../.." too.
    place = folder / SAMPLES / re.sub(r"[^\w-]", "_", name)
    files = [path.relative_to(folder).as_posix() for path in write_continuations(place, adapter, [made])]
    first = made.continuations[0]
    text = adapter.decode(first[: adapter.last_boundary(first, SHOWN_TEXT)]) if isinstance(adapter, TextAdapter) else ""
    return SampleFiles([file for file in files if file.endswith(SHEET)] or files, text)


def _replace(new: Path, place: Path, names: Sequence[Path]) -> None:
    """Put files in place of those of an earlier export, the config first out and last in."""
    (place / CONFIG).unlink(missing_ok=True)
    for old in (place / SAMPLES).rglob("*"):
        if old.is_file() and (old.name == SHEET or re.fullmatch(rf"{STEM}-\d{{3,}}", old.stem)):
            old.unlink()
    for old in sorted((place / SAMPLES).rglob("*"), reverse=True):
        with suppress(OSError):  # not empty, or a file of the user's own
            old.rmdir()
    for name in sorted(names, key=lambda name: name == Path(CONFIG)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(place / name)
