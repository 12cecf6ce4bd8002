"""Playgrounds of untrained models, which end the processes that read files for them."""

from __future__ import annotations

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
