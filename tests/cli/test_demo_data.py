"""`samples` says what it made."""

from __future__ import annotations

from megabyte_mm.cli.demo_data import samples


def test_samples_says_what_it_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("megabyte_mm.demo_data.make_samples", lambda folder, seed: {"images": 3, "audio": seed})
    samples(str(tmp_path), seed=2)
    assert capsys.readouterr().out == f"{tmp_path / 'images'}: 3 files\n{tmp_path / 'audio'}: 2 files\n"
