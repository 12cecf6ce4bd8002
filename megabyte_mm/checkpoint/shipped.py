"""The models that come with the package, by names such as demo:image: exported folders beside the code."""

from __future__ import annotations

import os
from pathlib import Path

from megabyte_mm.checkpoint.exported import CONFIG_FILE

PREFIX = "demo:"
FOLDER = Path(__file__).parents[1] / "demo_models"


def shipped_names() -> list[str]:
    """The names that commands take, such as demo:image."""
    return sorted(PREFIX + config.parent.name for config in FOLDER.glob(f"*/{CONFIG_FILE}"))


def shipped_folder(name: str | os.PathLike[str]) -> Path | None:
    """The exported folder of a name such as demo:image; None for text of another form, and for a path that exists.

    Raises ValueError, with the known names, for an unknown one.
    """
    if not isinstance(name, str) or not name.startswith(PREFIX) or Path(name).exists():
        return None
    if name not in shipped_names():
        raise ValueError(f"{name}: no such model comes with megabyte-mm; there are {', '.join(shipped_names())}")
    return FOLDER / name.removeprefix(PREFIX)
