"""Texts: modules of the standard library, byte for byte, chosen by name."""

import sysconfig
from pathlib import Path

import pytest

from megabyte_mm.demo_data import texts
from megabyte_mm.demo_data.texts import TRAIN_BYTES, VAL_BYTES, choose_sources


def test_splits_are_disjoint_and_have_the_documented_sizes():
    chosen = choose_sources(seed=0)
    assert not chosen["train"].keys() & chosen["val"].keys()
    for split, budget in (("train", TRAIN_BYTES), ("val", VAL_BYTES)):
        assert budget <= sum(map(len, chosen[split].values())) < budget + texts.MAX_BYTES
    assert choose_sources(seed=1).keys() == chosen.keys()
    assert choose_sources(seed=1) != chosen


def test_modules_are_copied_byte_for_byte_without_tests_and_tables():
    library = Path(sysconfig.get_paths()["stdlib"])
    for modules in choose_sources(seed=0).values():
        for name, text in modules.items():
            path = library.joinpath(*name.removesuffix(".py").split(".")).with_suffix(".py")
            assert text == path.read_bytes()
            assert texts.SKIPPED.isdisjoint(path.relative_to(library).parts)


def test_the_split_of_a_module_does_not_depend_on_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setattr(texts, "VAL_BYTES", 10_000)
    for index in range(40):
        (tmp_path / f"module{index}.py").write_text("pass\n" * 300)
    before = choose_sources(seed=0)
    (tmp_path / f"{next(iter(before['train']))}").unlink()
    after = choose_sources(seed=0)
    assert after["val"] == before["val"]
    assert after["train"].keys() < before["train"].keys()


def test_a_python_without_its_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        choose_sources(seed=0)
