"""`megabyte-mm demo-data`: something to try everything on."""

from __future__ import annotations

from pathlib import Path


def demo_data(folder: str, seed: int = 0) -> None:
    """Make small pictures, melodies and texts to try everything on.

    Args:
        folder: Where images/, audio/ and text/ are put; a new or empty folder.
        seed: Other seeds make other pictures and melodies.
    """
    from megabyte_mm.demo_data import make_demo_data

    for name, count in make_demo_data(Path(folder), seed).items():
        print(f"{Path(folder, name)}: {count} files")
