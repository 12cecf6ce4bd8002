"""`demo-data` prints what it makes."""

from __future__ import annotations

import pytest

from megabyte_mm.cli.demo_data import demo_data


def test_demo_data_prints_the_number_of_files_of_each_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("megabyte_mm.demo_data.make_demo_data", lambda folder, seed: {"images": 3, "audio": seed})
    demo_data(str(tmp_path), seed=2)
    assert capsys.readouterr().out == f"{tmp_path / 'images'}: 3 files\n{tmp_path / 'audio'}: 2 files\n"


def test_pairs_are_written_only_where_they_are_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("megabyte_mm.demo_data.make_demo_data", lambda folder, seed: {"images": 3})
    monkeypatch.setattr("megabyte_mm.demo_data.make_demo_pairs", lambda folder, seed: {"masks": seed})
    demo_data(str(tmp_path / "media"), seed=2, pairs=str(tmp_path / "pairs"))
    assert (
        capsys.readouterr().out
        == f"{tmp_path / 'media' / 'images'}: 3 files\n{tmp_path / 'pairs' / 'masks'}: 2 files\n"
    )


@pytest.mark.parametrize("pairs", ["media", "media/pairs", "media/../media/a/b"])
def test_pairs_inside_the_media_are_refused_before_anything_is_written(tmp_path, pairs):
    with pytest.raises(ValueError, match="^pairs .* is inside .*media"):
        demo_data(str(tmp_path / "media"), pairs=str(tmp_path / pairs))
    assert list(tmp_path.iterdir()) == []
