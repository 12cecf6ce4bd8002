"""Make the models that come with the package: train them on free data, and export them into megabyte_mm/demo_models/.

`make models` runs this. The pictures and captions are those of `megabyte-mm demo-data`, the texts modules of the
running Python, the sounds a folder of recordings, such as the Free Spoken Digit Dataset. All seeds are fixed.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import yaml
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
HELD_OUT = HERE / "held_out"
PACKAGE = HERE.parent / "megabyte_mm" / "demo_models"
LICENSES = {"image": "mit", "text-to-image": "mit", "text": "other", "speech": "cc-by-sa-4.0"}
EXCERPT = 4096
"""Bytes of a validation module that are kept as held out text."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COPIES = 5
"""Changed ones of each recording to train on, which else are learned by heart."""
SECONDS, LOUDNESS = 0.555, 0.12
"""Of every recording. Longer ones are spoken faster. Shorter ones end in silence: where the sound ended with the word,
silence before a word was taken for the end."""
OTHER_SEEDS = (1, 2, 3)
"""Of made-up pictures: together they have nearly all that there are."""
QUIET = 0.04
"""Share of the largest loudness of a recording; what is below is silence at its begin and end."""


@dataclass(frozen=True)
class Model:
    """A model that is trained. data: its folder, with train/ and val/. suffixes: of the files that are held out.

    held_out: number of files, or of records, spread evenly over val/. steps: of the training. second: makes other
    data, on which it trains for as many steps again, at half the learning rate.
    """

    name: str
    data: Path
    suffixes: tuple[str, ...]
    held_out: int
    steps: int
    second: Callable[[], Path] | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models. Raises CalledProcessError where a command fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/demo_models"), help="folder for data and runs")
    parser.add_argument("--speech", type=Path, help="recordings: train/ and val/ of files such as 7_jackson_12.wav")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names, such as image; by default all")
    parser.add_argument("--keep_runs", action="store_true", help="export the models of an earlier call again")
    options = parser.parse_args(arguments)
    work: Path = options.work
    _run("demo-data", str(work / "media"), "--pairs", str(work / "pairs"))
    images, captions = work / "media" / "images", work / "pairs" / "captions"
    models = [
        Model("image", images, (".png",), 10, 3000, partial(_with_other_seeds, images, work)),
        Model("text-to-image", captions, (".png", ".txt"), 20, 2400, partial(_with_short_captions, captions, work)),
        Model("text", work / "media" / "text", (".py",), 6, 1300),
    ]
    if options.speech is not None:
        models.append(Model("speech", _spoken_words(options.speech, work / "speech"), (".wav", ".txt"), 10, 8500))
    elif "speech" in (options.only or ("speech",)):
        print("demo:speech is left as it is: name the recordings with --speech DIR, or make models SPEECH=DIR")
    for model in models:
        if options.only is None or model.name in options.only:
            _make(model, work / "runs", options.keep_runs)


def _make(model: Model, runs: Path, keep_run: bool) -> None:
    """Train a model on its data, choose what is held out, and export it."""
    run, held_out = runs / model.name, _hold_out(model)
    if not keep_run:
        _fit(model, model.data, run)
    if model.second is not None:
        first, run = run / "best.ckpt", runs / f"{model.name}-2"
        if not keep_run:
            rate = yaml.safe_load(_config(model).read_text(encoding="utf-8"))["model"]["optimizer"]["lr"] / 2
            _fit(model, model.second(), run, "--init_from", str(first), "--model.optimizer.lr", str(rate))
    card = ("--name", f"demo:{model.name}", "--license", LICENSES[model.name])
    figures = ("--data", str(held_out), "--notes", str(HERE / f"{model.name}.md"))
    folder = str(PACKAGE / model.name)
    _run("export", str(run / "best.ckpt"), folder, "--precision", "int8", "--overwrite", *card, *figures)


def _config(model: Model) -> Path:
    return HERE / f"{model.name}.yaml"


def _fit(model: Model, data: Path, run: Path, *options: str) -> None:
    """Train in a new run folder, with one validation, at the end."""
    shutil.rmtree(run, ignore_errors=True)
    where = ("--data.path", str(data), "--trainer.default_root_dir", str(run))
    end = ("--trainer.max_steps", str(model.steps), "--trainer.val_check_interval", str(model.steps))
    _run("fit", "--config", str(_config(model)), *where, *end, *options)


def _run(*arguments: str) -> None:
    print(f"\n$ {shlex.join(('megabyte-mm', *arguments))}", flush=True)
    subprocess.run((sys.executable, "-m", "megabyte_mm", *arguments), check=True)


