"""A model as a folder that runs as a Space of the Hugging Face hub: the playground, its sources, and what it needs."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import yaml

from data_adapters import printable
from data_adapters.io import remove
from megabyte_mm.export.card import LIBRARY, Card
from megabyte_mm.export.folder import generate_samples, write_folder, write_model

MODEL = "model"
"""The folder of the exported model in a Space."""
PACKAGES = ("data_adapters", "megabyte_mm")
"""Copied as sources: a Space then needs no release of this project."""
PROGRAM = '''"""Serves the model in {model}/ in the browser: the playground of megabyte-mm."""

from pathlib import Path

from megabyte_mm.app.open import serve_model

if __name__ == "__main__":
    serve_model(Path(__file__).parent / "{model}", host="0.0.0.0", port=7860, name={name!r})
'''


def export_space(folder: Path, card: Card, samples: int) -> list[Path]:
    """Generate samples of each modality and write the folder of a Space. Returns the files.

    Raises ValueError and OSError as `export_model`; then nothing was written.
    """
    card, generated = generate_samples(card, samples)

    def write(temporary: Path) -> None:
        (temporary / MODEL).mkdir()
        write_model(temporary / MODEL, card, generated)
        (temporary / "app.py").write_text(PROGRAM.format(model=MODEL, name=card.name), encoding="utf-8")
        (temporary / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements()), encoding="utf-8")
        (temporary / "README.md").write_text(space_card(card), encoding="utf-8")
        for package in PACKAGES:
            shutil.copytree(
                _source(package), temporary / package, ignore=shutil.ignore_patterns("__pycache__", ".*", "demo_models")
            )
        for name in (MODEL, *PACKAGES):  # files that an earlier export had, and this one has not
            remove(folder / name)

    return write_folder(folder, write)


def requirements() -> list[str]:
    """The requirements of this project, without those of extras; gradio is the Space's SDK."""
    return sorted(line for line in requires(LIBRARY) or () if ";" not in line)


def space_card(card: Card) -> str:
    """README.md of a Space, with the front matter that the hub reads."""
    entries = {"title": printable(card.name)[:60], "sdk": "gradio", "app_file": "app.py", "tags": [LIBRARY]}
    if gradio := _gradio_version():
        entries["sdk_version"] = gradio
    if card.license:
        entries["license"] = card.license
    return (
        f"---\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}---\n\n"
        f"The playground of {LIBRARY} with the model in `{MODEL}/`, whose card is `{MODEL}/README.md`.\n"
    )


def _gradio_version() -> str | None:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return None


def _source(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
