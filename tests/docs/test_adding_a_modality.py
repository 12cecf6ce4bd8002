import re
import sys
from pathlib import Path

import numpy as np
import pytest

from data_adapters import ADAPTERS, Adapter, MediaError, adapter_for, build, load_class, register, spec
from megabyte_mm.cli.main import main

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding_a_modality.md"


SMALL = """
  cache_dir: cache
  batch_size: 1
trainer:
  default_root_dir: runs/elevation
  accelerator: cpu
  precision: 32-true
  max_steps: 1
  limit_val_batches: 0
  enable_progress_bar: false
model:
  net:
    patch_size: 8
    global_stack: {dim: 16, layers: 1, heads: 1}
    local_stack: {dim: 8, layers: 1, heads: 1}
"""
"""What makes a training run of the documented config a short one."""


def documented(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def documented_code():
    return documented("python")


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
    assert adapter.last_boundary(stream.data, 9) == 8
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


def test_the_documented_adapter_trains_and_generates_from_the_current_folder(tmp_path, monkeypatch, capfd):
    rng = np.random.default_rng(0)
    (tmp_path / "elevation").mkdir()
    for number in range(3):
        (tmp_path / "elevation" / f"{number}.r16").write_bytes(rng.bytes(2 * 32 * 32))
    (tmp_path / "my_adapters.py").write_text(documented_code()[0], encoding="utf-8")
    (tmp_path / "my.yaml").write_text(documented("yaml")[0].rstrip() + SMALL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_adapters", raising=False)
    assert main(["fit", "--config", "my.yaml"]) == 0, capfd.readouterr().err
    program, *arguments = documented("sh")[0].split()
    assert program == "megabyte-mm"
    assert main([*arguments, "--num_samples", "1", "--length", "2"]) == 0, capfd.readouterr().err
    assert (tmp_path / "out" / "sample-000.r16").stat().st_size == 2 * 32 * 32
