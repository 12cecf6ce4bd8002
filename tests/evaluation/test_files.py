"""Files scored from Python."""

import json

import numpy as np
import pytest

from data_adapters import TextAdapter
from megabyte_mm import load_model
from megabyte_mm.cli.score import score
from megabyte_mm.evaluation import bits_by_position, bits_per_byte, score_files


def test_the_figures_are_those_of_score(save_checkpoint, tmp_path):
    checkpoint, files = save_checkpoint(TextAdapter(), window=16), [tmp_path / "a.txt", tmp_path / "b.txt"]
    for number, file in enumerate(files):
        file.write_bytes(bytes(range(97, 97 + 20 + number)))
    scored = score_files(load_model(checkpoint), files, method="strided")
    score(str(checkpoint), [str(file) for file in files], method=["strided"], json=str(tmp_path / "out.json"))
    results = json.loads((tmp_path / "out.json").read_text())
    each = [file["bits_per_byte"]["strided"] for file in results["files"]]
    assert [file.score.bits_per_byte for file in scored] == pytest.approx(each, rel=1e-3)
    assert bits_per_byte([file.score for file in scored]) == pytest.approx(
        results["total"]["bits_per_byte"]["strided"], rel=1e-3
    )


def test_bits_are_of_all_symbols_and_positions_in_the_patch_and_the_window(save_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 21)
    bundle = load_model(save_checkpoint(TextAdapter(), window=16))
    (file,) = scored = score_files(bundle, [tmp_path / "a.txt"])
    assert (file.path, file.bits.shape, len(file.stream.data)) == (tmp_path / "a.txt", (22,), 21)
    np.testing.assert_allclose(file.bits, file.score.nats / np.log(2), rtol=1e-6)
    in_patch, in_window = bits_by_position(bundle, scored)
    assert (in_patch.shape, in_window.shape) == ((4,), (16,))
    np.testing.assert_allclose(in_patch[3], (file.score.nats / np.log(2))[3::4].mean(), rtol=1e-5)


def test_the_class_changes_the_bits(save_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_text("of a class")
    bundle = load_model(save_checkpoint(TextAdapter(), window=24, classes=["cat", "dog"]))
    (cat,), (dog,) = (score_files(bundle, [tmp_path / "a.txt"], condition=name) for name in ("cat", "dog"))
    assert not np.allclose(cat.bits, dog.bits)


def test_a_batch_holds_at_least_a_window(save_checkpoint, tmp_path):
    bundle = load_model(save_checkpoint(TextAdapter(), window=16))
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        score_files(bundle, [], batch_size=0)
