import pickle

import numpy as np
import pytest

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, MediaError, TextAdapter

ADAPTERS = [TextAdapter(), FileAdapter(), ImageAdapter(size=(8, 8)), AudioAdapter(rate=8000, channels=1)]


@pytest.mark.parametrize("data", [np.zeros(3, np.int8), np.zeros((3, 1), np.uint8)])
def test_a_stream_must_be_flat_bytes(data):
    with pytest.raises(TypeError, match=r"a stream must be \(n,\) uint8"):
        ByteStream(data, {})


def test_a_media_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(MediaError("a.png", "is truncated")))
    assert (str(error), error.reason) == ("a.png: is truncated", "is truncated")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_missing_files_and_folders_are_refused_in_one_line(adapter, tmp_path):
    for path, reason in ((tmp_path / "missing.wav", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(MediaError) as caught:
            adapter.read(path)
        assert str(caught.value) == f"{path}: cannot be read: {reason}"


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_writing_to_a_missing_folder_is_refused(adapter, tmp_path):
    stream = ByteStream(np.zeros(0, np.uint8), adapter.default_format())
    with pytest.raises(MediaError, match="cannot be written: No such file or directory"):
        adapter.write(stream, tmp_path / "missing" / f"a{adapter.output_suffix}")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_stream_of_another_modality_is_not_written(adapter, tmp_path):
    with pytest.raises(ValueError, match=f"the {adapter.name} adapter cannot write"):
        adapter.write(ByteStream(np.zeros(0, np.uint8), {"modality": "smell"}), tmp_path / "a")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_settings_build_the_adapter_again(adapter):
    again = type(adapter)(**adapter.settings())
    assert again.settings() == adapter.settings()
    assert (again.unit, again.length, again.patch_size) == (adapter.unit, adapter.length, adapter.patch_size)
    assert again.default_format() == adapter.default_format()


@pytest.mark.parametrize(
    ("adapter", "format", "length"),
    [
        (ImageAdapter("RGB", (8, 4)), ImageAdapter("RGB", (8, 4)).default_format(), 96),
        (ImageAdapter("L"), ImageAdapter("L", (12, 8)).default_format(), 96),
        (TextAdapter(), TextAdapter().default_format(), None),
        (AudioAdapter(8000, 2), AudioAdapter(8000, 2).default_format(), None),
    ],
)
def test_a_format_gives_the_length_of_its_streams_where_it_fixes_one(adapter, format, length):
    assert adapter.length_in(format) == length


@pytest.mark.parametrize(("former", "name"), [("whole", "single_window"), ("cut", "last_boundary")])
def test_a_former_name_in_an_adapter_is_refused_rather_than_ignored(former, name):
    with pytest.raises(TypeError, match=rf"^Own\.{former} has been renamed: call it {name}$"):
        type("Own", (FileAdapter,), {former: True, "__qualname__": "Own"})
