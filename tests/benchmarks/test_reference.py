"""Reference runs read each data set in the format that it comes in, and print its figures beside the published ones."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import yaml
from PIL import Image

from benchmarks.reference import enwik8
from benchmarks.reference.__main__ import main
from benchmarks.reference.enwik8 import split_enwik8
from benchmarks.reference.sc09 import DIGITS, choose_digits
from benchmarks.reference.sets import REFERENCES, Reference
from megabyte_mm.cli.config import check_config_file
from tests.training.conftest import surroundings  # noqa: F401 (a fixture of every test here)

RNG = np.random.default_rng(0)
TINY = [
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=2",
    "--trainer.accelerator=cpu",
    "--model.net.global_stack={dim: 96, layers: 1, heads: 1}",
    "--model.net.local_stack={dim: 8, layers: 1, heads: 1}",
    "--data.batch_size=1",
    "--data.val_batch_size=2",
]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def wav(length: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, RNG.integers(-99, 99, length, dtype=np.int16), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def mnist(folder: Path) -> Path:
    for split, count in (("train", 6), ("t10k", 2)):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    return folder


def cifar10(folder: Path) -> Path:
    """As the hub's tables have it."""
    for split, count in (("train", 4), ("test", 2)):
        pictures = [
            {"bytes": png(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)), "path": f"{i}.png"} for i in range(count)
        ]
        table = pyarrow.table({"img": pictures, "label": list(range(count))})
        pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def imagenet64(folder: Path) -> Path:
    for name in ("train_data_batch_1", "train_data_batch_2", "val_data"):
        np.savez(folder / f"{name}.npz", data=RNG.integers(0, 256, (1, 12288), dtype=np.uint8), labels=np.array([1]))
    return folder


def tinyshakespeare(folder: Path) -> Path:
    (folder / "input.txt").write_bytes(RNG.integers(97, 123, 4000, dtype=np.uint8).tobytes())
    return folder / "input.txt"


def enwik8_zip(folder: Path) -> Path:
    text = RNG.integers(97, 123, sum(enwik8.SIZES.values()), dtype=np.uint8).tobytes()
    with zipfile.ZipFile(folder / "enwik8.zip", "w") as archive:
        archive.writestr("enwik8", text)
    return folder / "enwik8.zip"


