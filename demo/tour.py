"""The steps of the demo: demo-data, then fit and generate for each modality by the command line, then the page.

The page begins with pictures of the models that come with the package, which are there while others train. Behind the
modalities come records of two parts: pictures from captions, and notes from melodies.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TypeVar

import soundfile
from gallery import Continuation, Section, write_page

from data_adapters import Adapter
from megabyte_mm.training.run_folder import best_point, open_run, read_metrics

Value = TypeVar("Value")
PROGRAM: tuple[str, ...] = (sys.executable, "-m", "megabyte_mm")
NUM_SAMPLES = 8  # without a prefix
KEEP = 0.5  # share of a file that is the prefix
SHIPPED = Path("gallery", "shipped")  # files of the models that come with the package
CAPTIONS = ("a red heart on white, middle", "a blue ring on dark blue, upper left", "a green cross on white, right")
WORDS = ("three george", "seven lucas", "five jackson", "eight yweweler")


@dataclass(frozen=True)
class DemoModel:
    """A model of the demo. share: of the training time, in units of --minutes."""

    name: str
    share: float

    @property
    def run(self) -> Path:
        """Folder of checkpoints and metrics, as in `demo/<name>.yaml`."""
        return Path("runs", f"demo-{self.name}")

    @property
    def out(self) -> Path:
        return Path("gallery", self.name)

    @property
    def checkpoint(self) -> Path:
        return self.run / "best.ckpt"


@dataclass(frozen=True, kw_only=True)
class Modality(DemoModel):
    """The settings of one modality.

    temperature: of continuations, low after a few minutes of training. sample_temperature: of samples without a prefix.
    media: folder of validation files below media/. codecs: names in `evaluation.CODECS`. prefixes: number of validation
    files to continue, each `continuations` times. excerpt: samples or bytes of such a file to use, None for all.
    length: bytes to generate, None where the format fixes it.
    """

    title: str
    about: str
    media: str
    codecs: tuple[str, ...]
    prefixes: int
    continuations: int
    temperature: float
    sample_temperature: float
    excerpt: int | None = None
    length: int | None = None


MODALITIES = (
    Modality(
        name="image",
        title="Pictures",
        about="32 × 32 RGB pixels, scanned in patches of 4 × 4: 3,072 bytes each. "
        "The model continues the upper half of a validation picture with the lower half.",
        media="images/val",
        codecs=("PNG", "WebP"),
        prefixes=10,
        continuations=2,
        share=1.3,
        temperature=0.1,
        sample_temperature=0.8,
    ),
    Modality(
        name="audio",
        title="Melodies",
        about="8 kHz sound, one byte per sample: four bars of 8,640 bytes each. The model continues the first bar of a "
        "validation melody with a second one.",
        media="audio/val",
        codecs=("FLAC",),
        prefixes=4,
        continuations=1,
        share=1.1,
        temperature=0.2,
        sample_temperature=0.5,
        excerpt=17280,
        length=8640,
    ),
    Modality(
        name="text",
        title="Text",
        about="Modules of Python's standard library, byte by byte. The model continues the first 512 bytes of a "
        "validation module.",
        media="text/val",
        codecs=("xz",),
        prefixes=3,
        continuations=1,
        share=0.4,
        temperature=0.9,
        sample_temperature=0.9,
        excerpt=1024,
        length=512,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Records(DemoModel):
    """Records of two parts, of which the model makes the second from the first.

    temperature, codecs: as of `Modality`. media: folder of validation records below pairs/. order: the names of
    the parts. source_suffix, target_suffix: of their files. prefixes: number of first parts, each with `samples` second
    ones.
    """

    title: str
    about: str
    media: str
    order: tuple[str, str]
    source_suffix: str
    target_suffix: str
    codecs: tuple[str, ...]
    prefixes: int
    samples: int
    temperature: float


RECORDS = (
    Records(
        name="captions",
        title="Pictures from captions",
        about="16 × 16 RGB pixels behind the letters of their captions, as one stream of bytes. The model has read "
        "none of these captions before, only other combinations of the words.",
        media="captions/val",
        order=("text", "image"),
        source_suffix=".txt",
        target_suffix=".png",
        codecs=("PNG", "WebP"),
        prefixes=12,
        samples=2,
        share=1.0,
        temperature=0.1,
    ),
    Records(
        name="notes",
        title="Notes from melodies",
        about="Melodies of 0.9 seconds, 8 kHz, one byte per sample, and behind them the names of their notes. The "
        "model writes the notes of melodies that it has not read before.",
        media="melodies/val",
        order=("audio", "text"),
        source_suffix=".wav",
        target_suffix=".txt",
        codecs=(),
        prefixes=6,
        samples=1,
        share=0.3,
        temperature=0.0,
    ),
)


def run_demo(root: Path, minutes: float) -> None:
    """Write `gallery/index.html` below `root` and checkpoints in `runs/demo-*`; earlier ones are replaced.

    Raises CalledProcessError, with the command as typed, where one fails, FileNotFoundError where it did not write an
    expected file.
    """
    started = time.monotonic()
    _clear(root)
    _run(root, "demo-data", "media", "--pairs", "pairs")
    page, shipped = root / "gallery" / "index.html", _sample_shipped(root)
    write_page(page, (), None, shipped)
    print(f"\n{page} shows pictures of models that come with the package. Now others are trained.", flush=True)
    sections = [_train_and_sample(root, modality, minutes) for modality in MODALITIES]
    sections += [_train_on_records(root, records, minutes) for records in RECORDS]
    seconds = time.monotonic() - started
    write_page(page, sections, seconds, shipped)
    print(f"\n{page} is ready, after {seconds / 60:.1f} minutes: open it in a browser.")


def _clear(root: Path) -> None:
    for each in (*MODALITIES, *RECORDS):
        shutil.rmtree(root / each.run, ignore_errors=True)
        shutil.rmtree(root / each.out, ignore_errors=True)
    shutil.rmtree(root / SHIPPED, ignore_errors=True)
    (root / "gallery" / "index.html").unlink(missing_ok=True)


def _sample_shipped(root: Path) -> list[Path]:
    """Pictures and sounds of the models that come with the package, from nothing, from captions and from words."""
    image, captions, words = (SHIPPED / name for name in ("image", "captions", "words"))
    _run(root, "generate", "demo:image", "--out", str(image), "--num_samples", str(NUM_SAMPLES))
    options = ("--num_samples", "1", "--temperature", "0.1")
    _run(root, "generate", "demo:text-to-image", "--text", *CAPTIONS, "--out", str(captions), *options)
    guided = ("--num_samples", "1", "--guidance", "2")
    _run(root, "generate", "demo:speech", "--text", *WORDS, "--out", str(words), *guided)
    return [path for folder in (image, captions, words) for path in sorted((root / folder).glob("*-[0-9]*.???"))]


def _run(root: Path, *arguments: str) -> str:
    """Run the program as a user would, with its output in the terminal. Returns the command as typed."""
    command = shlex.join(("megabyte-mm", *arguments))
    print(f"\n$ {command}", flush=True)
    code = subprocess.run((*PROGRAM, *arguments), cwd=root, check=False).returncode
    if code:
        raise subprocess.CalledProcessError(code, command)
    return command


def _fit(root: Path, each: DemoModel, minutes: float) -> tuple[str, float]:
    """Train for a share of the minutes. Returns the command as typed and the seconds that it took."""
    started = time.monotonic()
    limit = _max_time(minutes * each.share)
    command = _run(root, "fit", "--config", f"demo/{each.name}.yaml", "--trainer.max_time", limit)
    return command, time.monotonic() - started


def _train_and_sample(root: Path, modality: Modality, minutes: float) -> Section:
    """Train, sample and measure one modality."""
    fit, seconds = _fit(root, modality, minutes)
    originals = _write_originals(root, modality)
    generate = ["generate", str(modality.checkpoint), "--out", str(modality.out)]
    if modality.length is not None:
        generate += ["--length", str(modality.length)]
    temperature = str(modality.sample_temperature)
    sample = _run(root, *generate, "--num_samples", str(NUM_SAMPLES), "--temperature", temperature)
    prefixes = [str(path.relative_to(root)) for path in originals]
    options = ("--prefix", *prefixes, "--keep", str(KEEP), "--num_samples", str(modality.continuations))
    options += ("--temperature", str(modality.temperature))
    continuation = _run(root, *generate, *options)
    section = Section(
        kind=modality.name,
        title=modality.title,
        about=modality.about,
        commands=(fit, sample, continuation),
        samples=_generated(root / modality.out, "sample"),
        continuations=tuple(Continuation(path, _generated(root / modality.out, path.stem)) for path in originals),
        keep=KEEP,
    )
    return _measure(root, modality, section, seconds)


def _train_on_records(root: Path, records: Records, minutes: float) -> Section:
    """Train on records, and complete and measure validation records."""
    fit, seconds = _fit(root, records, minutes)
    originals = _originals_by_content(root, records)
    chosen = _evenly_spaced(sorted(originals), records.prefixes)
    prefixes = [str(originals[each][0].with_suffix(records.source_suffix).relative_to(root)) for each in chosen]
    options = ("--num_samples", str(records.samples), "--temperature", f"{records.temperature:g}")
    out = ("--out", str(records.out))
    generate = _run(root, "generate", str(records.checkpoint), "--prefix", *prefixes, *out, *options)
    continuations = [
        Continuation(
            paths[0], _generated(root / records.out, paths[0].stem), paths[0].with_suffix(records.source_suffix)
        )
        for paths in map(originals.__getitem__, chosen)
    ]
    part = f"val/bpb/{'+'.join(records.order)}/{records.order[1]}"
    metrics = read_metrics(open_run(root / records.run))
    train, val = metrics.get("train/bpb", ()), metrics.get(part, ())
    lowest = best_point(val)
    if lowest is None:
        raise ValueError(f"{records.run}: training logged no {part}")
    files = [path for paths in originals.values() for path in paths]
    return Section(
        kind=records.name,
        title=records.title,
        about=records.about,
        commands=(fit, generate),
        samples=(),
        continuations=tuple(continuations),
        keep=0.0,
        train=train,
        val=val,
        scores=(("this model", lowest[1]), *_codec_scores(records.name, records.codecs, files, records.order[1])),
        facts=(
            ("parameters", f"{_parameters(root / records.checkpoint):,}"),
            ("seconds in fit", f"{seconds:,.0f}"),
            ("validation records", f"{len(files):,}"),
            ("equal to an original", _equal(records, continuations, [originals[each] for each in chosen])),
        ),
    )


def _originals_by_content(root: Path, records: Records) -> dict[bytes, list[Path]]:
    """The second parts of the validation records, by the content of the first: a caption has several pictures."""
    originals: dict[bytes, list[Path]] = {}
    for path in sorted((root / "pairs" / records.media).glob(f"*{records.source_suffix}")):
        originals.setdefault(path.read_bytes(), []).append(path.with_suffix(records.target_suffix))
    return originals


def _equal(records: Records, continuations: Sequence[Continuation], originals: Sequence[Sequence[Path]]) -> str:
    """How many samples equal one of their originals, pixel by pixel or byte by byte."""
    adapter = _adapter(records.name, records.order[1])
    samples = [
        adapter.read(path).data.tobytes() in {adapter.read(each).data.tobytes() for each in paths}
        for continuation, paths in zip(continuations, originals, strict=True)
        for path in continuation.samples
    ]
    return f"{sum(samples)} of {len(samples)}"


def _compare(root: Path, modality: Modality, continuations: Sequence[Continuation]) -> str:
    """How close the continuations are to the originals, in a line."""
    # These import torch, as below.
    from megabyte_mm.evaluation.completion import completion_figures, summary, words
    from megabyte_mm.generation import cut_prefix

    adapter = _adapter(modality.name)
    train = (root / "media" / modality.media).with_name("train")
    texts = train.rglob("*.py") if modality.name == "text" else ()
    known = words(path.read_text(encoding="utf-8", errors="replace") for path in texts)
    figures = []
    for each in continuations:
        original = adapter.read(each.original)
        prefix_length = len(cut_prefix(adapter, original, KEEP))
        for path in each.samples:
            completed = adapter.read(path).data
            figures.append(completion_figures(adapter, original.format, original.data, completed, prefix_length, known))
    return summary([figure for figure in figures if figure is not None])


def _measure(root: Path, modality: Modality, section: Section, seconds: float) -> Section:
    """Add the curve, the facts and the bits per byte of model and codecs to a section."""
    metrics = read_metrics(open_run(root / modality.run))
    lowest = best_point(metrics.get("val/bpb", ()))
    if lowest is None:
        raise ValueError(f"{modality.run}: training logged no val/bpb")
    files = sorted(path for path in (root / "media" / modality.media).rglob("*") if path.is_file())
    scores = (("this model", lowest[1]), *_codec_scores(modality.name, modality.codecs, files))
    facts = [("parameters", f"{_parameters(root / modality.checkpoint):,}"), ("seconds in fit", f"{seconds:,.0f}")]
    if trained := metrics.get("train/bytes"):
        facts.append(("bytes trained on", f"{trained[-1][1]:,.0f}"))
    facts.append(("validation files", f"{len(files):,}"))
    facts.append(("continuations", _compare(root, modality, section.continuations)))
    train, val = metrics.get("train/bpb", ()), metrics["val/bpb"]
    return replace(section, train=train, val=val, scores=scores, facts=tuple(facts))


def _codec_scores(name: str, codecs: Sequence[str], files: Sequence[Path], part: str = "") -> list[tuple[str, float]]:
    """Bits per byte of the codecs on the same bytes, read with the adapter of the demo's config of that name."""
    if not codecs:
        return []
    from megabyte_mm.evaluation import CODECS, content_of

    adapter = _adapter(name, part)
    contents = [content_of(adapter, adapter.read(path)) for path in files]
    return [(codec.name, codec.bits_per_byte(contents)) for codec in CODECS if codec.name in codecs]


