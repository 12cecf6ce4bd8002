import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import FileAdapter


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=100))
def test_any_file_round_trips(folder, content):
    (folder / "in.xyz").write_bytes(content)
    adapter = FileAdapter()
    adapter.write(adapter.read(folder / "in.xyz"), folder / "out.xyz")
    assert (folder / "out.xyz").read_bytes() == content


def test_a_continuation_keeps_the_suffix_of_its_prefix(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    assert FileAdapter().read(tmp_path / "photo.jpg").format == {"modality": "file", "suffix": ".jpg"}


def test_without_a_prefix_the_suffix_is_that_of_the_settings():
    adapter = FileAdapter(".mid")
    assert adapter.output_suffix == adapter.default_format()["suffix"] == ".mid"


@pytest.mark.parametrize("suffix", ["jpg", "./up", ".a\\b"])
def test_an_invalid_suffix_is_refused(suffix):
    with pytest.raises(ValueError, match="suffix must be"):
        FileAdapter(suffix)
