"""`megabyte-mm classify`: the class, or the text, that makes a file cheapest."""

from __future__ import annotations

from collections.abc import Sequence
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


def classify(
    checkpoint: str,
    file: Sequence[str],
    candidates: Sequence[str] = (),
    head: str | None = None,
    epochs: int = 10,
    json: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Print the class under which each file costs the fewest bits, and by how many bits the next one costs more.

    A model that was trained with classes is asked for each of them; a model of files with texts for each of the
    candidates. With --head, a classifier on top of the model is trained on class folders first, and prints the most
    probable class. Where files lie in folders named as the classes, the share of right ones is printed too.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        file: Files, and folders with all files below them.
        candidates: Classes to choose from, by default all; for a model of files with texts the texts, such as zero one.
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
    bundle = load_model(checkpoint, pick_device(device), adapter)
    if head is not None:
        if candidates:
            raise ValueError("--candidates and --head both name the classes: give one of them")
        candidates, files, skipped, logs_NC = _by_head(bundle, file, head, epochs, batch_size)
        _print_by_probability(files, candidates, np.exp(logs_NC), json)
        _finish(files, candidates, logs_NC.argmax(axis=1), "log-probabilities", logs_NC, skipped, json)
        return
    if bundle.reads_records:
        if len(set(candidates)) < 2:
            raise ValueError("--candidates: give the texts to choose from, such as --candidates cat dog")
        files, skipped, bits_NC = _by_text(bundle, file, candidates, batch_size)
    else:
        candidates = _classes(bundle, candidates)
        files, skipped, bits_NC = _by_class(bundle, file, candidates, batch_size)
    best_N, width = bits_NC.argmin(axis=1), max(len(str(each.path)) for each in files)
    ordered_NC = np.sort(bits_NC, axis=1)
    for each, best, ordered_C in zip(files, best_N.tolist(), ordered_NC, strict=True):
        print_beside(json, f"{each.path!s:{width}}  {candidates[best]}  by {ordered_C[1] - ordered_C[0]:.1f} bits")
    _finish(files, candidates, best_N, "bits", bits_NC, skipped, json)


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


def _by_class(
    bundle: Bundle, paths: Sequence[str], candidates: Sequence[str], batch_size: int
) -> tuple[list[ClassedFile], Skipped, Floats64]:
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


def _by_text(
    bundle: Bundle, paths: Sequence[str], candidates: Sequence[str], batch_size: int
) -> tuple[list[ClassedFile], Skipped, Floats64]:
    part = part_of_files(bundle)
    files, skipped = read_all(bundle.modalities[part].adapter, paths, bundle.window_of(part))
    streams = [file.stream.data for file in files]
    return files, skipped, text_bits(bundle, part, streams, candidates, batch_size)
