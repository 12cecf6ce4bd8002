import re
import sys
from pathlib import Path

import numpy as np
import pytest

from data_adapters import ADAPTERS, Adapter, MediaError, adapter_for, build, load_class, register, spec

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding_a_modality.md"


def documented_code():
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def heightmap(tmp_path, monkeypatch) -> type[Adapter]:
    (tmp_path / "my_adapters.py").write_text(documented_code()[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_adapters", raising=False)
    return load_class("my_adapters.HeightmapAdapter")


@pytest.fixture
def grid(tmp_path):
    heights = np.random.default_rng(0).integers(0, 65536, (3, 5), dtype=np.uint16)
    (tmp_path / "alps.r16").write_bytes(heights.astype("<u2").tobytes())
    return heights


def test_the_documented_adapter_is_short():
    (code,) = documented_code()
    assert len(code.splitlines()) < 40


def test_the_documented_adapter_round_trips_a_file(heightmap, grid, tmp_path):
    adapter = heightmap(width=5, height=3)
    stream = adapter.read(tmp_path / "alps.r16")
    assert (stream.data[0], stream.data[1]) == divmod(int(grid[0, 0]), 256)
    assert len(stream.data) == adapter.length == 30
    adapter.write(stream, tmp_path / "again.r16")
    assert (tmp_path / "again.r16").read_bytes() == (tmp_path / "alps.r16").read_bytes()


def test_the_documented_adapter_writes_a_prefix_and_cuts_between_heights(heightmap, grid, tmp_path):
    adapter = heightmap(width=5, height=3)
    stream = adapter.read(tmp_path / "alps.r16")
    assert adapter.cut(stream.data, 9) == 8
    adapter.write(type(stream)(stream.data[:9], stream.format), tmp_path / "part.r16")
    expected = np.where(np.arange(15).reshape(3, 5) < 4, grid, 0)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "part.r16", "<u2").reshape(3, 5), expected)


def test_the_documented_adapter_refuses_other_files_in_one_line(heightmap, grid, tmp_path):
    with pytest.raises(MediaError, match=r"alps\.r16: has 30 bytes, not 8192 as 64x64 heights$"):
        heightmap().read(tmp_path / "alps.r16")
    with pytest.raises(MediaError, match=r"missing\.r16: cannot be read: No such file or directory$"):
        heightmap().read(tmp_path / "missing.r16")


def test_the_documented_adapter_is_built_again_from_its_spec(heightmap, monkeypatch):
    monkeypatch.setitem(ADAPTERS, "heightmap", heightmap)
    register(heightmap)
    adapter = build(**spec(heightmap(width=7, height=2)))
    assert adapter.settings() == {"width": 7, "height": 2}
    assert isinstance(adapter_for("alps.r16"), heightmap)
