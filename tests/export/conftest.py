"""Processes of a user's own, which know no network but the hub they are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.export.stand_in import TOKEN, StandIn, stand_in

ROOT = Path(__file__).parents[2]

COMMANDS = """
import contextlib, io, json, os, sys
from megabyte_mm.cli.main import main

results = []
for arguments in json.load(sys.stdin):
    while "=" in arguments[0]:
        os.environ.update([arguments.pop(0).split("=", 1)])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""
"""Importing torch once instead of for each command saves most of the time."""

NO_NETWORK = """
import socket

def refuse(*arguments, **options):
    raise AssertionError("asked the network")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture
def program(tmp_path) -> Callable[..., list[Done]]:
    """Runs commands one after the other in a fresh process, in tmp_path: [[NAME=VALUE ..., word ...], ...]."""

    def run(commands: Sequence[Sequence[str]], before: str = "", **environment: str) -> list[Done]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        own["HF_HUB_DISABLE_XET"] = "1"  # its storage speaks a protocol of its own, of which the hub needs none
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning:huggingface_hub", "-c", before + COMMANDS],
            cwd=tmp_path,
            env={**kept, **own, **environment},
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [Done(*one) for one in json.loads(done.stdout)]

    return run


@pytest.fixture
def online(hub) -> dict[str, str]:
    """The environment of somebody whom the hub knows."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
