"""`generate` from end to end, on untrained models of every modality."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.alphabet import END
from megabyte_mm.cli.generate import generate
from megabyte_mm.cli.main import main
from megabyte_mm.generation import engine
from megabyte_mm.generation.sampling import sample


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def save_image(path: Path, width: int, height: int, mode: str = "L") -> np.ndarray:
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def save_sound(path: Path, frames: int, rate: int = 8000, channels: int = 1) -> np.ndarray:
    wave = np.random.default_rng(0).integers(-9000, 9000, (frames, channels)).astype(np.int16)
    soundfile.write(path, wave, rate, subtype="PCM_16")
    return wave


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def grey_model(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", (8, 4), scan="raster", patch=2), window=32))


@pytest.fixture
def sound_model(save_checkpoint) -> str:
    return str(save_checkpoint(AudioAdapter(8000, 2), window=64, patch_size=8))


@pytest.fixture
def text_model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24))


@pytest.fixture
def no_end(monkeypatch):
    """A model that never ends by itself, for tests that count bytes."""

    def without_end(logits, uniform, sampling):
        return sample(logits, uniform, replace(sampling, allow_end=False))

    monkeypatch.setattr(engine, "sample", without_end)


# Pictures


def test_pictures_without_a_prefix(grey_model, tmp_path, capsys):
    generate(grey_model, str(tmp_path / "out"), num_samples=3)
    expected = ["contact_sheet.png", "sample-000.png", "sample-001.png", "sample-002.png"]
    assert names(tmp_path / "out") == expected
    assert {opened(tmp_path / "out" / name).shape for name in expected[1:]} == {(4, 8)}
    out, err = capsys.readouterr()
    assert sorted(out.split()) == [str(tmp_path / "out" / name) for name in expected]
    assert err.startswith("generated 96 bytes in ")


def test_half_of_a_picture_is_kept_and_the_rest_generated(grey_model, tmp_path):
    pixels = save_image(tmp_path / "cat.png", 8, 4)
    generate(grey_model, str(tmp_path / "out"), prefix=[str(tmp_path / "cat.png")], num_samples=2)
    assert names(tmp_path / "out") == ["cat-000.png", "cat-001.png", "contact_sheet.png"]
    first, second = (opened(tmp_path / "out" / f"cat-00{number}.png") for number in range(2))
    np.testing.assert_array_equal(first[:2], pixels[:2])
    np.testing.assert_array_equal(second[:2], pixels[:2])
    assert not np.array_equal(first[2:], second[2:])
    sheet = opened(tmp_path / "out" / "contact_sheet.png")
    tile = (sheet.shape[1] - 5 * 2) // 4  # the prefix, two continuations, the original
    np.testing.assert_array_equal(sheet[2:-2:14, 2 + 3 * (tile + 2) : -2 : 14, 0], pixels)


def test_a_picture_of_another_size_is_converted_with_a_note(grey_model, tmp_path, capsys):
    save_image(tmp_path / "wide.png", 20, 10, "RGB")
    generate(grey_model, str(tmp_path / "out"), prefix=[str(tmp_path / "wide.png")], num_samples=1)
    assert opened(tmp_path / "out" / "wide-000.png").shape == (4, 8)
    err = capsys.readouterr().err
    assert f"{tmp_path / 'wide.png'}: resized from 20x10 to 8x4\n" in err


@pytest.fixture
def native_model(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", patch=2), window=64))


def test_a_continuation_has_the_size_of_its_own_prefix(native_model, tmp_path, monkeypatch):
    bias = torch.zeros(257)
    bias[END] = 20.0

    monkeypatch.setattr(engine, "sample", lambda logits, *arguments: sample(logits + bias, *arguments))
    sizes = {"tall": (4, 8), "flat": (10, 2), "odd": (5, 3)}
    prefixes = [tmp_path / f"{name}.png" for name in sizes]
    for path, (width, height) in zip(prefixes, sizes.values(), strict=True):
        save_image(path, width, height)
    generate(native_model, str(tmp_path / "out"), prefix=[str(path) for path in prefixes], num_samples=2)
    bundle = load_model(native_model)
    for path, (width, height) in zip(prefixes, sizes.values(), strict=True):
        before = bundle.adapter.read(path).data[: width * height // 2]
        streams = [bundle.adapter.read(tmp_path / "out" / f"{path.stem}-00{number}.png") for number in range(2)]
        for stream in streams:
            assert (stream.format["width"], stream.format["height"]) == (width, height)
            assert stream.data[: len(before)].tolist() == before.tolist()
        # END is never sampled where the size is known: missing pixels would be black in both.
        assert streams[0].data.tolist() != streams[1].data.tolist()


def test_a_model_of_native_sizes_needs_a_prefix_that_fits(native_model, tmp_path):
    with pytest.raises(ValueError, match=r"an image without a prefix needs a size.*give a --prefix"):
        generate(native_model, str(tmp_path / "out"))
    save_image(tmp_path / "big.png", 9, 8)
    with pytest.raises(ValueError, match="big: 72 bytes exceed the model's window of 64"):
        generate(native_model, str(tmp_path / "out"), prefix=[str(tmp_path / "big.png")])


def test_a_share_of_0_keeps_name_and_format_only(native_model, tmp_path):
    save_image(tmp_path / "cat.png", 6, 4)
    generate(native_model, str(tmp_path / "out"), prefix=[str(tmp_path / "cat.png")], keep=0, num_samples=1)
    assert names(tmp_path / "out") == ["cat-000.png", "contact_sheet.png"]
    assert opened(tmp_path / "out" / "cat-000.png").shape == (4, 6)


# Sound


def test_sound_goes_on_after_all_of_its_prefix(sound_model, tmp_path, no_end):
    wave = save_sound(tmp_path / "song.wav", 50, channels=2)
    generate(sound_model, str(tmp_path / "out"), prefix=[str(tmp_path / "song.wav")], length=41, num_samples=1)
    longer, rate = soundfile.read(tmp_path / "out" / "song-000.wav", dtype="int16")
    assert (rate, longer.shape) == (8000, (50 + 11, 2))  # 41 bytes asked: 11 frames of 4
    np.testing.assert_array_equal(longer[:50], wave)


def test_sound_of_another_rate_is_converted_with_notes(sound_model, tmp_path, capsys, no_end):
    save_sound(tmp_path / "fast.wav", 160, rate=16000)
    generate(sound_model, str(tmp_path / "out"), prefix=[str(tmp_path / "fast.wav")], length=8, num_samples=1)
    longer, rate = soundfile.read(tmp_path / "out" / "fast-000.wav")
    assert (rate, longer.shape) == (8000, (80 + 2, 2))
    err = capsys.readouterr().err
    assert f"{tmp_path / 'fast.wav'}: resampled from 16000 to 8000 Hz\n" in err
    assert f"{tmp_path / 'fast.wav'}: one channel copied to 2\n" in err


def run_with_input(monkeypatch, content: bytes, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    return main(["generate", *arguments])


def test_standard_input_is_continued_on_standard_output(
    text_model, save_checkpoint, tmp_path, monkeypatch, capsysbinary
):
    adapter = ImageAdapter("L", (8, 4), scan="raster", patch=2)
    grey_model = str(save_checkpoint(adapter, window=32, name="grey.ckpt"))
    (tmp_path / "a.txt").write_bytes(b"once \xff upon")
    options = ["--num_samples", "1", "--length", "5"]
    assert (
        main(["generate", text_model, "--prefix", str(tmp_path / "a.txt"), "--out", str(tmp_path / "o"), *options]) == 0
    )
    capsysbinary.readouterr()
    standard = [text_model, "--prefix", "-", "--out", "-", *options]
    assert run_with_input(monkeypatch, b"once \xff upon", *standard) == 0
    assert capsysbinary.readouterr().out == (tmp_path / "o/a-000.txt").read_bytes()
    (tmp_path / "b.txt").write_text("the end")
    for prefix in (["--text", "the end"], ["--prefix", str(tmp_path / "b.txt")]):
        assert main(["generate", text_model, *prefix, "--out", "-", *options]) == 0
    twice = capsysbinary.readouterr().out
    assert twice[: len(twice) // 2] == twice[len(twice) // 2 :]
    assert twice.startswith(b"the end")
    # A picture without its contact sheet.
    assert main(["generate", grey_model, "--out", "-", "--num_samples", "1"]) == 0
    with Image.open(io.BytesIO(capsysbinary.readouterr().out)) as picture:
        assert picture.size == (8, 4)

    for arguments, message in (
        ([text_model, "--out", "-"], b"--out - takes one file: add --num_samples 1"),
        ([grey_model, "--text", "a", "--out", str(tmp_path)], b"--text: this model continues image files"),
        ([grey_model, "--prefix", "-", "--out", str(tmp_path)], b"is not an image"),
    ):
        assert run_with_input(monkeypatch, b"no picture", *arguments) == 2
        assert message in capsysbinary.readouterr().err.splitlines()[-1]


def test_a_truncated_prefix_is_noted(sound_model, tmp_path, capsys, no_end):
    save_sound(tmp_path / "long.wav", 50, channels=2)
    generate(sound_model, str(tmp_path / "out"), prefix=[str(tmp_path / "long.wav")], length=4, num_samples=1)
    assert "long.wav: only the last 32 of 200 bytes are seen" in capsys.readouterr().err
    save_sound(tmp_path / "short.wav", 15, channels=2)
    generate(sound_model, str(tmp_path / "out"), prefix=[str(tmp_path / "short.wav")], length=4, num_samples=1)
    assert "only the last" not in capsys.readouterr().err


def test_rotary_positions_allow_a_longer_window_than_in_training(save_checkpoint, tmp_path, capsys, no_end):
    (tmp_path / "in.txt").write_bytes(b"sixty letters" * 5)
    rotary = str(save_checkpoint(TextAdapter(), window=24, positions="rotary"))
    generate(rotary, str(tmp_path / "out"), prefix=[str(tmp_path / "in.txt")], length=4, num_samples=1, window=72)
    assert "are seen" not in capsys.readouterr().err
    learned = str(save_checkpoint(TextAdapter(), window=24))
    with pytest.raises(ValueError, match="a sequence of 72 symbols; this model takes 1 to 24"):
        generate(learned, str(tmp_path / "other"), prefix=[str(tmp_path / "in.txt")], window=72)


def test_sound_without_a_prefix_fills_a_window(sound_model, tmp_path, no_end):
    generate(sound_model, str(tmp_path / "out"), num_samples=1)
    assert soundfile.info(tmp_path / "out" / "sample-000.wav").frames == 64 // 4


# Text


@pytest.fixture
def say(monkeypatch):
    """Lets every model say a text of one's choice, and then END."""

    def force(text: bytes) -> None:
        symbols = iter([*text, END])

        monkeypatch.setattr(engine, "sample", lambda logits, *_: torch.full((len(logits),), next(symbols)))

    return force


