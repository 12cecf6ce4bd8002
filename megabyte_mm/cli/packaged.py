"""The configs that come with the program, by name. A module of its own: `--help` must not wait for torch."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """Where the packaged configs lie: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def config_path(name: str, folder: Path, option: str = "") -> str:
    """The path of a config: the file itself where there is one, else the one of that name in `folder`.

    option: what the name was given to. Raises ValueError, naming it, where there is neither.
    """
    if Path(name).is_file():
        return name
    packaged = folder / (Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml") + ".yaml")
    if packaged.is_file():
        return str(packaged)
    known = ", ".join(
        sorted(path.relative_to(folder).as_posix().removesuffix(".yaml") for path in folder.rglob("*.yaml"))
    )
    asked = f"{option} {name}" if option else name
    raise ValueError(f"{asked}: no such file, and no packaged config of that name; there are {known}")
