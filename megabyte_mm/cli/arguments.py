"""The command line of a function: a parser built from its signature and docstring, and the device option."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from docstring_parser import parse
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from megabyte_mm.cli.commands import Command

IMPORT_HELP = "A module of your own that is imported first, such as one that registers the model of the checkpoint."


class ExamplesFormatter(DefaultHelpFormatter):
    """Keeps the line breaks of the examples at the end; fills all other text as usual."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


def parse_arguments(
    name: str, command: Command, function: Callable[..., None], arguments: Sequence[str]
) -> dict[str, Any]:
    """The typed arguments of `function`, and "import" if the command reads a model. Raises ValueError for mistakes."""
    parser = ArgumentParser(
        prog=f"megabyte-mm {name}",
        exit_on_error=False,
        epilog=f"examples:\n  {command.example}",
        formatter_class=ExamplesFormatter,
    )
    parser.add_function_arguments(function, skip={option.strip("-") for option in command.options})
    helps = argument_helps(function)
    for option, details in command.options.items():
        parser.add_argument(option, help=helps[option.strip("-")], **details)
    if "checkpoint" in helps or "model" in helps:
        parser.add_argument("--import", metavar="MODULE", help=IMPORT_HELP)
    try:
        values: dict[str, Any] = parser.parse_args(list(arguments)).as_dict()
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    return values


def argument_helps(function: Callable[..., None]) -> dict[str, str]:
    """The help of each argument, from the docstring."""
    return {param.arg_name: param.description or "" for param in parse(inspect.getdoc(function) or "").params}


def pick_device(name: str) -> str:
    """The device of that name; the first accelerator, or cpu, for auto. Raises ValueError for one that is missing."""
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return name