def test_text_that_is_not_utf8_is_written_unchanged_and_shown_with_replacements(text_model, tmp_path, capsys, say):
    said = b"\xc3\xa4\r\n\xff\x1b[31m\0\xe2\x82"
    say(said)
    generate(text_model, str(tmp_path / "out"), num_samples=1, length=40)
    assert (tmp_path / "out" / "sample-000.txt").read_bytes() == said
    shown, rest, file, _ = capsys.readouterr().out.split("\n")
    assert (shown, file) == ("ä", str(tmp_path / "out" / "sample-000.txt"))
    assert rest == "\ufffd\ufffd[31m\ufffd\ufffd"


def test_only_the_generated_text_is_shown(text_model, tmp_path, capsys, say):
    say(b"x" * 600)
    (tmp_path / "start.txt").write_text("seen before")
    generate(text_model, str(tmp_path / "out"), prefix=[str(tmp_path / "start.txt")], num_samples=1, length=700)
    assert capsys.readouterr().out.startswith("x" * 600 + "\n")
    assert (tmp_path / "out" / "start-000.txt").read_text() == "seen before" + "x" * 600


def test_characters_that_a_terminal_lacks_are_replaced(text_model, tmp_path, monkeypatch, say):
    import io

    say("aäb".encode())
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    generate(text_model, str(tmp_path / "out"), num_samples=1)
    terminal.seek(0)
    assert terminal.read().startswith("a?b\n")
    assert (tmp_path / "out" / "sample-000.txt").read_bytes() == "aäb".encode()


