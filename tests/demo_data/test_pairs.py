"""Pairs: captions, masks and notes that are true, in the layout that the packaged configs read."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.data.part_files import PartRule, find_parts
from megabyte_mm.demo_data import make_demo_data, make_demo_pairs
from megabyte_mm.demo_data.melodies import NAMES, PERIODS, STEP
from megabyte_mm.demo_data.pairs import GROUND_NAMES, INK_NAMES, make_figures
from megabyte_mm.demo_data.pictures import GROUNDS, INKS, SHAPES


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "pairs"
    make_demo_pairs(folder, pictures=96, melodies=16)
    return folder


def test_a_caption_names_the_colours_the_shape_and_the_place(pairs):
    for path in pairs.glob("captions/*/*.png"):
        pixels = np.array(Image.open(path)).astype(int)
        words, place = path.with_suffix(".txt").read_text().split(", ")
        _, ink, shape, _, ground = words.split(" ", 4)
        is_ink = np.all(pixels == INKS[INK_NAMES.index(ink)], axis=2)
        is_ground = np.all(pixels == GROUNDS[GROUND_NAMES.index(ground)], axis=2)
        np.testing.assert_array_equal(is_ink, ~is_ground)
        assert shape in SHAPES
        rows, columns = (np.flatnonzero(is_ink.any(axis=axis)).mean() - 7.5 for axis in (1, 0))
        vertical = "upper" if rows < -2 else "lower" if rows > 2 else ""
        horizontal = "left" if columns < -2 else "right" if columns > 2 else ""
        names = {"upper": "top", "lower": "bottom", "": "middle"}
        assert place == (f"{vertical} {horizontal}".strip() if horizontal else names[vertical])


def test_two_sizes_share_each_caption():
    figures, _ = make_figures(1260, 0, np.random.default_rng(0))
    assert len({figure.caption for figure in figures}) == 630
    assert len({figure.pixels.tobytes() for figure in figures}) == 1260


def test_no_validation_picture_has_a_caption_that_is_trained_on():
    train, val = make_figures(1121, 137, np.random.default_rng(0))
    assert (len(train), len(val)) == (1121, 137)
    assert not {figure.caption for figure in train} & {figure.caption for figure in val}


def test_a_mask_is_white_where_its_picture_has_the_shape(pairs):
    for path in pairs.glob("masks/*/*.image.png"):
        picture, mask = np.array(Image.open(path)), np.array(Image.open(str(path).replace(".image.", ".mask.")))
        assert mask.shape == (16, 16)
        assert set(np.unique(mask)) == {0, 255}
        assert {tuple(pixel) for pixel in picture[mask == 255]} <= set(INKS)
        assert {tuple(pixel) for pixel in picture[mask == 0]} <= set(GROUNDS)


def test_notes_are_those_of_the_melody(pairs):
    for path in pairs.glob("melodies/*/*.wav"):
        sound, _ = soundfile.read(path, dtype="int16")
        notes = path.with_suffix(".txt").read_text().split()
        assert len(sound) == 7 * STEP <= 8192  # the window of pairs_audio_text
        heard = [_note(sound[start : start + STEP]) for start in range(0, len(sound), STEP)]
        assert _without_repeats(heard) == _without_repeats(notes)


def _note(sound) -> str:
    sound = sound[: STEP // 2]  # of one loudness
    periods = [index for index, period in enumerate(PERIODS) if np.array_equal(sound[period:], sound[:-period])]
    return NAMES[periods[-1]]  # the shortest


def _without_repeats(notes):
    return [note for index, note in enumerate(notes) if index == 0 or notes[index - 1] != note]


def test_each_folder_is_read_as_pairs_in_their_splits(pairs):
    image, text = ImageAdapter("RGB", (16, 16)), TextAdapter()
    mask = ImageAdapter("L", (16, 16))
    rules = {
        "captions": {"text": PartRule(text), "image": PartRule(image)},
        "masks": {"image": PartRule(image, suffix=".image.png"), "mask": PartRule(mask, suffix=".mask.png")},
        "melodies": {"audio": PartRule(AudioAdapter()), "text": PartRule(text)},
    }
    for kind, parts in rules.items():
        first, second = find_parts(str(pairs / kind), parts).values()
        keys = sorted((first.keys or {}).values())
        assert keys == sorted((second.keys or {}).values())
        train = [key for key in keys if key.startswith("train/")]
        assert (len(train), len(keys)) == ((16, 18) if kind == "melodies" else (96, 108))


def test_more_pictures_than_there_are_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there are 1260 different pictures with captions, fewer than 1121 and 141"):
        make_demo_pairs(tmp_path / "pairs", pictures=1121)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_demo_data_is_no_folder_of_pairs(tmp_path):
    make_demo_data(tmp_path / "media", pictures=0, melodies=0)
    with pytest.raises(ValueError, match="media: generated with"):
        make_demo_pairs(tmp_path / "media", pictures=0, melodies=0)
