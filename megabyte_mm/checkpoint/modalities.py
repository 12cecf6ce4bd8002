"""The modality of a model that a file belongs to, and the file read for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_adapters import ADAPTERS, Adapter, ByteStream, MediaError
from megabyte_mm.checkpoint.bundle import Bundle


def select_modality(bundle: Bundle, files: Sequence[str], condition: str | None) -> Bundle:
    """Return the model for one modality: its only one, else that of --condition, else that of the files' suffixes.

    Raises ValueError where these do not determine one.
    """
    if len(bundle.modalities) == 1:
        return bundle
    known = ", ".join(bundle.modalities)
    if condition is not None:
        if condition not in bundle.modalities:
            raise ValueError(f"--condition {condition}: unknown to this model; it knows {known}")
        return bundle.for_modality(condition)
    if not files:
        raise ValueError(f"this model was trained on several modalities; choose one with --condition: {known}")
    names = {file: modality_of_file(bundle, file) for file in files}
    if len(set(names.values())) > 1:
        readers = "; ".join(f"{name} reads {file}" for file, name in names.items())
        raise ValueError(f"these files are of several modalities: {readers}; give files of one modality at a time")
    return bundle.for_modality(next(iter(names.values())))


def modality_of_file(bundle: Bundle, file: str) -> str:
    """Return the modality of a mix that reads files of this suffix. Raises ValueError unless there is exactly one."""
    suffix = Path(file).suffix.lower()
    names = [name for name, modality in bundle.modalities.items() if suffix in modality.adapter.suffixes]
    if len(names) != 1:
        readers = f"{' and '.join(names)} read it" if names else "none reads it"
        known = ", ".join(bundle.modalities)
        raise ValueError(f"{file}: of this model's modalities, {known}, {readers}; add --condition")
    return names[0]


def check_suffix(adapter: Adapter, file: str) -> None:
    """Raise ValueError for a file that another adapter reads; a file of an unknown suffix is accepted."""
    suffix = Path(file).suffix.lower()
    if not adapter.suffixes or suffix in adapter.suffixes:
        return
    for other in ADAPTERS.values():
        if suffix in other.suffixes:
            known = " ".join(adapter.suffixes)
            raise ValueError(f"{file}: is of modality {other.name}; this model reads {adapter.name} files ({known})")


def read_stream(adapter: Adapter, path: Path, window: int | None) -> ByteStream:
    """Read a file. window: the most bytes of one that cannot be cut. Raises MediaError where it cannot be read."""
    stream = adapter.read(path)
    check_fits(adapter, path, stream, window)
    return stream


def check_fits(adapter: Adapter, path: Path, stream: ByteStream, window: int | None) -> None:
    """Raise MediaError for a stream that cannot be cut and exceeds the window; any fits where that is None."""
    size = len(stream.data)
    if adapter.single_window and window is not None and size > window:
        raise MediaError(path, f"its {size} bytes do not fit into the window of {window}")