def test_an_empty_file_may_be_continued(text_model, tmp_path):
    (tmp_path / "empty.txt").touch()
    generate(text_model, str(tmp_path / "out"), prefix=[str(tmp_path / "empty.txt")], num_samples=1)
    assert names(tmp_path / "out") == ["empty-000.txt"]


def test_files_of_another_modality_are_refused_and_unknown_suffixes_tried(text_model, save_checkpoint, tmp_path):
    save_image(tmp_path / "cat.png", 8, 4)
    with pytest.raises(ValueError, match=r"cat\.png: is of modality image; this model reads text"):
        generate(text_model, str(tmp_path / "out"), prefix=[str(tmp_path / "cat.png")])
    (tmp_path / "LICENSE").write_text("MIT")
    generate(text_model, str(tmp_path / "out"), prefix=[str(tmp_path / "LICENSE")], num_samples=1)
    grey_model = str(save_checkpoint(ImageAdapter("L", (8, 4), patch=2), window=32, name="grey.ckpt"))
    with pytest.raises(ValueError, match="LICENSE: "):
        generate(grey_model, str(tmp_path / "out"), prefix=[str(tmp_path / "LICENSE")])


# Any file


def test_any_file_keeps_its_suffix(save_checkpoint, tmp_path, capsys, no_end):
    model = str(save_checkpoint(FileAdapter(".jpg"), window=24))
    for name in ("a.jpg", "b.mp3", "c"):
        (tmp_path / name).write_bytes(b"\0\xff" + name.encode())
    generate(model, str(tmp_path / "out"), prefix=[str(tmp_path / name) for name in ("a.jpg", "b.mp3", "c")], length=2)
    files = contents(tmp_path / "out")
    endings = {"a": ".jpg", "b": ".mp3", "c": ""}
    assert sorted(files) == [f"{stem}-00{i}{ending}" for stem, ending in endings.items() for i in range(4)]
    assert files["b-001.mp3"][:7] == b"\0\xffb.mp3"
    assert len(files["c-000"]) == 5
    generate(model, str(tmp_path / "out"), num_samples=1)
    assert len(contents(tmp_path / "out")["sample-000.jpg"]) == 24
    assert len(capsys.readouterr().out.split()) == 13  # paths, and no preview


