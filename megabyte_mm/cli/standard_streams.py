"""Standard input as a file, and a file on standard output: - in the place of a name."""

from __future__ import annotations

import io
import json as json_text
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_adapters import Adapter, ByteStream, write_bytes
from megabyte_mm.generation import SHEET

STANDARD = "-"


def read_standard_input(adapter: Adapter) -> ByteStream:
    """All of standard input, as a file of the adapter's kind. Raises MediaError for anything else."""
    with TemporaryDirectory() as folder:
        file = Path(folder, f"stdin{next(iter(adapter.suffixes), '')}")
        file.write_bytes(sys.stdin.buffer.read())
        return adapter.read(file)


def print_beside(json: str | None, line: str) -> None:
    """Print a line, to stderr where the figures themselves go to standard output."""
    print(line, file=sys.stderr if json == STANDARD else None)


def write_json(json: str, figures: Any) -> None:
    """Write figures to a file, or to standard output for `-`."""
    text = json_text.dumps(figures, indent=1, allow_nan=False) + "\n"
    if json == STANDARD:
        print(text, end="")
    else:
        write_bytes(json, text.encode())


def write_standard_output(generate: Callable[[str], object]) -> None:
    """Write the only file that a function generates in a folder; what it prints is dropped.

    Raises ValueError for several files.
    """
    with TemporaryDirectory() as folder:
        with redirect_stdout(io.StringIO()):
            generate(folder)
        files = [file for file in Path(folder).iterdir() if file.name != SHEET]
        if len(files) > 1:
            raise ValueError(f"--out -: {len(files)} files would be written ({', '.join(f.name for f in files)})")
        content = files[0].read_bytes()
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
