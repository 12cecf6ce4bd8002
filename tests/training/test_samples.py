"""Continuations generated at each validation, as files of every modality and in TensorBoard."""

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from data_adapters import AudioAdapter, ByteStream
from megabyte_mm.training.samples import SampleWriter


def write_pictures(folder):
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((4, 4), 60 * number, np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")


def write_sounds(folder):
    adapter = AudioAdapter(rate=8000, channels=1)
    form: dict[str, int | str] = {
        "modality": "audio",
        "rate": 8000,
        "channels": 1,
        "encoding": "pcm16",
        "suffix": ".wav",
    }
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number in range(3):
            samples = (3000 * np.sin(np.arange(200) * 0.1 * (number + 1))).astype("<i2")
            adapter.write(ByteStream(samples.view(np.uint8), form), folder / split / f"{number}.wav")


def write_texts(folder):
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number in range(3):
            (folder / split / f"{number}.txt").write_text("abcäöü " * 20)


IMAGE = ["--data.adapter=data_adapters.ImageAdapter", "--data.adapter.mode=L", "--data.adapter.size=[4,4]"]
SOUND = ["--data.adapter=data_adapters.AudioAdapter", "--data.adapter.rate=8000", "--data.adapter.channels=1"]
CASES = {
    "images": (
        write_pictures,
        [*IMAGE, "--data.adapter.patch=2", "--data.window=null"],
        ["val-00-000.png", "val-01-000.png", "contact_sheet.png"],
    ),
    "audio": (write_sounds, SOUND, ["val-00-000.wav", "val-01-000.wav"]),
    "text": (write_texts, [], ["val-00-000.txt", "val-01-000.txt"]),
}


@pytest.mark.parametrize("kind", CASES)
def test_samples_are_real_files_and_shown_in_tensorboard(fit, root, tmp_path, kind):
    write, settings, names = CASES[kind]
    write(tmp_path / "media")
    assert fit(f"--data.path={tmp_path / 'media'}", *settings, "--samples.count=2", "--samples.length=6") == 0
    samples = root / "logs/version_0/samples"
    assert [folder.name for folder in sorted(samples.iterdir())] == ["step-0000004", "step-0000008"]
    for folder in samples.iterdir():
        assert {path.name for path in folder.iterdir()} == set(names)
    folder = samples / "step-0000008"
    if kind == "images":
        with Image.open(folder / "val-00-000.png") as picture:
            assert picture.size == (4, 4)
    if kind == "audio":
        stream = AudioAdapter(rate=8000, channels=1).read(folder / "val-00-000.wav")
        assert len(stream.data) == 32 // 2 + 6
    if kind == "text":
        assert (folder / "val-00-000.txt").read_bytes().startswith("abcäöü ".encode())
    events = EventAccumulator(str(root / "logs/version_0"))
    events.Reload()
    shown = {"images": events.Tags()["images"], "audio": events.Tags()["audio"], "text": events.Tags()["tensors"]}
    assert any("val-00" in tag for tag in shown[kind])
    assert "val/bpb" in events.Tags()["scalars"]


def test_drawing_does_not_change_the_training(fit, root):
    def losses(*arguments):
        assert fit(f"--trainer.default_root_dir={root}{len(arguments)}", "--model.net.dropout=0.2", *arguments) == 0
        lines = (root.with_name(f"run{len(arguments)}") / "logs/version_0/metrics.csv").read_text().splitlines()
        column = lines[0].split(",").index("train/loss")
        return [line.split(",")[column] for line in lines]

    assert losses() == losses("--samples.count=1")


@pytest.mark.parametrize("wrong", [{"count": -1}, {"keep": 1.5}, {"length": 0}, {"temperature": -1.0}, {"top_p": 2.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SampleWriter(**wrong)
