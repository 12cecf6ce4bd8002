"""`python -m benchmarks.gpu`, in an interpreter that may lack what it needs."""

from __future__ import annotations

import re
import sys
from importlib import import_module

TORCH = (2, 11)
"""The oldest version."""


def main() -> int:
    """Measure as `benchmarks.gpu.program` does, or say in a line what this interpreter lacks: 2."""
    if reason := lacking():
        print(
            f"python -m benchmarks.gpu: error: {sys.executable} needs torch {TORCH[0]}.{TORCH[1]} or later with CUDA, "
            f"and numpy ({reason}): name another interpreter, as in make gpu PYTHON=/usr/bin/python3.12",
            file=sys.stderr,
        )
        return 2
    from benchmarks.gpu import program

    return program.main()


def lacking() -> str:
    """What this interpreter lacks, "" if nothing."""
    try:
        for name in ("torch", "numpy"):
            import_module(name)
    except ImportError as error:
        return str(error).splitlines()[0]
    version = import_module("torch").__version__
    return f"it has torch {version}" if tuple(map(int, re.findall(r"\d+", version)[:2])) < TORCH else ""


if __name__ == "__main__":
    sys.exit(main())
