"""Small models of the demo data."""

import pytest

from data_adapters import ImageAdapter
from megabyte_mm import load_model
from megabyte_mm.demo_data import make_demo_data, make_demo_pairs
from megabyte_mm.notebook import small_checkpoint, small_data, small_model


def test_a_model_is_trained_by_the_first_call_only(tmp_path):
    media = tmp_path / "media"
    make_demo_data(media, pictures=20, melodies=1)
    best = small_checkpoint("image", media, tmp_path / "run", steps=1, scan="raster")
    written = best.stat().st_mtime_ns
    assert small_checkpoint("image", media, tmp_path / "run", steps=1) == best
    assert best.stat().st_mtime_ns == written
    adapter = load_model(best).adapter
    assert isinstance(adapter, ImageAdapter)
    assert (adapter.scan, adapter.size) == ("raster", (32, 32))


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_every_modality_has_a_model_that_fits_its_data(tmp_path, modality):
    make_demo_data(tmp_path / "media", pictures=20, melodies=1)
    data = small_data(modality, tmp_path / "media")
    data.setup()
    net = data.geometry.resolve(small_model(modality).net)
    assert net.max_len == data.geometry.window


@pytest.mark.parametrize(
    ("kind", "orders"), [("captions", [("text", "image"), ("image", "text")]), ("notes", [("audio", "text")])]
)
def test_records_have_a_model_of_each_order(tmp_path, kind, orders):
    make_demo_pairs(tmp_path / "pairs", pictures=8, melodies=4)
    bundle = load_model(small_checkpoint(kind, tmp_path / "pairs", tmp_path / "run", steps=1))
    assert list(bundle.orders[1:]) == orders
    assert bundle.reads_records