def speech_commands(folder: Path) -> Path:
    """Three recordings of each digit, one of each split, and of a word that is no digit."""
    for word in (*DIGITS, "cat"):
        (folder / word).mkdir()
        for name in "abc":
            (folder / word / f"{name}.wav").write_bytes(wav(600))
    for name, list_name in (("b", "validation_list.txt"), ("c", "testing_list.txt")):
        (folder / list_name).write_text("".join(f"{word}/{name}.wav\n" for word in (*DIGITS, "cat")), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def small_enwik8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enwik8, "SIZES", {"train.txt": 3000, "val.txt": 1100, "test.txt": 1200})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "mnist": mnist,
    "cifar10": cifar10,
    "enwik8": enwik8_zip,
    "tinyshakespeare": tinyshakespeare,
    "sc09": speech_commands,
    "imagenet64": imagenet64,
}
SPLITS = {
    "mnist": ("test", 2 * 784),
    "cifar10": ("test", 2 * 3072),
    "enwik8": ("test", 1200),
    "tinyshakespeare": ("val", 400),
    "sc09": ("test", 10 * 1200),
    "imagenet64": ("val", 12288),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_every_data_set_is_trained_on_and_tested_in_the_format_that_it_comes_in(name, folder, capsys):
    data = MAKERS[name](folder)
    assert main([name, "--data", str(data), "--size", "cpu", "--out", "run", *TINY]) == 0
    shown = capsys.readouterr().out
    result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
    assert (result["split"], result["split_bytes"]) == SPLITS[name]
    assert 0 < result["bits_per_byte"] < 12
    assert f"| {result['bits_per_byte']:.4f} " in shown
    assert (result["steps"], result["best_step"]) == (2, 2)
    assert result["bytes_seen"] > 0
    assert result["parameters"] > 0
    assert result["training"]["seconds"] > 0
    assert result["machine"]["torch"]
    for figure in REFERENCES[name].published:
        assert figure.model in shown
    assert ("not the published split" in shown) == (REFERENCES[name].split_bytes is not None)
    assert ("There is no test split" in shown) == (SPLITS[name][0] == "val")


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=lambda reference: reference.name)
def test_the_size_for_a_gpu_differs_from_that_for_a_cpu_in_what_the_second_file_sets(reference: Reference):
    whole, cpu = reference.configs("cpu")
    assert reference.configs("gpu") == [whole]
    for path in (whole, cpu):
        check_config_file(str(path))

    def leaves(settings: dict, prefix: str = "") -> set[str]:
        found = set()
        for key, value in settings.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
        return found

    settings = [leaves(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in (whole, cpu)]
    assert settings[1] - settings[0] <= {"data.max_val_windows", "model.optimizer.muon"}


def test_enwik8_is_cut_into_its_three_parts_once(folder, tmp_path):
    archive = enwik8_zip(folder)
    out = Path(split_enwik8(str(archive), tmp_path / "parts"))
    with zipfile.ZipFile(archive) as opened:
        text = opened.read("enwik8")
    parts = [(out / name).read_bytes() for name in ("train.txt", "val.txt", "test.txt")]
    assert b"".join(parts) == text
    assert [len(part) for part in parts] == [3000, 1100, 1200]
    (out / "val.txt").write_bytes(b"cut short")
    assert split_enwik8(str(folder), tmp_path / "parts") == str(out)  # a folder with the archive in it
    assert (out / "val.txt").read_bytes() == parts[1]
    assert split_enwik8(str(out), tmp_path / "unused") == str(out)
    (folder / "enwik8").write_bytes(text)
    assert (Path(split_enwik8(str(folder / "enwik8"), tmp_path / "raw")) / "test.txt").read_bytes() == parts[2]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_digits_are_the_same_from_a_folder_and_from_an_archive(folder, tmp_path):
    speech_commands(folder)
    with tarfile.open(tmp_path / "speech_commands_v0.02.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    linked = Path(choose_digits(str(folder), tmp_path / "linked"))
    unpacked = Path(choose_digits(str(tmp_path / "speech_commands_v0.02.tar.gz"), tmp_path / "unpacked"))
    assert sorted(path.name for path in unpacked.iterdir()) == sorted(
        [*DIGITS, "testing_list.txt", "validation_list.txt"]
    )
    for digit in DIGITS:
        assert files(linked / digit) == files(unpacked / digit) == files(folder / digit)
    for out in (linked, unpacked):
        assert (out / "testing_list.txt").read_text("utf-8") == "".join(f"{digit}/c.wav\n" for digit in DIGITS)
    assert choose_digits("no longer there", unpacked) == str(unpacked)


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("enwik8", {}, "--data data: no enwik8 or enwik8.zip there"),
        ("enwik8", {"enwik8": b"short"}, "--data data/enwik8: has 5 bytes, and enwik8 has 5,300"),
        ("enwik8", {"enwik8.zip": b"no archive"}, "--data data/enwik8.zip: no archive with enwik8 in it"),
        ("sc09", {"zero/a.wav": b""}, "--data data: is not Speech Commands; it lacks one, two, "),
    ],
)
def test_data_of_another_set_are_refused(name, made, message, folder, capsys):
    for file, content in made.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    assert main([name, "--data", "data", "--size", "cpu", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"python -m benchmarks.reference: error: {message}")
    assert error.count("\n") == 1


def test_a_mistake_in_a_setting_of_fit_ends_with_its_message(folder, capsys):
    data = str(tinyshakespeare(folder))
    arguments = ["tinyshakespeare", "--data", data, "--size", "cpu", "--out", "run"]
    assert main([*arguments, "--data.window=-1"]) == 2
    assert capsys.readouterr().err.startswith("megabyte-mm fit: error: ")
    with pytest.raises(SystemExit):
        main([*arguments, "--data.window", "64"])
    assert "options of fit are written as --section.name=value" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--minutes", "0"])
    assert "--minutes must be a number above 0, not 0.0" in capsys.readouterr().err
