"""`make demo`: train small models of pictures, melodies, text and records, and show their samples on one page."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tour import run_demo

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 when the page is written, 1 (with one line on stderr) when a step fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=2.25,
        help="minutes of training, of which each model takes a share (default: 2.25)",
    )
    minutes = parser.parse_args(arguments).minutes
    if minutes <= 0:
        parser.error(f"--minutes must be above 0, not {minutes}")
    try:
        run_demo(ROOT, minutes)
    except subprocess.CalledProcessError as error:
        print(f"demo: command failed with exit code {error.returncode}: {error.cmd}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
