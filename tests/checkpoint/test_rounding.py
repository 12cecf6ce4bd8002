"""Weights in fewer bits: how far they move, that a second packing changes nothing, and scales that are missing."""

from __future__ import annotations

import pytest
import torch

from data_adapters import TextAdapter
from megabyte_mm import load_model
from megabyte_mm.checkpoint.exported import CONFIG_FILE, WEIGHTS_FILE, read_exported, write_exported
from megabyte_mm.checkpoint.rounding import SCALE, pack, unpack
from megabyte_mm.export.folder import export_config

SPEC = {"format": 2, "model": {}, "data": {}}


@pytest.fixture
def weights():
    torch.manual_seed(0)
    rows = torch.randn(50, 7) * torch.logspace(-6, 6, 50)[:, None]
    return {"rows": rows, "zeros": torch.zeros(3, 4), "filters": torch.randn(4, 3, 2), "bias": torch.randn(5)}


def test_int8_moves_no_weight_by_more_than_half_a_step_of_its_row(weights):
    found = unpack(pack(weights, "int8"))
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        largest = weight.flatten(1).abs().amax(1) if weight.dim() > 1 else torch.zeros(5)
        step = (largest / 127).reshape(-1, *[1] * (weight.dim() - 1))
        assert ((found[name] - weight).abs() <= 0.51 * step).all()
        assert found[name].dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_what_was_rounded_is_packed_without_a_further_change(weights, precision):
    once = unpack(pack(weights, precision))
    again = unpack(pack(once, precision))
    assert all(torch.equal(again[name], once[name]) for name in weights)


def test_a_folder_of_int8_weights_is_a_quarter_of_the_size_and_loads_as_float32(save_checkpoint, tmp_path):
    bundle = load_model(save_checkpoint(TextAdapter(), window=16, patch_size=16))
    sizes = {}
    for precision in ("float32", "bfloat16", "int8"):
        folder = tmp_path / precision
        folder.mkdir()
        write_exported(folder, export_config(bundle), bundle.model.state_dict(), precision)
        loaded = load_model(folder).model.state_dict()
        assert {weight.dtype for weight in loaded.values()} == {torch.float32}
        sizes[precision] = (folder / WEIGHTS_FILE).stat().st_size
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]


@pytest.mark.parametrize("scale", [None, torch.ones(2), torch.ones(3, 1), torch.ones(3, dtype=torch.int8)])
def test_an_int8_weight_without_its_scales_is_refused_by_name(tmp_path, scale):
    weights = {"a": torch.ones(3, 2, dtype=torch.int8)} | ({} if scale is None else {f"a{SCALE}": scale})
    write_exported(tmp_path, SPEC, weights)
    with pytest.raises(ValueError, match=rf"{WEIGHTS_FILE}: its int8 weight a has no a\{SCALE} with a scale for each"):
        read_exported(tmp_path)


def test_scales_that_are_not_finite_are_refused(save_checkpoint, tmp_path):
    bundle = load_model(save_checkpoint(TextAdapter(), window=16))
    packed = pack(bundle.model.state_dict(), "int8")
    name = next(name for name in packed if name.endswith(SCALE))
    packed[name][0] = float("nan")
    write_exported(tmp_path, export_config(bundle), packed)
    with pytest.raises(ValueError, match=rf"{CONFIG_FILE}: its weights are not finite"):
        load_model(tmp_path)


def test_an_unknown_precision_is_refused(weights):
    with pytest.raises(ValueError, match="--precision int4: must be one of float32, bfloat16, int8"):
        pack(weights, "int4")  # type: ignore[arg-type] # the mistake of a command line