def _adapter(name: str, part: str = "") -> Adapter:
    """That of the demo's config of a name; of one part, where it has several."""
    # This imports torch, which takes seconds; a failing first step should be reported before that.
    from megabyte_mm.cli.config import read_config

    sources = read_config(str(Path(__file__).with_name(f"{name}.yaml"))).data.settings.sources
    adapter = sources[part if part in sources else ""].adapter
    assert adapter is not None
    return adapter


def _max_time(minutes: float) -> str:
    """The time in Lightning's format, DD:HH:MM:SS."""
    seconds = max(1, round(minutes * 60))
    return f"{seconds // 86400:02}:{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _parameters(checkpoint: Path) -> int:
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return sum(value.numel() for value in state.values())


def _generated(out: Path, stem: str) -> tuple[Path, ...]:
    """Files that `generate` wrote for the prefix of that stem, or without a prefix ("sample")."""
    files = tuple(sorted(out.glob(f"{escape(stem)}-[0-9]*")))
    if not files:
        raise FileNotFoundError(f"{out}: generate wrote no {stem}-*")
    return files


def _write_originals(root: Path, modality: Modality) -> list[Path]:
    """Copy evenly spaced validation files, cut to the excerpt, under distinct names. Returns their paths."""
    media = root / "media" / modality.media
    files = sorted(path for path in media.rglob("*") if path.is_file())
    folder = root / modality.out / "originals"
    folder.mkdir(parents=True)
    originals = []
    for path in _evenly_spaced(files, modality.prefixes):
        originals.append(folder / "-".join(path.relative_to(media).parts))
        _write_excerpt(path, originals[-1], modality.excerpt)
    return originals


def _evenly_spaced(values: Sequence[Value], count: int) -> list[Value]:
    count = min(count, len(values))
    return [values[index * len(values) // count] for index in range(count)]


def _write_excerpt(source: Path, target: Path, length: int | None) -> None:
    if length is None:
        shutil.copyfile(source, target)
    elif source.suffix == ".wav":
        sound, rate = soundfile.read(source, frames=length, dtype="int16")
        soundfile.write(target, sound, rate, subtype="PCM_16")
    else:
        target.write_bytes(source.read_bytes()[:length])
