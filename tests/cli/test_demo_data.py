"""`demo-data` prints what it makes."""

from __future__ import annotations

from megabyte_mm.cli.demo_data import demo_data


def test_demo_data_prints_the_number_of_files_of_each_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("megabyte_mm.demo_data.make_demo_data", lambda folder, seed: {"images": 3, "audio": seed})
    demo_data(str(tmp_path), seed=2)
    assert capsys.readouterr().out == f"{tmp_path / 'images'}: 3 files\n{tmp_path / 'audio'}: 2 files\n"
