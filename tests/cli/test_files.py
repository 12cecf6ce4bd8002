"""Names for what is made of files."""

import pytest

from megabyte_mm.cli.files import unique_stems


@pytest.mark.parametrize(
    ("files", "stems"),
    [
        (["a.txt", "in/b.png"], ["a", "b"]),
        (["one/a.txt", "two/a.txt"], ["one_a", "two_a"]),
        (["in/a.txt", "in/a.png"], ["a_txt", "a_png"]),
        (["x/a.txt", "x_a.txt", "y/x_a.txt"], ["0_x_a_txt", "1_x_a_txt", "2_y_x_a_txt"]),
    ],
)
def test_different_files_have_different_names_no_longer_than_they_must_be(files, stems):
    assert unique_stems("PATH", files) == stems


def test_a_file_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="PATH names a file twice"):
        unique_stems("PATH", ["a.txt", str(tmp_path / "a.txt")])
