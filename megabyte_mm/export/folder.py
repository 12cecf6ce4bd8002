"""An exported model as a folder, complete or not at all: weights, config, card and samples."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_adapters import TextAdapter
from data_adapters.io import remove, temporary_beside
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.checkpoint.exported import CONFIG_FILE, WEIGHTS_FILE, write_exported
from megabyte_mm.checkpoint.provenance import TRAINING
from megabyte_mm.checkpoint.rounding import Precision, pack, unpack
from megabyte_mm.checkpoint.safety import check_finite_weights
from megabyte_mm.export.card import Card, SampleFiles, model_card
from megabyte_mm.generation import (
    SHEET,
    Continuations,
    SamplingParams,
    empty_request,
    generate_continuations,
    write_continuations,
)
from megabyte_mm.progress import byte_progress

CARD, SAMPLES = "README.md", "samples"
PATTERNS = (CONFIG_FILE, WEIGHTS_FILE, CARD, f"{SAMPLES}/*")
"""Patterns of `fnmatch` for the files of an export."""
STEM = "sample"
SHOWN_TEXT = 1500
"""Bytes of a generated text that the card shows."""


def check_export_folder(folder: Path, overwrite: bool) -> None:
    """Raise ValueError for a file, and for a folder that is not empty unless it may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a new folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty; name a new folder, or add --overwrite to replace an export in it")


def write_folder(folder: Path, write: Callable[[Path], object]) -> list[Path]:
    """Let `write` fill a temporary folder, then move its files into this one. Returns them.

    Files of other names stay. While files of an earlier export are replaced, the folder has no config, so that nobody
    loads the config of one model with the weights of another.
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


def round_weights(bundle: Bundle, precision: Precision) -> None:
    """Give a model the weights that an export of that precision holds, so that figures and samples are of these.

    Raises ValueError for an unknown precision.
    """
    weights = bundle.model.state_dict()
    bundle.model.load_state_dict(unpack(pack(weights, precision)))


def check_samples(count: int) -> None:
    """Raise ValueError for a negative number of samples."""
    if count < 0:
        raise ValueError(f"--samples is {count}; it must be 0 or more")


def export_model(folder: Path, card: Card, samples: int) -> list[Path]:
    """Generate samples of each modality and write the folder of a model. Returns the files.

    Raises ValueError, also for weights that are not finite, and OSError; then nothing was written.
    """
    card, generated = generate_samples(card, samples)
    return write_folder(folder, lambda temporary: write_model(temporary, card, generated))


def generate_samples(card: Card, samples: int) -> tuple[Card, dict[str, Continuations]]:
    """The card with the classes of its samples, and the samples by modality. Raises ValueError as `export_model`."""
    check_samples(samples)
    bundle = card.bundle
    check_finite_weights(bundle.model.parameters())
    classes = _classes(bundle, samples)
    attempts = {name: _generate(bundle.for_modality(name), samples, classes, card.seed) for name in bundle.alone}
    generated = {name: continuations for name, continuations in attempts.items() if continuations}
    return replace(card, classes=classes if generated else ()), generated


def _classes(bundle: Bundle, count: int) -> list[str]:
    """The class of each sample; none where there are no classes, or modalities in their place."""
    names = bundle.conditions[1:] if len(bundle.modalities) == 1 and not bundle.modality_name else ()
    return [names[i % len(names)] for i in range(count)] if names else []


def _generate(bundle: Bundle, count: int, classes: Sequence[str], seed: int) -> Continuations | None:
    """Samples without a prefix; None where the count is 0, or the adapter does not determine their format."""
    if not count:
        return None
    if classes:
        counts = {bundle.conditions.index(name): classes.count(name) for name in classes}
    else:
        counts = {bundle.condition_number(None): count}
    try:
        requests = [
            empty_request(bundle.adapter, STEM, bundle.window, None, number, condition)
            for condition, number in counts.items()
        ]
    except ValueError as error:
        sys.stderr.write(f"no samples{f' of {bundle.modality_name}' if bundle.modality_name else ''}: {error}\n")
        return None
    with byte_progress(requests[0].length * count, "generated") as on_bytes:
        arguments = (bundle.model, bundle.adapter, requests, SamplingParams(), seed)
        results = generate_continuations(*arguments, on_bytes=on_bytes)
    in_turn = [results[i % len(results)].continuations[i // len(results)] for i in range(count)]
    return replace(results[0], continuations=in_turn)


def write_model(folder: Path, card: Card, samples: Mapping[str, Continuations]) -> None:
    """Write weights, config, card and samples into an empty folder. samples: by modality; the card shows them."""
    files = {name: _write_samples(folder, card.bundle, name, generated) for name, generated in samples.items()}
    write_exported(folder, export_config(card.bundle), card.bundle.model.state_dict(), card.precision)
    (folder / CARD).write_text(model_card(card, files), encoding="utf-8")


def export_config(bundle: Bundle) -> dict[str, Any]:
    """The entries of config.json, without the digest of the weights."""
    entries = {"megabyte_mm": version("megabyte-mm"), **bundle.spec()}
    provenance = bundle.provenance.values()
    return entries | ({TRAINING: provenance} if provenance else {})


def _write_samples(folder: Path, bundle: Bundle, name: str, samples: Continuations) -> SampleFiles:
    adapter = bundle.modalities[name].adapter
    # A checkpoint may call its modalities anything, "../.." too.
    target = folder / SAMPLES / re.sub(r"[^\w-]", "_", name)
    files = [path.relative_to(folder).as_posix() for path in write_continuations(target, adapter, [samples])]
    first = samples.continuations[0]
    text = adapter.decode(first[: adapter.last_boundary(first, SHOWN_TEXT)]) if isinstance(adapter, TextAdapter) else ""
    return SampleFiles([file for file in files if file.endswith(SHEET)] or files, text)


def _replace(new: Path, place: Path, names: Sequence[Path]) -> None:
    """Replace the files of an earlier export: its config is removed first, the new one is moved last."""
    (place / CONFIG_FILE).unlink(missing_ok=True)
    for old in (place / SAMPLES).rglob("*"):
        if old.is_file() and (old.name == SHEET or re.fullmatch(rf"{STEM}-\d{{3,}}", old.stem)):
            old.unlink()
    for old in sorted((place / SAMPLES).rglob("*"), reverse=True):
        with suppress(OSError):  # it is not empty: it holds a file of the user
            old.rmdir()
    for name in sorted(names, key=lambda name: name == Path(CONFIG_FILE)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(place / name)
