"""`megabyte-mm demo-data`: small media to try everything on. Short: `demo_data` does the work."""

from __future__ import annotations

from pathlib import Path


def demo_data(folder: str, seed: int = 0) -> None:
    """Generate small images, melodies and texts to try everything on.

    Args:
        folder: New or empty folder that receives images/, audio/ and text/.
        seed: Other seeds generate other images and melodies, and choose other texts.
    """
    from megabyte_mm.demo_data import make_demo_data

    for name, count in make_demo_data(Path(folder), seed).items():
        print(f"{Path(folder, name)}: {count} files")