# All of them


def test_a_seed_determines_the_files(sound_model, tmp_path):
    save_sound(tmp_path / "song.wav", 9, channels=2)
    for folder, seed in (("one", 7), ("same", 7), ("other", 8)):
        options: dict[str, Any] = {"prefix": [str(tmp_path / "song.wav")], "length": 24, "num_samples": 3}
        generate(sound_model, str(tmp_path / folder), seed=seed, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "same")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_the_class_is_chosen_by_name(save_checkpoint, tmp_path):
    model = str(save_checkpoint(TextAdapter(), window=24, classes=["cat", "7"]))
    for name in ("cat", "7"):
        generate(model, str(tmp_path / name), condition=name, temperature=0, num_samples=1)
    assert contents(tmp_path / "cat") != contents(tmp_path / "7")
    with pytest.raises(
        ValueError, match="condition must be one of the classes that this model was trained with: cat, 7"
    ):
        generate(model, str(tmp_path / "out"))
    with pytest.raises(ValueError, match="condition dog: unknown to this model; it knows cat, 7"):
        generate(model, str(tmp_path / "out"), condition="dog")


def test_nothing_is_overwritten_unless_asked(grey_model, tmp_path):
    out, there = tmp_path / "out", "sample-001.png"
    out.mkdir()
    (out / there).write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{there} exists already; choose another --out, or add --overwrite"):
        generate(grey_model, str(out), num_samples=2)
    assert contents(out) == {there: b"mine"}
    generate(grey_model, str(out), num_samples=2, overwrite=True)
    assert len(names(out)) == 3
    assert (out / there).read_bytes() != b"mine"


