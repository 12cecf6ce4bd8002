"""`megabyte-mm classify`: the class, or the text, that makes a file cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.feature_files import ClassedFile, check_all_read, read_all, read_media
from megabyte_mm.cli.files import Skipped, check_output
from megabyte_mm.cli.standard_streams import STANDARD, print_beside, write_json
from megabyte_mm.errors import check_positive
from megabyte_mm.evaluation import score_streams
from megabyte_mm.features.embedding import Floats
from megabyte_mm.features.head import HeadSettings, train_classifier
from megabyte_mm.features.matching import Floats64, part_of_files, text_bits
from megabyte_mm.features.probe import Ints, class_numbers
from megabyte_mm.progress import byte_progress

Costs = tuple[list[ClassedFile], Skipped, Floats64]
"""Files, those that were skipped, and the bits of each file with each candidate."""


def classify(
    checkpoint: str,
    file: Sequence[str],
    candidates: Sequence[str] = (),
    also: Sequence[str] = (),
    weights: Sequence[float] = (),
    head: str | None = None,
    epochs: int = 10,
    json: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Print the class under which each file costs the fewest bits, and by how many bits the next one costs more.

    A model that was trained with classes is asked for each of them; a model of files with texts for each of the
    candidates. Several models add up their bits, such as one that writes the word behind a sound and one that writes
    the sound behind a word. With --head, a classifier on top of the model is trained on class folders first, and prints
    the most probable class. Where files lie in folders named as the classes, or beside texts that are the candidates,
    the share of right ones is printed too.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        file: Files, and folders with all files below them.
        candidates: Classes to choose from, by default all; for a model of files with texts the texts, such as zero one.
        also: More checkpoints, whose bits are added: of the same classes, or of files with texts.
        weights: What a bit of each model counts, as 1 0.1 for two; all 1 if left out. A sound behind a word has
            thousands of bits and a word a few, so that a tenth of them is plenty.
        head: A folder of class folders: a small classifier is trained on its files together with the model, whose
            checkpoint stays as it is.
        epochs: Of training the classifier.
        json: A file for the bits of every class, or with --head its log-probabilities; - for standard output.
        batch_size: Windows read at the same time.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
    """
    check_output("json", None if json == STANDARD else json)
    check_positive(epochs=epochs, batch_size=batch_size)
    shares = _shares(1 + len(also), weights)
    if head is not None:
        for option, value in (("candidates", candidates), ("also", also), ("weights", weights)):
            if value:
                raise ValueError(f"--{option} and --head: give one of them")
        bundle = load_model(checkpoint, pick_device(device), adapter)
        candidates, files, skipped, logs_NC = _by_head(bundle, file, head, epochs, batch_size)
        _print_by_probability(files, candidates, np.exp(logs_NC), json)
        _finish(files, candidates, logs_NC.argmax(axis=1), "log-probabilities", logs_NC, skipped, json)
        return
    bundles = [load_model(name, pick_device(device), adapter) for name in (checkpoint, *also)]
    for bundle in bundles:
        candidates = _candidates(bundle, candidates)
    results = [_costs(bundle, file, candidates, batch_size) for bundle in bundles]
    files, skipped, bits_NC = _added_up(results, shares)
    best_N, width = bits_NC.argmin(axis=1), max(len(str(each.path)) for each in files)
    ordered_NC = np.sort(bits_NC, axis=1)
    for each, best, ordered_C in zip(files, best_N.tolist(), ordered_NC, strict=True):
        print_beside(json, f"{each.path!s:{width}}  {candidates[best]}  by {ordered_C[1] - ordered_C[0]:.1f} bits")
    _finish(files, candidates, best_N, "bits", bits_NC, skipped, json)


def _shares(models: int, weights: Sequence[float]) -> Sequence[float]:
    """What a bit of each model counts. Raises ValueError for another number of weights, and for those below 0."""
    if weights and len(weights) != models:
        raise ValueError(f"--weights: {len(weights)} for {models} models; give one for each")
    if any(not 0 <= weight < float("inf") for weight in weights) or (weights and not any(weights)):
        raise ValueError(f"--weights {' '.join(map(str, weights))}: they must be numbers from 0 up, and not all 0")
    return weights or [1.0] * models


def _candidates(bundle: Bundle, candidates: Sequence[str]) -> Sequence[str]:
    """The classes or texts to choose from. Raises ValueError for those that the model cannot tell apart."""
    if not bundle.reads_records:
        return _classes(bundle, candidates)
    if len(set(candidates)) < 2:
        raise ValueError("--candidates: give the texts to choose from, such as --candidates cat dog")
    return candidates


def _costs(bundle: Bundle, paths: Sequence[str], candidates: Sequence[str], batch_size: int) -> Costs:
    by = _by_text if bundle.reads_records else _by_class
    return by(bundle, paths, candidates, batch_size)


