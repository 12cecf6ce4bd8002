"""`score --heatmap`: a folder of heatmaps, a picture of each file, and for text a page of HTML too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_adapters import Adapter, TextAdapter, printable, write_atomically
from megabyte_mm.commands.media import MediaFile
from megabyte_mm.commands.naming import unique_stems
from megabyte_mm.evaluation.scoring import Score
from megabyte_mm.inference.heatmap import heatmap, split


@dataclass(frozen=True)
class Heatmaps:
    """A folder that receives the heatmaps of files. stems: begin the names of each file's heatmaps."""

    folder: Path
    stems: Mapping[Path, str]

    def write(self, adapter: Adapter, file: MediaFile, score: Score) -> None:
        """Write the heatmaps of one file, each whole or not at all; none where the model's output is not finite.

        Raises MediaError where the folder is full or not permitted.
        """
        bits = score.bits
        if not np.isfinite(bits).all():
            return
        name, stem = printable(file.path.name), self.stems[file.path]
        figure = heatmap(adapter, file.stream, bits, name)
        write_atomically(self.folder / f"{stem}.png", lambda temporary: figure.savefig(temporary))
        if isinstance(adapter, TextAdapter):
            from megabyte_mm.plots.text_page import text_page

            its, end = split(file.stream, bits)
            page = text_page(file.stream.data.tobytes(), its, name, end)
            write_atomically(self.folder / f"{stem}.html", lambda temporary: temporary.write_text(page, "utf-8"))


def prepare_heatmaps(folder: str, files: Mapping[Path, Adapter], overwrite: bool) -> Heatmaps:
    """The heatmaps of some files, with their folder made, before minutes of scoring end in vain.

    files: each with the adapter that reads it. Raises ValueError where the folder cannot be made, or holds one already.
    """
    try:
        stems = dict(zip(files, unique_stems(list(files)), strict=True))
    except ValueError as error:
        raise ValueError(f"--heatmap {folder}: PATH {error}") from error
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--heatmap {folder}: cannot be made a folder ({error.strerror})") from error
    for path, adapter in files.items():
        for suffix in (".png", ".html") if isinstance(adapter, TextAdapter) else (".png",):
            target = Path(folder) / f"{stems[path]}{suffix}"
            if target.exists() and not overwrite:
                raise ValueError(f"{target} exists already; choose another --heatmap, or add --overwrite")
    return Heatmaps(Path(folder), stems)
