"""The configs that come with the program, by name. It imports no torch, which `--help` must not wait for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CONFIG_FLAGS = ("--config", "-c")


def config_folder() -> Path:
    """Folder of the packaged configs: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str, option: str = "") -> str:
    """The path of a config: the file of that name if there is one, else the packaged config.

    `image`, `image.yaml` and `configs/image.yaml` all name the same packaged config. option: the option that holds the
    name. Raises ValueError, naming it, for an unknown name.
    """
    if Path(name).is_file():
        return name
    folder = config_folder()
    packaged = folder / (Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml") + ".yaml")
    if packaged.is_file():
        return str(packaged)
    known = sorted(path.relative_to(folder).as_posix().removesuffix(".yaml") for path in folder.rglob("*.yaml"))
    raise ValueError(
        f"{option} {name}: no such file, and no packaged config of that name; there are {', '.join(known)}".lstrip()
    )


def with_config_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the path of a config in place of its name after each --config (-c)."""
    replaced = list(arguments)
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in CONFIG_FLAGS:
            continue
        if equals:
            replaced[i] = f"{flag}={find_config(value, '--config')}"
        elif i + 1 < len(arguments):
            replaced[i + 1] = find_config(arguments[i + 1], "--config")
    return replaced
