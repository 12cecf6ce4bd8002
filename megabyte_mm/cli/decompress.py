"""`megabyte-mm decompress`: files out of what `compress` made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePath

from data_adapters import load_class, printable, read_bytes
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.cli.arguments import check_positive, pick_device
from megabyte_mm.compression.container import MODEL, CodingSettings, Container, Entry, unpack
from megabyte_mm.compression.exact import is_whole_file
from megabyte_mm.compression.packing import coding_settings, execution_of, unpack_files, write_content
from megabyte_mm.progress import speedometer


def decompress(
    checkpoint: str,
    file: Sequence[str],
    out: str,
    batch_size: int = 64,
    device: str = "auto",
    adapter: str | None = None,
    content_only: bool = False,
    overwrite: bool = False,
) -> None:
    """Give back the files that `compress` compressed, byte for byte, or say why not.

    Another model, another kind of machine and damaged files are told before anything is written; every file is
    compared with its checksum.

    Args:
        checkpoint: The checkpoint that the files were compressed with, or another of the same weights.
        file: Files that end in .mbz.
        out: The folder that receives what is in them.
        batch_size: Windows decoded at the same time. It changes the speed alone.
        device: auto, cpu, cuda, cuda:1, mps, ..., of the kind that the files were compressed on.
        adapter: Import path of your own adapter class, for a model that was trained with one.
        content_only: Where the libraries of this machine make another file of what is in it than those that compressed
            it, write that other file, of the same pixels or samples.
        overwrite: Replace files of the same names in `out`.
    """
    check_positive(batch_size=batch_size)
    bundle = load_model(checkpoint, pick_device(device), load_class(adapter) if adapter else None)
    containers = [_container(path) for path in file]
    targets = _targets(Path(out), file, containers, overwrite)
    for settings, path in {its.settings: path for path, its in zip(file, containers, strict=True)}.items():
        _check_settings(path, settings, bundle)
    _check_room(Path(out), sum(entry.size for container in containers for entry in container.entries))
    total = sum(
        length
        for container in containers
        for entry in container.entries
        for length, kind in zip(entry.lengths, entry.kinds, strict=True)
        if kind == MODEL
    )
    with speedometer(total, "decompressed") as on_bytes:
        for path, container, names in zip(file, containers, targets, strict=True):
            try:
                contents = unpack_files(bundle, container, batch_size, content_only, on_bytes)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            for target, content in zip(names, contents, strict=True):
                write_content(target, content)
                print(printable(str(target)))


def _container(path: str) -> Container:
    try:
        return unpack(read_bytes(path))
    except ValueError as error:
        told = str(error)
        raise ValueError(told if told.startswith(path) else f"{path}: {told}") from error


def _targets(out: Path, files: Sequence[str], containers: Sequence[Container], overwrite: bool) -> list[list[Path]]:
    """Where each file goes. Raises ValueError for a name that leads out of the folder, exists, or comes twice."""
    taken: dict[Path, str] = {}
    targets = []
    for path, container in zip(files, containers, strict=True):
        targets.append([out / _name(path, entry) for entry in container.entries])
        for target in targets[-1]:
            if target in taken:
                raise ValueError(
                    f"{path} and {taken[target]} both hold a {target.relative_to(out)}: take one at a time"
                )
            if target.exists() and not overwrite:
                raise ValueError(f"{target} exists already: choose another --out, or add --overwrite")
            taken[target] = path
    for target, path in taken.items():
        if target.is_dir() or set(target.parents) & set(taken):
            raise ValueError(f"{path}: holds a file {target.relative_to(out)}, which collides with a folder or a file")
    return targets


def _check_room(out: Path, size: int) -> None:
    """Raise ValueError where a disk does not hold what comes out: a small container may say that it is enormous."""
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, not a folder")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"{out}: {size:,} bytes would come out, and {free:,} are free there")


def _name(path: str, entry: Entry) -> Path:
    # As this system reads it: elsewhere a backslash or a colon may be part of a name.
    name = PurePath(entry.name)
    if name.anchor or not name.parts or ".." in name.parts or "\0" in entry.name:
        raise ValueError(f"{path}: holds a file of the name {entry.name!r}, which would lead out of --out")
    return Path(name) if is_whole_file(entry.recipe) else _written_as(Path(name), entry)


def _written_as(name: Path, entry: Entry) -> Path:
    """Content that was kept alone comes as what the adapter writes: pictures as PNG, sounds in its container."""
    suffix = ".png" if entry.recipe["kind"] == "tiles" else f".{entry.recipe.get('container', 'wav')}"
    return name.with_suffix(suffix)


def _check_settings(path: str, settings: CodingSettings, bundle: Bundle) -> None:
    """Raise ValueError where this model or machine would not give back the bytes."""
    device = next(bundle.model.parameters()).device.type
    if settings.device not in ("cpu", "cuda", "mps", "xpu"):
        raise ValueError(f"{path}: damaged: compressed on a device of an unknown kind")
    if settings.device != device:
        raise ValueError(
            f"{path}: compressed on {settings.device}, and this is {device}, whose numbers differ in their last bits: "
            f"add --device {settings.device}"
        )
    try:
        here = coding_settings(bundle, execution_of(settings))
    except ValueError as error:
        raise ValueError(f"{path}: its steps cannot be taken here: {error}") from error
    if settings.model != here.model:
        raise ValueError(
            f"{path}: compressed with another model ({settings.model}) than this checkpoint's ({here.model})"
        )
    if settings.numbers != here.numbers:
        raise ValueError(
            f"{path}: this machine computes other probabilities in their last bits than the one that compressed it "
            f"(there torch {settings.torch}, here {here.torch}): decompress it on a machine of that kind"
        )
