"""Train and test a model on a known data set, and print its bits per byte beside the published ones.

Further options are those of `megabyte-mm fit`. docs/benchmarks.md has the data sets and where their files are found.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness.report import Table, describe_machine, one_line
from benchmarks.reference.run import RunError, device, train_and_test, write_result
from benchmarks.reference.sets import REFERENCES, SIZES, Reference

PROG = "python -m benchmarks.reference"


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 2 for a mistake in the arguments or the files, else that of the command that failed."""
    options, further = _options(arguments)
    reference = REFERENCES[options.name]
    machine = describe_machine(device())
    print(one_line(machine), flush=True)
    out = options.out or Path("runs", "reference", f"{reference.name}-{options.size}")
    try:
        data = reference.prepare(options.data, out / "data") if reference.prepare else options.data
        result = train_and_test(reference, options.size, data, out, options.minutes, further)
        path = write_result(out, result, machine)
    except RunError as error:
        return error.code
    except (ValueError, OSError) as error:
        print(f"{PROG}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"\n{_table(reference, result).text()}\n\n{path}")
    return 0


def _table(reference: Reference, result: dict[str, Any]) -> Table:
    table = Table(reference.title, ("model", "bits per byte", "parameters", "steps", "bytes seen", "seconds"))
    ours = f"megabyte-mm, size {result['size']}, {result['method']}"
    table.rows.append(
        (
            ours,
            f"{result['bits_per_byte']:.4f}",
            result["parameters"],
            result["steps"],
            result["bytes_seen"],
            result["training"]["seconds"],
        )
    )
    table.rows += [
        (figure.model, f"{figure.bits_per_byte:g}", None, None, None, None) for figure in reference.published
    ]
    measured = f"{result['split_bytes']:,} bytes of {result['split']}, {result['split_files']:,} file(s)"
    if result["is_published_split"] is False:
        table.notes.append(f"Measured on {measured}: not the published split, so that the figures do not compare.")
    else:
        table.notes.append(f"Measured on {measured}.")
    if result["split"] == "val":
        table.notes.append("There is no test split: the checkpoint was chosen by the files that it is measured on.")
    table.notes += reference.notes
    return table


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("name", choices=REFERENCES, help="the data set")
    add("--data", required=True, help="its files: a path or hf://user/name, as data.path of fit takes it")
    add("--size", choices=SIZES, default="gpu", help="cpu: a smaller model and batch (default: gpu)")
    add("--minutes", type=float, help="of training, in place of the number of steps of the config")
    add("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/reference/NAME-SIZE)")
    options, further = parser.parse_known_args(arguments)
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        parser.error(f"--minutes must be a number above 0, not {options.minutes}")
    if stray := [option for option in further if not option.startswith("--") or "=" not in option]:
        parser.error(f"{stray[0]}: options of fit are written as --section.name=value")
    return options, further


if __name__ == "__main__":
    sys.exit(main())
