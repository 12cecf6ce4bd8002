"""Bits of files on the playground: those of `score`, beside other coders on the same bytes."""

import numpy as np
import pytest
import soundfile

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm import load_model, score_files
from megabyte_mm.app.bits import measure
from megabyte_mm.app.display import bits_view
from megabyte_mm.app.playground import Job
from megabyte_mm.evaluation import CODECS, content_of
from tests.generation.test_records import captions_and_masks


def test_the_bits_of_a_picture_are_those_of_score_beside_png_and_xz(pictures, picture):
    bits = measure(pictures, Job(picture))
    [scored] = score_files(pictures.bundle, [picture])
    assert bits.model == pytest.approx(scored.score.bits_per_byte)
    png = next(codec for codec in CODECS if codec.name == "PNG")
    assert set(bits.codecs) == {"PNG", "xz"}
    assert bits.codecs["PNG"] == png.bits_per_byte([content_of(pictures.bundle.adapter, scored.stream)])
    assert bits.picture.startswith(b"\x89PNG")


def test_sound_stands_beside_flac(sounds, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.arange(200, dtype=np.int16), 8000)
    assert set(measure(sounds, Job(str(tmp_path / "a.wav"))).codecs) == {"FLAC", "xz"}


def test_of_a_long_text_the_first_characters_are_measured(save_checkpoint, build):
    playground = build(load_model(save_checkpoint(TextAdapter(), window=24)), scored_bytes=100)
    bits = measure(playground, Job(text="ä" * 51 + "x"))
    assert (bits.size, bits.note) == (100, "the first 100 of 103 bytes")
    assert "<html" in bits.page


def test_a_typed_text_is_text_on_the_page_not_markup(texts):
    html = bits_view(measure(texts, Job(text="<script>1</script>")))
    assert "<script" not in html
    assert "&lt;script" not in html  # escaped once for the frame's page, and once for its attribute
    assert "sandbox" in html


def test_nothing_and_an_empty_file_are_refused(texts, tmp_path):
    with pytest.raises(ValueError, match="give a file or a text first"):
        measure(texts, Job())
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a\.txt: is empty; there is no byte to measure"):
        measure(texts, Job(str(tmp_path / "a.txt")))


def test_a_part_that_is_read_in_records_only_is_refused(build):
    playground = build(captions_and_masks())
    with pytest.raises(ValueError, match="this model reads text only in records"):
        measure(playground, Job(text="a cat", condition="text+image"))


def test_a_picture_that_exceeds_the_window_is_refused(save_checkpoint, build, tmp_path, picture):
    playground = build(load_model(save_checkpoint(ImageAdapter("L", patch=2), window=16)))
    with pytest.raises(ValueError, match=r"^grey\.png: its 32 bytes do not fit into the window of 16"):
        measure(playground, Job(picture))
