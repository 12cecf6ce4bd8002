"""Names for what is made of files: short, and different for different files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def unique_stems(files: Sequence[str | Path]) -> list[str]:
    """The files' names without ending; where two are alike, with what tells them apart.

    First their folders, then the ending too, then a number. Raises ValueError where the same file is named twice.
    """
    stems = [Path(file).stem for file in files]
    if len(set(stems)) == len(files):
        return stems
    whole = [Path(file).absolute() for file in files]
    if len(set(whole)) < len(files):
        raise ValueError("names a file twice")
    shared = os.path.commonpath([path.parent for path in whole])
    parts = [path.relative_to(shared).parts for path in whole]
    stems = ["_".join((*folders, Path(name).stem)) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = ["_".join((*folders, name.replace(".", "_"))) for *folders, name in parts]
    if len(set(stems)) < len(files):
        stems = [f"{number}_{stem}" for number, stem in enumerate(stems)]
    return stems