def _hold_out(model: Model) -> Path:
    """Copy some of the validation files to where the tests find them; of modules, the beginnings."""
    folder = HELD_OUT / model.name
    shutil.rmtree(folder, ignore_errors=True)
    val = model.data / "val"
    files = sorted(val.rglob(f"*{model.suffixes[0]}"))
    for number in range(min(model.held_out, len(files))):
        file = files[number * len(files) // model.held_out]
        target = folder / file.relative_to(val)
        target.parent.mkdir(parents=True, exist_ok=True)
        if model.name == "text":
            text = file.read_bytes()[:EXCERPT]
            target.with_suffix(".txt").write_bytes(text[: text.rindex(b"\n") + 1])
            continue
        for suffix in model.suffixes:
            shutil.copyfile(file.with_suffix(suffix), target.with_suffix(suffix))
    return folder


def _with_other_seeds(images: Path, work: Path) -> Path:
    """Copy the pictures, and train on those of other seeds too that are none of the validation files."""
    folder = work / "images"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(images, folder)
    seen = {file.read_bytes() for file in folder.rglob("*.png")}
    for seed in OTHER_SEEDS:
        others = work / f"media-{seed}"
        shutil.rmtree(others, ignore_errors=True)
        _run("demo-data", str(others), "--seed", str(seed))
        for file in sorted((others / "images").rglob("*.png")):
            if (content := file.read_bytes()) not in seen:
                seen.add(content)
                label, split = file.parent.name, file.parent.parent.name
                shutil.copyfile(file, folder / "train" / label / f"{seed}-{split}-{file.name}")
    return folder


def _with_short_captions(captions: Path, work: Path) -> Path:
    """Copy captions and pictures, and each that trains once more with a part of its caption; returns the new folder."""
    folder = work / "captions"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(captions, folder)
    rng = np.random.default_rng(0)
    for file in sorted((captions / "train").glob("*.txt")):
        short = folder / "train" / f"{file.stem}-short"
        shutil.copyfile(file.with_suffix(".png"), short.with_suffix(".png"))
        short.with_suffix(".txt").write_text(_short_caption(file.read_text(encoding="utf-8"), rng), encoding="utf-8")
    return folder


def _short_caption(caption: str, rng: np.random.Generator) -> str:
    """A caption such as "a red heart on white, middle" without the place, the ground, the colour or several of them."""
    figure, place = caption.split(", ")
    figure, ground = figure.split(" on ")
    article, colour, shape = figure.split()
    bare = f"{colour} {shape}"
    forms = (
        *(figure, f"{figure} on {ground}", f"{figure}, {place}", bare, f"{article} {shape}"),
        *(shape, f"{shape} on {ground}", f"{bare} on {ground}", f"{shape}, {place}", f"{bare}, {place}"),
    )
    return str(rng.choice(forms))


def _spoken_words(recordings: Path, folder: Path) -> Path:
    """Recordings with their words as texts, every other copy with the speaker's name too; returns the new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    for split, copies in (("train", COPIES), ("val", 0)):
        for file in sorted((recordings / split).glob("[0-9]_*_*.wav")):
            digit, speaker, _ = file.stem.split("_")
            sound, rate = soundfile.read(file, dtype="float32")
            sound = _trimmed(sound, rate)
            for copy in range(copies + 1):
                target = folder / split / f"{file.stem}_{copy}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(target, _copied(sound, rate, rng if copy else None), rate, subtype="PCM_16")
                text = WORDS[int(digit)] + (f" {speaker}" if copy % 2 else "")
                target.with_suffix(".txt").write_text(text, encoding="utf-8")
    if not folder.exists():
        raise SystemExit(f"--speech {recordings}: holds no train/ with files such as 7_jackson_12.wav")
    return folder


def _copied(sound: NDArray[np.float32], rate: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
    """A word of `SECONDS` and `LOUDNESS`; with a generator, of another speed, loudness, and treble or bass."""
    size = int(SECONDS * rate)
    speed = max(1.0 if rng is None else rng.uniform(0.87, 1.15), len(sound) / size)
    place = np.arange(min(size, int(len(sound) / speed))) * speed
    word = np.interp(place, np.arange(len(sound)), sound)
    if rng is not None:
        word = word - rng.uniform(-0.25, 0.25) * np.concatenate([[0.0], word[:-1]])
    gain = LOUDNESS * (1.0 if rng is None else 10 ** rng.uniform(-0.1, 0.1))
    word *= gain / np.sqrt((word**2).mean())
    padded = np.zeros(size, np.float32)
    padded[: len(word)] = np.clip(word, -0.999, 0.999)
    return padded


def _trimmed(sound: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """A mono sound without the silence around it, but for 20 ms."""
    window = rate // 100
    loudness = np.sqrt(np.convolve(sound**2, np.full(window, 1 / window), "same"))
    loud = np.flatnonzero(loudness > QUIET * loudness.max())
    return sound[max(0, loud[0] - 2 * window) : loud[-1] + 2 * window]


if __name__ == "__main__":
    main()