def test_a_folder_takes_several_runs_and_shows_the_last_on_its_sheet(grey_model, tmp_path):
    save_image(tmp_path / "cat.png", 8, 4)
    generate(grey_model, str(tmp_path / "out"), num_samples=2)
    before = contents(tmp_path / "out")
    generate(grey_model, str(tmp_path / "out"), prefix=[str(tmp_path / "cat.png")], num_samples=1)
    after = contents(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {"contact_sheet.png"}
    assert set(after) == {*before, "cat-000.png"}


def test_an_output_folder_that_cannot_be_made_is_refused_before_generation(text_model, tmp_path, monkeypatch):
    monkeypatch.setattr("megabyte_mm.cli.generate.generate_continuations", lambda *_, **__: pytest.fail("generated"))
    (tmp_path / "out").touch()
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(ValueError, match=f"--out {out}: cannot create this folder"):
            generate(text_model, str(out))


def test_an_interrupt_before_the_first_byte_leaves_no_file(text_model, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("megabyte_mm.cli.generate.generate_continuations", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(text_model, str(tmp_path / "out"))
    assert names(tmp_path / "out") == []


def test_prefixes_of_equal_names_get_different_names(text_model, tmp_path):
    files = [tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt", tmp_path / "b" / "x.md", tmp_path / "y.txt"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(file))

    def made(out: str, chosen: list[Path]) -> list[str]:
        generate(text_model, str(tmp_path / out), prefix=[str(file) for file in chosen], length=1, num_samples=1)
        return names(tmp_path / out)

    (tmp_path / "link.txt").symlink_to(files[0])
    assert made("zero", [files[0], tmp_path / "link.txt"]) == ["link-000.txt", "x-000.txt"]
    assert made("one", [files[0], files[3]]) == ["x-000.txt", "y-000.txt"]
    assert made("two", files[:2]) == ["a_x-000.txt", "b_x-000.txt"]
    assert made("three", files[:3]) == ["a_x_txt-000.txt", "b_x_md-000.md", "b_x_txt-000.txt"]
    with pytest.raises(ValueError, match="--prefix names a file twice"):
        made("four", [files[0], files[0]])


def test_the_batch_size_does_not_change_the_files(text_model, tmp_path, no_end):
    files = [tmp_path / f"{name}.txt" for name in "abcde"]
    for file, length in zip(files, (3, 9, 3, 0, 30), strict=True):
        file.write_text(file.stem * length)
    options: dict[str, Any] = {"prefix": [str(file) for file in files], "length": 5, "num_samples": 2}
    generate(text_model, str(tmp_path / "many"), **options)
    generate(text_model, str(tmp_path / "single"), batch_size=1, **options)
    assert contents(tmp_path / "many") == contents(tmp_path / "single")
    for file in files:
        written = (tmp_path / "many" / f"{file.stem}-001.txt").read_bytes()
        assert written.startswith(file.read_bytes())
        assert len(written) == len(file.read_bytes()) + 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        *[({name: 0}, f"{name} is 0; it must be at least 1") for name in ("num_samples", "batch_size", "length")],
        ({"device": "quantum"}, "--device quantum: not available here"),
        ({"keep": 0.5}, "--keep is the share of a --prefix that is kept"),
        ({"condition": "cat"}, "condition cat: unknown to this model; it was trained without classes"),
    ],
)
def test_options_that_do_not_fit_are_refused(text_model, tmp_path, options, reason):
    with pytest.raises(ValueError, match=reason):
        generate(text_model, str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


# Ctrl-C


@pytest.fixture
def interrupt_after(monkeypatch):
    """Lets Ctrl-C come after so many symbols were sampled."""

    def arm(count: int) -> None:
        sample_one, calls = vars(engine)["sample"], iter(range(count))

        def interrupted(*arguments):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return sample_one(*arguments)

        monkeypatch.setattr(engine, "sample", interrupted)

    return arm


def test_ctrl_c_writes_the_text_so_far(text_model, tmp_path, interrupt_after, capsys, no_end):
    generate(text_model, str(tmp_path / "whole"), num_samples=2, length=30)
    interrupt_after(12)
    with pytest.raises(KeyboardInterrupt):
        generate(text_model, str(tmp_path / "out"), num_samples=2, length=30)
    for name in ("sample-000.txt", "sample-001.txt"):
        written = (tmp_path / "out" / name).read_bytes()
        assert 0 < len(written) <= 12
        assert (tmp_path / "whole" / name).read_bytes().startswith(written)
    assert "generated 24 bytes in" in capsys.readouterr().err


def test_ctrl_c_leaves_out_samples_that_had_not_begun(text_model, tmp_path, interrupt_after):
    interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        generate(text_model, str(tmp_path / "out"), num_samples=3, length=9, batch_size=1)
    assert names(tmp_path / "out") == ["sample-000.txt"]


def test_ctrl_c_writes_partial_pictures(grey_model, tmp_path, interrupt_after):
    interrupt_after(10)
    with pytest.raises(KeyboardInterrupt):
        generate(grey_model, str(tmp_path / "out"), num_samples=2)
    assert names(tmp_path / "out") == ["contact_sheet.png", "sample-000.png", "sample-001.png"]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_weights_of_lower_precision_generate(text_model, tmp_path, precision, no_end):
    generate(text_model, str(tmp_path / "out"), num_samples=1, length=9, precision=precision)
    assert len((tmp_path / "out" / "sample-000.txt").read_bytes()) == 9
