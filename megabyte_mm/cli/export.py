"""`megabyte-mm export`: a trained model as a folder for others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import group_by_modality, read_files
from megabyte_mm.evaluation import bits_per_byte, check_finite, score_streams
from megabyte_mm.export.card import Card, ScoredFiles
from megabyte_mm.export.folder import STEM, check_export_folder, write_folder, write_model
from megabyte_mm.generation import Continuations, SamplingParams, empty_request, generate_continuations
from megabyte_mm.progress import byte_progress

SEED = 0
"""Of the samples, so that everybody can generate them again."""


def export(
    checkpoint: str,
    folder: str,
    data: str | None = None,
    samples: int = 8,
    license: str | None = None,
    name: str | None = None,
    device: str = "auto",
    adapter: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model as a folder for others: weights, config, and a model card with samples and bits per byte.

    `generate`, `score`, `info` and `load_model` take the folder as they take a checkpoint, and so does the Hugging Face
    hub (`push`). The files are named on stdout. docs/sharing.md says what is in them.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt.
        folder: The folder to be made. It appears whole or not at all.
        data: Files to score for the card, a file or a folder, beside the bits per byte that the run measured.
        samples: How many to generate for the card, of each modality; 0 for none.
        license: An identifier of the hub's for the card, such as mit or cc-by-4.0.
        name: The card's title, and how its commands call the model: by default the folder's name.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
        overwrite: Replace the files of an earlier export in the folder; others there stay.
    """
    place = Path(folder)
    check_export_folder(place, overwrite)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    for path in write_export(bundle, place, name or place.absolute().name, samples, data, license):
        print(path)


def write_export(
    bundle: Bundle, place: Path, name: str, samples: int, data: str | None = None, license: str | None = None
) -> list[Path]:
    """Generate, score and write; returns the files. Raises ValueError and OSError, and then nothing was written."""
    if samples < 0:
        raise ValueError(f"--samples is {samples}; it must be 0 or more")
    scored = {} if data is None else _score(bundle, data)
    classes = _classes(bundle, samples)
    attempts = {name: _generate(bundle.for_modality(name), samples, classes) for name in bundle.modalities}
    generated = {name: continuations for name, continuations in attempts.items() if continuations}
    card = Card(name, bundle, license or "", SEED, classes if generated else (), scored, Path(data or "").name)
    return write_folder(place, lambda folder: write_model(folder, card, generated))


def _classes(bundle: Bundle, count: int) -> list[str]:
    """The class of each sample; none where there are no classes, or modalities in their place."""
    names = bundle.conditions[1:] if len(bundle.modalities) == 1 and not bundle.modality_name else ()
    return [names[i % len(names)] for i in range(count)] if names else []


def _generate(bundle: Bundle, count: int, classes: Sequence[str]) -> Continuations | None:
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
        print(f"no samples{f' of {bundle.modality_name}' if bundle.modality_name else ''}: {error}", file=sys.stderr)
        return None
    with byte_progress(requests[0].length * count, "generated") as on_bytes:
        arguments = (bundle.model, bundle.adapter, requests, SamplingParams(), SEED)
        results = generate_continuations(*arguments, on_bytes=on_bytes)
    in_turn = [results[i % len(results)].continuations[i // len(results)] for i in range(count)]
    return replace(results[0], continuations=in_turn)


def _score(bundle: Bundle, data: str) -> dict[str, ScoredFiles]:
    """Bits per byte of the files, by modality. Raises ValueError where there is none to read."""
    found: dict[str, ScoredFiles] = {}
    for one, paths in group_by_modality(bundle, [data], None):
        files, _ = read_files(one, paths, bundle.window)
        streams = [(file.stream.data, file.condition) for file in files]
        unit = one.adapter.common_unit(file.stream.format for file in files)
        total, window = sum(len(stream) for stream, _ in streams), max(bundle.window // unit, 1) * unit
        if not total:
            raise ValueError(f"--data {data}: no byte in it could be read")
        with byte_progress(total, "scored") as on_bytes:
            scores = list(score_streams(one.model, streams, window, unit, one.fixed_length, on_bytes=on_bytes))
        check_finite(scores)
        found[one.modality_name] = ScoredFiles(bits_per_byte(scores), len(files), total)
    return found
