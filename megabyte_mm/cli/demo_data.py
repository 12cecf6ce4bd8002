"""`megabyte-mm demo-data`: small media to try everything on. Short: `demo_data` does the work."""

from __future__ import annotations

from pathlib import Path

from megabyte_mm.errors import ArgumentValueError


def demo_data(folder: str, seed: int = 0, pairs: str | None = None) -> None:
    """Generate small images, melodies and texts to try everything on.

    Args:
        folder: New or empty folder that receives images/, audio/ and text/.
        seed: Other seeds generate other images and melodies, and choose other texts.
        pairs: Another new or empty folder, which receives captions/, masks/ and melodies/: records of two parts.
    """
    from megabyte_mm.demo_data import make_demo_data, make_demo_pairs

    if pairs is not None and Path(folder).resolve() in (Path(pairs).resolve(), *Path(pairs).resolve().parents):
        raise ArgumentValueError(
            "pairs", f"{pairs} is inside {folder}, whose files training reads; name another folder"
        )
    _print_counts(folder, make_demo_data(Path(folder), seed))
    if pairs is not None:
        _print_counts(pairs, make_demo_pairs(Path(pairs), seed))


def _print_counts(folder: str, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        print(f"{Path(folder, name)}: {count} files")
