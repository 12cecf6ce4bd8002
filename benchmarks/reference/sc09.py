"""SC09: the ten digits of Speech Commands, with its lists of files to validate and to test on."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS = ("validation_list.txt", "testing_list.txt")


def choose_digits(data: str, folder: Path) -> str:
    """A folder of the ten digits alone and their lines of both lists, made from Speech Commands.

    data: its folder, to whose recordings the new folder has links, or its .tar.gz, which is unpacked as far as needed.
    A folder that is complete is used again. Raises ValueError where a digit or a list is missing.
    """
    if all((folder / name).exists() for name in (*DIGITS, *LISTS)):
        return str(folder)
    path = Path(data)
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        lists = _link(path, folder)
    elif path.is_file():
        lists = _unpack(path, folder)
    else:
        raise ValueError(f"--data {data}: no such folder or archive")
    if missing := [name for name in DIGITS if not (folder / name).is_dir()] + [n for n in LISTS if n not in lists]:
        raise ValueError(f"--data {data}: is not Speech Commands; it lacks {', '.join(missing)}")
    for name, lines in lists.items():  # last, as they make the folder complete
        chosen = [line for line in lines if PurePosixPath(line).parts[0] in DIGITS]
        (folder / name).write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
    return str(folder)


def _link(source: Path, folder: Path) -> dict[str, list[str]]:
    for name in DIGITS:
        if (source / name).is_dir() and not (folder / name).exists():
            (folder / name).symlink_to((source / name).resolve(), target_is_directory=True)
    return {name: _lines((source / name).read_text("utf-8")) for name in LISTS if (source / name).is_file()}


def _unpack(archive: Path, folder: Path) -> dict[str, list[str]]:
    lists = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                if place.name in LISTS:
                    lists[place.name] = _lines(content.read().decode("utf-8"))
                elif place.parent.name in DIGITS and place.suffix == ".wav":
                    target = folder / place.parent.name / place.name
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"--data {archive}: cannot be unpacked: {error}") from error
    return lists


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
