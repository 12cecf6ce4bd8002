"""jsonargparse's reports, of up to twenty lines, as one line: the option, its value, and the reason."""

from __future__ import annotations

import re

_KEY = re.compile(r'Parser key "([^"]+)"')
_VALUE = re.compile(r"(?:Got|Given) value: (.*)")
_EXPECTED = re.compile(r"Expected (?:an? )?(?:<class '([\w.]+)'>|typing\.(Literal\[[^]]*\]|[^.]+))")
_SUBCLASS = re.compile(r"Not a valid subclass of (\w+)")
_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '([\w.]+)'")
_FRAME = (
    *("Parser key ", "Problem with given class_path ", "Does not validate", "Subtypes:", "Errors:", "Given value"),
    *("Subclass types expect", "a class path (str)", "a dict with", "Expected a path but"),
)
"""Beginnings of lines without a reason."""


def one_line(report: str) -> str:
    """The report as one line; one of another form stays as it is."""
    if group := _GROUP.search(report):
        return f"--{group[1]}.{group[2]}: no such option"
    option = "--" + ".".join(_KEY.findall(report))
    value = _VALUE.search(report)
    shown = f"{option} {_innermost(value[1])}" if value else option
    if kind := _SUBCLASS.search(report):
        return f"{shown}: expected the settings of {kind[1]}, or class_path and init_args"
    if reason := _reason(report):
        return f"{option}: {reason}" if option != "--" else reason
    types = [name or special for name, special in _EXPECTED.findall(report) if name != "NoneType"]
    return f"{shown}: expected {' or '.join(types)}" if types and option != "--" else report


def _reason(report: str) -> str | None:
    """The first line beside the frame that is not about a type; None for a report without a frame."""
    lines = [line.strip().removeprefix("- ") for line in report.splitlines()]
    if len(lines) == 1 or not any(line.startswith(_FRAME) for line in lines):
        return None
    return next((line for line in lines if line and not line.startswith(_FRAME) and not _EXPECTED.match(line)), None)


def _innermost(value: str) -> str:
    nested = re.fullmatch(r"NestedArg\(key=.*, val='?(.*?)'?\)", value)
    return nested[1] if nested else value
