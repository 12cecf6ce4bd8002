"""Jobs of the playground: the same bytes as `generate`, seen as they grow, and cancelled at once."""

from pathlib import Path

import numpy as np
import pytest

from data_adapters import MediaError
from megabyte_mm import continue_file, load_model
from megabyte_mm.app.generating import generate
from megabyte_mm.app.playground import Job
from megabyte_mm.errors import ArgumentValueError
from megabyte_mm.generation import convert, engine
from megabyte_mm.generation.sampling import sample
from tests.generation.test_records import captions_and_masks


def test_the_files_are_those_of_generate_and_grow_step_by_step(pictures, picture, tmp_path):
    states = list(generate(pictures, Job(picture, keep=0.25, count=2, seed=3), tmp_path / "out", interval=0))
    expected = continue_file(pictures.bundle, picture, keep=0.25, count=2, seed=3)
    lengths = [len(state.samples[1][0].stream.data) for state in states]
    assert lengths == [*range(9, 33), 32]
    assert [state.complete for state in states] == [False] * 24 + [True]
    assert (states[-1].generated, states[-1].total) == (48, 48)
    assert [file.name for file in states[-1].files] == ["grey-000.png", "grey-001.png", "contact_sheet.png"]
    for pieces, data in zip(states[-1].samples, expected.continuations, strict=True):
        assert np.array_equal(pieces[0].stream.data, data)
        assert pieces[0].kept == 8


def test_closing_a_job_ends_the_generation(pictures, tmp_path, monkeypatch):
    steps = []

    def counted(*arguments):
        steps.append(arguments)
        return sample(*arguments)

    monkeypatch.setattr(engine, "sample", counted)
    states = generate(pictures, Job(count=2), tmp_path / "out", interval=0)
    next(states)
    states.close()
    assert len(steps) == 1
    assert not (tmp_path / "out").exists()


def test_a_typed_text_is_continued_and_written(texts, tmp_path):
    *_, last = generate(texts, Job(text="one two", length=8, count=3), tmp_path)
    assert [file.name for file in last.files] == ["sample-000.txt", "sample-001.txt", "sample-002.txt"]
    assert all(file.read_bytes().startswith(b"one two") for file in last.files)


def test_the_second_part_of_a_record_follows_a_typed_first_part(build, tmp_path):
    playground = build(captions_and_masks())
    *_, last = generate(playground, Job(text="a cat", condition="image", count=2, seed=5), tmp_path, interval=0)
    expected = convert(playground.bundle, {"text": "a cat"}, "image", count=2, seed=5)
    assert [file.name for file in last.files] == ["sample-000.png", "sample-001.png", "contact_sheet.png"]
    for [piece], record in zip(last.samples, expected, strict=True):
        assert piece.name == "image"
        assert np.array_equal(piece.stream.data, record.parts["image"].data)


def test_an_uploaded_part_of_a_record_grows_into_the_other(build, tmp_path):
    playground = build(captions_and_masks())
    convert(playground.bundle, {"text": "x"}, "image", count=1)
    *_, last = generate(playground, Job(text="x", condition="text+image", count=1), tmp_path)
    file = tmp_path / "7.image.png"
    last.files[0].rename(file)
    states = list(generate(playground, Job(str(file), condition="mask", count=1), tmp_path, interval=0))
    assert [len(state.samples[0]) for state in states[:1]] == [1]
    assert states[-1].samples[0][0].name == "mask"
    [given] = playground.given(Job(str(file), condition="mask"))
    assert (given.name, given.kept) == ("image", 16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 9}, "count is 9; it must be a number from 1 to 8"),
        ({"count": float("nan")}, "count is nan; it must be a number from 1 to 8"),
        ({"temperature": "hot"}, "temperature is hot; it must be a number from 0.0 to 10.0"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be above 0 and at most 1"),
        ({"keep": 2.0}, "keep is 2.0; it must be a number from 0.0 to 1.0"),
        ({"length": 10**9}, "length is 1000000000; it must be a number from 1 to 16384"),
        ({"seed": -1}, "seed is -1; it must be a number from 0 to 9007199254740992"),
        ({"condition": "dog"}, "condition dog: unknown to this model; it was trained without classes"),
        ({"text": "a" * 20_001}, "text has 20,001 characters; at most 20,000 are used"),
    ],
)
def test_values_out_of_range_are_refused_by_name(texts, values, message, tmp_path):
    with pytest.raises(ArgumentValueError) as error:
        list(generate(texts, Job(**values), tmp_path))
    assert str(error.value) == message


def test_a_text_for_a_model_of_pictures_is_refused(pictures, picture, tmp_path):
    with pytest.raises(ValueError, match="this model continues image files, no text"):
        list(generate(pictures, Job(text="cat"), tmp_path))
    with pytest.raises(ValueError, match="there are a file and a text; give one of them"):
        list(generate(pictures, Job(picture, text="cat"), tmp_path))


def test_a_file_of_another_kind_is_refused_by_its_name_alone(pictures, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"^a\.txt: is of modality text; this model reads image files"):
        list(generate(pictures, Job(str(tmp_path / "a.txt")), tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"^a\.png: is not an image in a supported format"):
        list(generate(pictures, Job(str(tmp_path / "a.png")), tmp_path))


def test_a_class_is_chosen_by_name(save_checkpoint, build, tmp_path):
    from data_adapters import ImageAdapter

    checkpoint = save_checkpoint(ImageAdapter("L", (4, 4), patch=2), window=16, classes=["cat", "dog"])
    playground = build(load_model(checkpoint))
    assert playground.needs_condition
    *_, dog = generate(playground, Job(condition="dog", count=1), tmp_path / "dog")
    *_, cat = generate(playground, Job(condition="cat", count=1), tmp_path / "cat")
    assert not np.array_equal(dog.samples[0][0].stream.data, cat.samples[0][0].stream.data)
    with pytest.raises(ArgumentValueError, match="condition must be one of the classes"):
        list(generate(playground, Job(count=1), Path(tmp_path)))
