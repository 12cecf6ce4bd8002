"""`megabyte-mm probe`: what features say of classes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_adapters import write_atomically
from megabyte_mm.cli.files import check_output
from megabyte_mm.features.embedding import Floats
from megabyte_mm.features.probe import class_numbers, linear_accuracy, neighbour_accuracies, principal_components


@dataclass(frozen=True)
class _Features:
    """Of the files in an .npz of `megabyte-mm embed`."""

    vectors: Floats
    classes: tuple[str, ...]


def probe(train: str, val: str, map: str | None = None) -> None:
    """Print how well the classes of files are recognised by their features.

    Nearest neighbours vote by cosine; the linear probe is a logistic regression, whose penalty is chosen on a fifth of
    the training files. Behind each accuracy stands its standard error.

    Args:
        train: Features of class folders to learn from, as `megabyte-mm embed` writes them (.npz).
        val: Features of other files of the same classes.
        map: A picture (png, svg or pdf) of the files of `val` on their first two principal components.
    """
    check_output("map", map)
    if map and Path(map).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--map {map}: the name must end in .png, .svg or .pdf")
    learned, judged = _load(train), _load(val)
    classes = sorted(set(learned.classes))
    if len(classes) < 2:
        raise ValueError(f"{train}: its files lie in {len(classes)} class; classes are folders: train/cat/1.png")
    if unknown := sorted(set(judged.classes) - set(classes)):
        raise ValueError(f"{val}: no file of {train} is in the class {', '.join(unknown)}")
    if learned.vectors.shape[1] != judged.vectors.shape[1]:
        widths = f"{learned.vectors.shape[1]} and {judged.vectors.shape[1]}"
        raise ValueError(f"{val}: its features are of another layer or model than those of {train} ({widths} wide)")
    if map and min(judged.vectors.shape) < 2:
        raise ValueError(f"--map {map}: takes two files with two features or more")
    labels, wanted = class_numbers(learned.classes, classes), class_numbers(judged.classes, classes)
    arguments = learned.vectors, labels, judged.vectors, wanted
    for accuracy in [*neighbour_accuracies(*arguments), linear_accuracy(*arguments)]:
        print(
            f"{accuracy.name:12}  {100 * accuracy.share:5.1f} % ± {100 * accuracy.error:.1f} of {accuracy.files} files"
        )
    if map:
        # Imported here because matplotlib takes long to import.
        from megabyte_mm.plots.features import feature_map

        figure = feature_map(principal_components(judged.vectors).astype(np.float64), judged.classes)
        write_atomically(map, lambda temporary: figure.savefig(temporary, dpi=150))


def _load(file: str) -> _Features:
    """Raises ValueError for anything but features of files with classes."""
    try:
        if not zipfile.is_zipfile(file) and Path(file).exists():
            raise ValueError(f"{file}: not a file of megabyte-mm embed")
        with np.load(file, allow_pickle=False) as arrays:
            if "counts" in arrays:
                raise ValueError(f"{file}: holds a vector for each patch; embed with --pooling mean")
            vectors, classes = arrays["vectors"], tuple(_texts(arrays["classes"]))
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{file}: not a file of megabyte-mm embed") from error
    except ValueError as error:
        raise (
            error if str(error).startswith(file) else ValueError(f"{file}: not a file of megabyte-mm embed")
        ) from error
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not len(vectors) == len(classes) or not vectors.size:
        raise ValueError(f"{file}: not a file of megabyte-mm embed")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{file}: some of its features are not finite")
    if "" in classes:
        raise ValueError(f"{file}: some of its files lie in no class folder, as in train/cat/1.png")
    return _Features(vectors, classes)


def _texts(array: NDArray[Any]) -> Sequence[str]:
    """Raises ValueError for an array of anything but texts."""
    if array.ndim != 1 or array.dtype.kind != "U":
        raise ValueError(f"an array {array.dtype} {array.shape} in place of classes")
    texts: list[str] = array.tolist()
    return texts
