"""Playgrounds of untrained models, which end the processes that read files for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.app.limits import Limits
from megabyte_mm.app.playground import Playground

Build = Callable[..., Playground]


@pytest.fixture
def build() -> Iterator[Build]:
    """A playground of a bundle, closed after the test."""
    opened = []

    def build(bundle, **limits) -> Playground:
        opened.append(Playground(bundle, "tiny", Limits(**limits)))
        return opened[-1]

    yield build
    for playground in opened:
        playground.reader.close()


@pytest.fixture
def pictures(save_checkpoint, build) -> Playground:
    """Grey pictures of 8 x 4 pixels."""
    return build(load_model(save_checkpoint(ImageAdapter("L", (8, 4), scan="raster", patch=2), window=32)))


@pytest.fixture
def texts(save_checkpoint, build) -> Playground:
    return build(load_model(save_checkpoint(TextAdapter(), window=24)))


@pytest.fixture
def sounds(save_checkpoint, build) -> Playground:
    return build(load_model(save_checkpoint(AudioAdapter(8000, 1), window=64)), stream_bytes=1000)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A grey picture of the size of `pictures`."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    return str(tmp_path / "grey.png")


class Server:
    """`megabyte-mm app` in a process of its own, since gradio leaves sockets and threads behind when it stops."""

    def __init__(self, checkpoint: Path, *options: str) -> None:
        self.checkpoint = checkpoint
        command = [sys.executable, "-m", "megabyte_mm", "app", str(checkpoint), "--port", "0", "--device", "cpu"]
        self.errors = checkpoint.with_suffix(".errors")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.errors.read_text()

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


@pytest.fixture(scope="session")
def serve(tmp_path_factory, save_checkpoint_in) -> Iterator[Callable[..., Server]]:
    """A server of an untrained model; one of the same name is started once."""
    servers: dict[str, Server] = {}

    def serve(name: str, *arguments, options: tuple[str, ...] = ()) -> Server:
        if name not in servers:
            checkpoint = save_checkpoint_in(tmp_path_factory.mktemp(name), *arguments)
            servers[name] = Server(checkpoint, *options)
        return servers[name]

    yield serve
    for server in servers.values():
        server.close()


@pytest.fixture
def picture_server(serve) -> Server:
    """Grey pictures of up to 200 x 200 pixels: small ones are quick, large ones take many seconds."""
    return serve("pictures", ImageAdapter("L", scan="raster", patch=2), 200 * 200)


@pytest.fixture
def text_server(serve) -> Server:
    """The model of `texts`; uploads have at most one megabyte."""
    return serve("texts", TextAdapter(), 24, options=("--max_upload", "1"))