def _added_up(results: Sequence[Costs], shares: Sequence[float]) -> Costs:
    """The files that all models read, and their bits. Raises ValueError if there are none."""
    rows = [{each.path: row for row, each in enumerate(files)} for files, _, _ in results]
    files = [each for each in results[0][0] if all(each.path in row_of for row_of in rows)]
    skipped = {entry["path"]: entry for _, entries, _ in results for entry in entries}
    if not files:
        raise ValueError("no file is read by all models")
    bits_NC = sum(
        share * bits_NC[[row_of[each.path] for each in files]]
        for share, row_of, (_, _, bits_NC) in zip(shares, rows, results, strict=True)
    )
    return files, list(skipped.values()), np.asarray(bits_NC)


def _finish(
    files: Sequence[ClassedFile],
    candidates: Sequence[str],
    best_N: Ints,
    kind: str,
    values_NC: NDArray[Any],
    skipped: Skipped,
    json: str | None,
) -> None:
    """Print the share of right files, where folders name their classes, and write the figures of all classes."""
    labelled = [number for number, each in enumerate(files) if each.label in candidates]
    if labelled:
        right = sum(candidates[best_N[number]] == files[number].label for number in labelled)
        print_beside(json, f"{right} of {len(labelled)} right ({100 * right / len(labelled):.1f} %)")
    if json:
        figures = {
            str(each.path): dict(zip(candidates, bits_C, strict=True))
            for each, bits_C in zip(files, values_NC.tolist(), strict=True)
        }
        write_json(json, {kind: figures, "skipped": skipped})
    check_all_read(skipped)


def _by_head(
    bundle: Bundle, paths: Sequence[str], head: str, epochs: int, batch_size: int
) -> tuple[list[str], list[ClassedFile], Skipped, Floats]:
    """Train a classifier on class folders, and classify files. Raises ValueError for fewer than two classes."""
    selected, learned, unread = read_media(bundle, [head])
    check_all_read(unread)
    classes = sorted({each.label for each in learned} - {""})
    if len(classes) < 2 or any(not each.label for each in learned):
        raise ValueError(f"--head {head}: its files must lie in two class folders or more, as in {head}/cat/1.png")
    _, files, skipped = read_media(bundle, paths)
    streams = [each.stream.data for each in learned]
    settings = HeadSettings(epochs)
    with byte_progress(epochs * sum(map(len, streams)), "learned from") as on_bytes:
        labels = class_numbers([each.label for each in learned], classes)
        classifier = train_classifier(selected, streams, labels, settings, on_bytes)
    return classes, files, skipped, classifier.log_probabilities([each.stream.data for each in files], batch_size)


def _print_by_probability(
    files: Sequence[ClassedFile], classes: Sequence[str], shares_NC: Floats, json: str | None
) -> None:
    width = max(len(str(each.path)) for each in files)
    for each, shares_C in zip(files, shares_NC, strict=True):
        print_beside(json, f"{each.path!s:{width}}  {classes[int(shares_C.argmax())]}  {100 * shares_C.max():.1f} %")


def _classes(bundle: Bundle, candidates: Sequence[str]) -> Sequence[str]:
    """The classes to choose from. Raises ValueError for unknown ones, and for fewer than two."""
    known = bundle.conditions[1:] if len(bundle.modalities) == 1 else ()
    if not known:
        raise ValueError(
            "this model was trained without classes: train with --data.classes true, or on files with texts"
        )
    if unknown := [name for name in candidates if name not in known]:
        raise ValueError(f"--candidates {unknown[0]}: unknown to this model; it knows {', '.join(known)}")
    if candidates and len(set(candidates)) < 2:
        raise ValueError("--candidates: give two classes or more")
    return candidates or known


def _by_class(bundle: Bundle, paths: Sequence[str], candidates: Sequence[str], batch_size: int) -> Costs:
    _, files, skipped = read_media(bundle, paths)
    numbers = [bundle.condition_number(name) for name in candidates]
    pairs = [(file.stream.data, number) for file in files for number in numbers]
    unit = bundle.adapter.common_unit(file.stream.format for file in files)
    with byte_progress(sum(len(data) for data, _ in pairs), "scored") as on_bytes:
        scores = score_streams(
            bundle.model, pairs, bundle.window, unit, bundle.fixed_length, batch_size=batch_size, on_bytes=on_bytes
        )
        bits = [float(score.bits.sum()) for score in scores]
    return files, skipped, np.array(bits).reshape(len(files), len(numbers))


def _by_text(bundle: Bundle, paths: Sequence[str], candidates: Sequence[str], batch_size: int) -> Costs:
    part = part_of_files(bundle)
    files, skipped = read_all(bundle.modalities[part].adapter, paths, bundle.window_of(part))
    files = [each if each.label in candidates else replace(each, label=_text_beside(each.path)) for each in files]
    streams = [file.stream.data for file in files]
    return files, skipped, text_bits(bundle, part, streams, candidates, batch_size)


def _text_beside(path: Path) -> str:
    """The text beside a file, as in a folder of records: that of a.wav is a.txt; "" without one."""
    try:
        return path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
