"""The program `megabyte-mm`: finds the command, reads its arguments, and turns a user's mistake into one line."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from megabyte_mm.cli.packaged import with_config_paths
from megabyte_mm.cli.parser_reports import one_line


class Command(NamedTuple):
    """One word of the command line.

    options: what a signature cannot say, as argparse has it: positionals, lists and flags.
    """

    summary: str
    example: str
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


TRAINING_COMMANDS = {
    "fit": Command(
        "train a model on a folder of files",
        "megabyte-mm fit --config image --data.path photos/\n"
        "  megabyte-mm fit --config image --data.path photos/ --ckpt_path last     (go on after an interruption)\n"
        "  megabyte-mm fit --config my.yaml --trainer.max_steps 20000 --model.optimizer.lr 5e-4",
    ),
    "validate": Command(
        "measure val/bpb of a checkpoint",
        "megabyte-mm validate --config image --data.path photos/ --ckpt_path runs/image/best.ckpt",
    ),
    "test": Command(
        "measure test/bpb of a checkpoint",
        "megabyte-mm test --config image --data.path photos/ --ckpt_path runs/image/best.ckpt",
    ),
}
"""Lightning's commands; megabyte_mm.cli.fit runs them."""

OWN_COMMANDS = {
    "demo-data": Command(
        "make small images, melodies and texts to try everything on", "megabyte-mm demo-data media/", {"folder": {}}
    ),
    "prepare": Command(
        "encode files once, for training from any machine",
        "megabyte-mm prepare photos/ --config image --out s3://bucket/photos\n"
        "  megabyte-mm fit --config image --data.path s3://bucket/photos",
        {"path": {}, "--allow_skipped": {"action": "store_true"}},
    ),
    "generate": Command(
        "generate files from nothing, or continue files",
        "megabyte-mm generate runs/image/best.ckpt --out out/ --num_samples 16\n"
        "  megabyte-mm generate runs/image/best.ckpt --out out/ --prefix a.png b.png --keep 0.5",
        {
            "checkpoint": {},
            "--prefix": {"nargs": "+", "default": [], "metavar": "FILE"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "score": Command(
        "measure what files cost a model, in bits per byte",
        "megabyte-mm score runs/image/best.ckpt photos/ --json scores.json --heatmap heat/\n"
        "  megabyte-mm score runs/text/best.ckpt a.txt b.txt --method plain sliding+strided --curves curves.png",
        {
            "checkpoint": {},
            "path": {"nargs": "+", "metavar": "PATH"},
            "--method": {"nargs": "+", "default": ["plain"], "metavar": "METHOD"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "compress": Command(
        "compress files with a model, without loss",
        "megabyte-mm compress runs/image/best.ckpt photos/ --out photos.mbz\n"
        "  megabyte-mm compress runs/text/best.ckpt a.txt b.txt --out small/",
        {
            "checkpoint": {},
            "file": {"nargs": "+", "metavar": "FILE"},
            "--content_only": {"action": "store_true"},
            "--check": {"action": "store_true"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "decompress": Command(
        "give back the files that were compressed",
        "megabyte-mm decompress runs/image/best.ckpt photos.mbz --out photos/",
        {
            "checkpoint": {},
            "file": {"nargs": "+", "metavar": "FILE"},
            "--content_only": {"action": "store_true"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "report": Command(
        "build one HTML page of a run: curves, samples, other coders",
        "megabyte-mm report runs/image\n  megabyte-mm report runs/text --data texts/ --out text.html",
        {"run": {}},
    ),
    "info": Command(
        "say what a model holds and costs before it is run",
        "megabyte-mm info image\n"
        "  megabyte-mm info paper/text_megabyte --batch_size 6 --json costs.json\n"
        "  megabyte-mm info runs/image/best.ckpt",
        {"model": {}},
    ),
    "export": Command(
        "write a model as a folder for others, with a model card",
        "megabyte-mm export runs/image/best.ckpt shared/image --data photos/val\n"
        "  megabyte-mm generate shared/image --out out/",
        {"checkpoint": {}, "folder": {}, "--overwrite": {"action": "store_true"}},
    ),
    "push": Command(
        "put a model on the Hugging Face hub",
        "megabyte-mm push shared/image user/name\n  megabyte-mm generate user/name --out out/",
        {"model": {}, "to": {}, "--private": {"action": "store_true"}},
    ),
}
"""The command NAME is the typed function NAME of the module megabyte_mm.cli.NAME, with _ for -."""

COMMANDS = TRAINING_COMMANDS | OWN_COMMANDS

ALIASES = {"samples": "demo-data"}
"""Former names of commands, which still work."""

IMPORT_HELP = "A module of your own, imported first: one that registers the model of the checkpoint."

DEBUG = "MEGABYTE_MM_DEBUG"

SHORT_WAIT = ("GOMP_SPINCOUNT", "2000")
"""GNU's OpenMP, which reads it when torch is loaded, lets threads that wait for each other spin about as long as a
small product takes, and then sleep. By default they spin on: beside one busy process on two cores, a training step of
configs/image.yaml then took twice the time (8 against 18 kB/s), and alone it was no faster."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 all done, 2 a user's mistake, told in one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault(*SHORT_WAIT)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")  # file names that are no UTF-8, as they are
    name = ALIASES.get(arguments[0], arguments[0]) if arguments else "--help"
    asks_for_help = name in ("-h", "--help", "--version")
    if not asks_for_help and name not in COMMANDS:
        return _fail("", f"unknown command {name!r}; known: {', '.join(COMMANDS)}")
    try:
        if asks_for_help:
            print(_version() if name == "--version" else _overview())
        else:
            _run(name, arguments[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads on, as after `| head`: Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        if os.environ.get(DEBUG, "0") != "0":
            raise
        return _fail(name, _told(error))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _run(name: str, arguments: list[str]) -> None:
    _find_own_modules()
    if name in TRAINING_COMMANDS:
        from megabyte_mm.cli.fit import run

        run(name, with_config_paths(arguments), TRAINING_COMMANDS)
        return
    from jsonargparse import ArgumentError, ArgumentParser

    from megabyte_mm.cli.arguments import ExamplesFormatter
    from megabyte_mm.errors import ArgumentValueError

    function, command = find_function(name), OWN_COMMANDS[name]
    parser = ArgumentParser(
        prog=f"megabyte-mm {name}",
        exit_on_error=False,
        epilog=f"examples:\n  {command.example}",
        formatter_class=ExamplesFormatter,
    )
    parser.add_function_arguments(function, skip={option.strip("-") for option in command.options})
    helps = _argument_helps(function)
    for option, details in command.options.items():
        parser.add_argument(option, help=helps[option.strip("-")], **details)
    if "checkpoint" in helps or "model" in helps:
        parser.add_argument("--import", metavar="MODULE", help=IMPORT_HELP)
    try:
        values = parser.parse_args(arguments).as_dict()
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    if module := values.pop("import", None):
        _import_own(module)
    try:
        function(**values)
    except ArgumentValueError as error:
        raise ValueError(f"--{error}") from error


def find_function(name: str) -> Callable[..., None]:
    """The function behind one of our own commands."""
    module = name.replace("-", "_")
    function: Callable[..., None] = getattr(importlib.import_module(f"megabyte_mm.cli.{module}"), module)
    return function


def _find_own_modules() -> None:
    """Let what lies in the current folder be imported; an installed program does not look there by itself."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _import_own(module: str) -> None:
    """Raises ValueError where there is no such module; what the module itself raises is its author's to see."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"--import {module}: {error}") from error


def _argument_helps(function: Any) -> dict[str, str]:
    from docstring_parser import parse

    return {
        parameter.arg_name: parameter.description or "" for parameter in parse(inspect.getdoc(function) or "").params
    }


def _overview() -> str:
    commands = "\n".join(f"  {name:<10} {command.summary}" for name, command in COMMANDS.items())
    examples = "\n".join(f"  {command.example.splitlines()[0]}" for command in COMMANDS.values())
    return (
        f"usage: megabyte-mm COMMAND ...\n\nImages, sound and text generated byte by byte with MEGABYTE.\n\n"
        f"commands:\n{commands}\n\nexamples:\n{examples}\n\n"
        f"megabyte-mm COMMAND --help says more. {DEBUG}=1 shows the traceback of an error."
    )


def _version() -> str:
    from importlib.metadata import version

    return f"megabyte-mm {version('megabyte-mm')}"


def _told(error: ValueError | OSError) -> str:
    """What to tell a user: for a file that cannot be opened its name and why, for a bad value the option's name."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return one_line(str(error))


def _fail(command: str, message: str) -> int:
    told = " ".join(message.split())
    print(f"megabyte-mm {command}".rstrip() + f": error: {told}", file=sys.stderr)
    return 2
