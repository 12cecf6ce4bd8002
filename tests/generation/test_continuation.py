"""Files continued from Python."""

import numpy as np
import pytest
from PIL import Image

from data_adapters import AudioAdapter, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.cli.generate import generate
from megabyte_mm.generation import continue_file, prefix_request

RGB, STEREO = ImageAdapter("RGB", (4, 4)), AudioAdapter(8000, 2)
THREE_CHANNELS = AudioAdapter(8000, 3).default_format()


def stream(data, format):
    return ByteStream(np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.zeros(data, np.uint8), format)


@pytest.mark.parametrize(
    ("adapter", "whole", "keep", "length", "prefix_length", "to_generate"),
    [
        (RGB, stream(48, RGB.default_format()), None, None, 24, 24),
        (RGB, stream(48, RGB.default_format()), 0.1, 7, 3, 9),  # 4.8 bytes: one pixel; 7: three pixels
        (STEREO, stream(200, STEREO.default_format()), None, 41, 200, 44),
        (STEREO, stream(40, STEREO.default_format()), 0.37, None, 12, 64),
        (AudioAdapter(), stream(60, THREE_CHANNELS), 0.47, 7, 24, 12),  # 28.2 bytes: four frames of 6
        (TextAdapter(), stream("€€".encode(), {"modality": "text"}), 0.8, 2, 3, 2),
        (TextAdapter(), stream(b"", {"modality": "text"}), None, None, 0, 64),
    ],
)
def test_prefixes_and_lengths_are_whole_pixels_frames_and_characters(
    adapter, whole, keep, length, prefix_length, to_generate
):
    request = prefix_request(adapter, whole, "a", 64, keep, length)
    assert (len(request.prefix), request.length) == (prefix_length, to_generate)


@pytest.mark.parametrize(
    ("keep", "length", "reason"),
    [
        (1.0, None, "keep leaves nothing to generate of cat"),
        (None, 25, "length 25: only 24 bytes are left to the end of cat"),
        *[(keep, None, f"keep is {keep}; it must be between 0 and 1") for keep in (-0.1, 1.1, float("nan"))],
    ],
)
def test_a_prefix_leaves_room_for_its_continuation(keep, length, reason):
    with pytest.raises(ValueError, match=reason):
        prefix_request(RGB, stream(48, RGB.default_format()), "cat", 64, keep, length)


def test_the_bytes_are_those_that_generate_writes(save_checkpoint, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    checkpoint = save_checkpoint(ImageAdapter(mode="L", size=(4, 4), patch=2), window=16)
    bundle = load_model(checkpoint)
    made = continue_file(bundle, tmp_path / "cat.png", count=2, temperature=0.8, top_p=0.9, seed=3)
    assert made.original is not None
    assert (len(made.prefix), [len(data) for data in made.continuations], len(made.original)) == (8, [16, 16], 16)
    assert all((data[:8] == made.original[:8]).all() for data in made.continuations)
    out, files = tmp_path / "out", [str(tmp_path / "cat.png")]
    generate(str(checkpoint), str(out), prefix=files, num_samples=2, temperature=0.8, top_p=0.9, seed=3)
    written = [bundle.adapter.read(out / f"cat-00{number}.png").data for number in range(2)]
    np.testing.assert_array_equal(made.continuations, written)


def test_a_text_is_cut_between_characters_and_continued_by_length_bytes(save_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_text("ab€cd")
    bundle = load_model(save_checkpoint(TextAdapter(), window=16))
    made = continue_file(bundle, tmp_path / "a.txt", keep=0.5, length=5, count=3, temperature=2.0)
    assert made.prefix.tobytes() == b"ab"
    assert {len(data) for data in made.continuations} <= set(range(2, 8))
    assert len({data.tobytes() for data in made.continuations}) > 1
    with pytest.raises(ValueError, match="keep is 2; it must be between 0 and 1"):
        continue_file(bundle, tmp_path / "a.txt", keep=2)
    with pytest.raises(ValueError, match="length is 0; it must be at least 1"):
        continue_file(bundle, tmp_path / "a.txt", length=0)
    with pytest.raises(ValueError, match="count is -1; it must be at least 1"):
        continue_file(bundle, tmp_path / "a.txt", count=-1)


def test_a_class_is_chosen_by_name_and_required(save_checkpoint, tmp_path):
    (tmp_path / "a.txt").write_text("abcd")
    bundle = load_model(save_checkpoint(TextAdapter(), window=64, classes=["cat", "dog"]))
    results = [
        continue_file(bundle, tmp_path / "a.txt", keep=0, length=40, count=1, condition=name).continuations[0].tobytes()
        for name in ("cat", "dog")
    ]
    assert results[0] != results[1]
    with pytest.raises(
        ValueError, match="condition must be one of the classes that this model was trained with: cat, dog"
    ):
        continue_file(bundle, tmp_path / "a.txt")
    with pytest.raises(ValueError, match="condition cow: unknown to this model; it knows cat, dog"):
        continue_file(bundle, tmp_path / "a.txt", condition="cow")
