"""The files of the commands that compare files, with their classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import Adapter, ByteStream, MediaError
from megabyte_mm.checkpoint import Bundle, read_stream
from megabyte_mm.cli.files import Skipped, find_media, group_by_modality
from megabyte_mm.data.splits import split_called


@dataclass(frozen=True)
class ClassedFile:
    """A file as the model's adapter reads it; label: the name of its class folder, "" without one."""

    path: Path
    stream: ByteStream
    label: str


def read_media(
    bundle: Bundle, paths: Sequence[str], condition: str | None = None
) -> tuple[Bundle, list[ClassedFile], Skipped]:
    """The model for the only modality of files, the files in it, and those that could not be read.

    condition: the modality, for a model of several. Raises ValueError for files of several modalities, and where not
    one can be read.
    """
    groups = group_by_modality(bundle, paths, condition)
    if len(groups) > 1:
        names = ", ".join(selected.modality_name for selected, _ in groups)
        raise ValueError(f"these files are of several modalities ({names}): choose one with --condition")
    [(selected, _)] = groups
    return selected, *read_all(selected.adapter, paths, selected.window)


def read_all(adapter: Adapter, paths: Sequence[str], window: int) -> tuple[list[ClassedFile], Skipped]:
    """The files below the paths, and those that could not be read, which are printed.

    window: the most bytes of a file that cannot be cut. Raises ValueError where not one can be read.
    """
    files, skipped = [], []
    for path, root in find_media(adapter, paths).items():
        try:
            stream = read_stream(adapter, path, window)
            if not len(stream.data):
                raise MediaError(path, "holds no bytes")
        except MediaError as error:
            print(error, file=sys.stderr)
            skipped.append({"path": str(path), "reason": error.reason})
            continue
        files.append(ClassedFile(path, stream, _label(path, root)))
    if not files:
        raise ValueError(f"{skipped[0]['path']}: {skipped[0]['reason']}; none of the files can be read")
    return files, skipped


def check_all_read(skipped: Skipped) -> None:
    """Raise MediaError where a file could not be read."""
    if skipped:
        raise MediaError(skipped[0]["path"], f"{skipped[0]['reason']}; {len(skipped)} files could not be read")


def _label(path: Path, root: Path) -> str:
    """The first folder below the root that is not a split's."""
    folders = path.relative_to(root).parts[:-1]
    inside = folders[1:] if folders and split_called(folders[0]) else folders
    return inside[0] if inside else ""
