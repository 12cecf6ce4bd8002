"""From a checkpoint, an exported folder or a hub id to a playground, and to a running server."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from data_adapters import Adapter
from megabyte_mm.app.limits import Limits
from megabyte_mm.app.playground import Playground
from megabyte_mm.checkpoint import load_model
from megabyte_mm.generation import SHEET

INSTALL = "pip install 'megabyte-mm[app]'"
SAMPLES = "samples"
"""The folder of an exported model that holds files to pick."""
MAX_FILES = 200
"""Files that are offered."""


def check_installed() -> None:
    """Raise ValueError where gradio is missing."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(f"the playground needs gradio: {INSTALL}")


def open_playground(
    model: str | os.PathLike[str],
    files: str | os.PathLike[str] | None = None,
    name: str | None = None,
    device: str = "cpu",
    adapter: type[Adapter] | str | None = None,
    limits: Limits | None = None,
) -> Playground:
    """Load a model. files: a folder of files to pick; by default the samples of an exported folder.

    Raises ValueError for anything but a model of this project, and for a folder without files that it reads.
    """
    bundle = load_model(model, device, adapter)
    playground = Playground(bundle, name or model_name(model), limits or Limits())
    folder = Path(model, SAMPLES) if files is None else Path(files)
    playground.files = find_files(folder, playground)
    if files is not None and not playground.files:
        raise ValueError(f"--files {files}: is no folder with files that this model reads")
    return playground


def model_name(model: str | os.PathLike[str]) -> str:
    """The name that the page shows: image for runs/image/best.ckpt, a folder's name, or the hub id."""
    path = Path(model)
    if path.suffix == ".ckpt" or (path / ".metadata").exists():
        return path.absolute().parent.name
    return path.absolute().name if path.exists() else os.fspath(model)


def find_files(folder: Path, playground: Playground) -> dict[str, Path]:
    """The files below a folder that one of the model's adapters reads, by their paths in it; no contact sheets."""
    suffixes = {suffix for adapter in playground.adapters for suffix in adapter.suffixes}
    takes_all = any(not adapter.suffixes for adapter in playground.adapters)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith(".")
        and path.name != SHEET
        and (takes_all or path.suffix.lower() in suffixes)
    )
    return {path.relative_to(folder).as_posix(): path for path in paths[:MAX_FILES]}


def serve_model(model: str | os.PathLike[str], host: str = "127.0.0.1", port: int = 7860, name: str = "") -> None:
    """Serve a model until Ctrl-C: the whole of a Space's app.py."""
    from megabyte_mm.app.server import serve

    serve(open_playground(model, name=name or None), host, port)
