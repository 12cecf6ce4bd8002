"""Which bits belong to which pixel, sample and byte."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from matplotlib import colormaps
from matplotlib.colors import to_rgba_array
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter
from megabyte_mm.evaluation.heatmaps import heatmap


@pytest.mark.parametrize("scan", ["patch", "raster"])
def test_a_pixel_has_the_bits_of_its_own_channels(scan, tmp_path):
    height, width = 7, 10  # squares of 4 are cut at both edges
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    adapter = ImageAdapter("RGB", scan=scan, patch=4)
    stream = adapter.read(tmp_path / "a.png")
    bits = stream.data / 100  # each byte's cost identifies it
    figure = heatmap(adapter, stream, np.append(bits, 5.0), "a.png")
    cost = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_allclose(cost, pixels.sum(axis=2) / 100)
    assert "END 5.0 bits" in figure.texts[0].get_text()


@pytest.mark.parametrize("encoding", ["pcm16", "mulaw"])
def test_a_sample_has_the_bits_of_its_own_bytes(encoding, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.arange(40, dtype=np.int16).reshape(20, 2) * 99, 8000, subtype="PCM_16")
    adapter = AudioAdapter(encoding=encoding)
    stream = adapter.read(tmp_path / "a.wav")
    bits = np.random.default_rng(0).uniform(0, 8, len(stream.data))
    figure = heatmap(adapter, stream, bits)
    width = {"pcm16": 2, "mulaw": 1}[encoding]
    second = next(axes for axes in figure.axes if axes.get_ylabel() == "channel 2")
    expected = bits.reshape(20, 2, width)[:, 1].sum(axis=1) / (8 * width)
    np.testing.assert_allclose(to_rgba_array(second.collections[0].get_edgecolor()), colormaps["plasma"](expected))


def test_any_other_adapter_has_a_map_of_its_bytes(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(70)))
    stream = FileAdapter().read(tmp_path / "a.bin")
    figure = heatmap(FileAdapter(), stream, np.arange(70.0))
    assert np.asarray(figure.axes[0].images[0].get_array())[1, :6].tolist() == [64, 65, 66, 67, 68, 69]
