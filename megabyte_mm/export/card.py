"""The model card: README.md of an exported model, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import yaml

from data_adapters import Adapter, AudioAdapter, FileAdapter, ImageAdapter, TextAdapter, printable
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.checkpoint.rounding import Precision
from megabyte_mm.checkpoint.shipped import PREFIX

LIBRARY = "megabyte-mm"
TASKS = {"image": "unconditional-image-generation", "text": "text-generation"}
"""The hub's task for a model of one modality; it has none for sound."""
REPLACED = "\ufffd"
"""Replaces control codes in a shown text."""
PAPER = "https://arxiv.org/abs/2305.07185"


@dataclass(frozen=True)
class SampleFiles:
    """Files with samples of one modality.

    files: their paths in the folder, of pictures only that of the contact sheet. text: the first sample of a text.
    """

    files: Sequence[str]
    text: str = ""


@dataclass(frozen=True)
class CardScore:
    """Bits per byte of some files, with their number and their bytes."""

    bits_per_byte: float
    files: int
    bytes: int


@dataclass(frozen=True)
class Card:
    """The content of a model card.

    name: the title, and the model's name in the commands: a hub id or a folder's name. license: an identifier of the
    hub, such as mit; "" for none. notes: Markdown, such as the attribution of the data. precision: of the weights in
    the folder, to which those of the bundle are rounded already. seed: of the samples. classes: of the samples, in
    turn. scored: by modality; scored_name: the name of these files.
    """

    name: str
    bundle: Bundle
    license: str = ""
    notes: str = ""
    precision: Precision = "float32"
    seed: int = 0
    classes: Sequence[str] = ()
    scored: Mapping[str, CardScore] = field(default_factory=dict)
    scored_name: str = ""

    @property
    def adapters(self) -> dict[str, Adapter]:
        """By modality, the only one named ""."""
        return {name: modality.adapter for name, modality in self.bundle.modalities.items()}


def model_card(card: Card, samples: Mapping[str, SampleFiles]) -> str:
    """Return the text of README.md: front matter, samples, model, data, bits per byte, usage.

    samples: by modality.
    """
    parts = [
        _opening(card),
        _samples(card, samples),
        _model(card),
        _data(card),
        _bits(card),
        card.notes.strip(),
        _use(card),
    ]
    return f"---\n{_front_matter(card)}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card) -> str:
    kinds = sorted({adapter.name for adapter in card.adapters.values()})
    entries: dict[str, Any] = {"library_name": LIBRARY}
    if card.license:
        entries["license"] = card.license
    if len(kinds) == 1 and kinds[0] in TASKS:
        entries["pipeline_tag"] = TASKS[kinds[0]]
    entries["tags"] = [card.bundle.config.name, "bytes", *kinds]
    return str(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True))


def _opening(card: Card) -> str:
    of = f"[MEGABYTE]({PAPER})" if card.bundle.config.name == "megabyte" else card.bundle.config.name
    what = _listed([_kind(adapter) for adapter in card.adapters.values()])
    return (
        f"# {_plain(card.name)}\n\n"
        f"{what[0].upper()}{what[1:]}, byte by byte: a model of {LIBRARY} ({of}, "
        f"{card.bundle.model.num_parameters / 1e6:.2f} M parameters) that predicts the next byte of a file: it "
        "continues files, generates new ones, and measures how many bits each byte costs."
    )


def _samples(card: Card, samples: Mapping[str, SampleFiles]) -> str:
    if not samples:
        return ""
    parts = ["## Samples", f"Generated without a prefix, with seed {card.seed}; not chosen."]
    if card.classes:
        parts.append(f"The classes in turn: {_listed([_code(label) for label in card.classes])}.")
    for name, files in samples.items():
        parts += _shown(name, files)
    return "\n\n".join(parts)


def _shown(name: str, samples: SampleFiles) -> Iterator[str]:
    if name:
        yield f"### {_plain(name)}"
    if samples.text:
        text = "".join(c if c.isprintable() or c in "\n\t" else REPLACED for c in samples.text)
        fence = _fence(text, 3)
        yield f"{fence}text\n{text}\n{fence}"
    links = [f"[{PurePosixPath(file).name}]({quote(file)})" for file in samples.files]
    yield f"!{links[0]}" if samples.files[0].endswith(".png") else " ".join(links)


def _model(card: Card) -> str:
    rows = {
        "architecture": card.bundle.config.name,
        "parameters": f"{card.bundle.model.num_parameters:,}",
        "window": f"{card.bundle.window:,} bytes",
    }
    if card.precision != "float32":
        rows["weights"] = card.precision + (", a scale for each row" if card.precision == "int8" else "")
    sizes = card.bundle.model.patch_sizes
    if max(sizes) > 1:
        rows["patch"] = f"{', '.join(map(str, sizes))} bytes"
    for name, adapter in card.adapters.items():
        settings = ", ".join(f"{key} {value}" for key, value in adapter.settings().items())
        rows[f"reads {name}".strip()] = _code(adapter.name + (f" ({settings})" if settings else ""))
    if len(card.bundle.conditions) > 1 and "" in card.adapters:
        rows["classes"] = _listed([_code(label) for label in card.bundle.conditions[1:]])
    table = [f"| {_plain(key)} | {value} |" for key, value in rows.items()]
    return "\n".join(["## Model", "", "| | |", "|---|---|", *table, "", "All settings are in `config.json`."])


def _data(card: Card) -> str:
    run, sentences = card.bundle.provenance, []
    if run.data_name:
        sentences.append(f"Trained on {_code(run.data_name)}.")
    for name, splits in run.data.items():
        counts = [
            f"{count['files']:,} {'file' if count['files'] == 1 else 'files'} ({count['bytes']:,} bytes) to "
            f"{'train on' if split == 'train' else 'validate'}"
            for split, count in splits.items()
            if {"files", "bytes"} <= set(count)
        ]
        if counts:
            sentences.append(f"{_plain(name).capitalize() + ': ' if name else ''}{_listed(counts)}.")
    if run.steps is not None:
        read = f", in which {run.bytes:,} bytes were read" if run.bytes else ""
        sentences.append(f"{run.steps:,} steps of training{read}.")
    return "## Data and training\n\n" + " ".join(sentences) if sentences else ""


def _bits(card: Card) -> str:
    rows = []
    for name, scored in card.scored.items():
        files = f"{scored.files:,} {'file' if scored.files == 1 else 'files'} of {_code(card.scored_name)}"
        of_modality = f", {_plain(name)}" if name else ""
        rows.append(f"| {files}, {scored.bytes:,} bytes{of_modality} | {scored.bits_per_byte:.4f} |")
    how = f", {_plain(card.bundle.provenance.method)}" if card.bundle.provenance.method else ""
    for name, bits in card.bundle.provenance.val_bpb.items():
        rows.append(f"| validation of its training{how}{f', {_plain(name)}' if name else ''} | {bits:.4f} |")
    if not card.bundle.provenance.val_bpb and card.bundle.provenance.best_val_bpb is not None:
        rows.append(f"| lowest validation of its training so far | {card.bundle.provenance.best_val_bpb:.4f} |")
    if not rows:
        return ""
    note = "All bits over the number of bytes; lower is better, and a byte that nobody can predict costs 8."
    return "\n".join(["## Bits per byte", "", note, "", "| data | bits per byte |", "|---|---|", *rows])


def _use(card: Card) -> str:
    where = f"{_code(card.name)} is its id on the hub, or the path of a folder that holds these files"
    if card.name.startswith(PREFIX):
        where = f"{_code(card.name)} comes with {LIBRARY}"
    if card.bundle.reads_records:
        records = ["+".join(order) for order in card.bundle.orders[1:] if len(order) > 1]
        commands = [
            f"megabyte-mm generate {_word(card.name)} --out {_word(name)} --condition {_word(name)}{_first(card, name)}"
            for name in records
        ]
        return "\n".join(["## Use", "", f"{where}.", "", "```bash", *commands, "```"])
    name, adapter = next(iter(card.adapters.items()))
    condition = name or (card.bundle.conditions[1] if len(card.bundle.conditions) > 1 else "")
    is_custom_adapter = not isinstance(adapter, ImageAdapter | AudioAdapter | TextAdapter | FileAdapter)
    options = (f" --condition {_word(condition)}" if condition else "") + (
        " --adapter my_module.MyAdapter" if is_custom_adapter else ""
    )
    model, file = _word(card.name), f"a{adapter.suffixes[0] if adapter.suffixes else ''}"
    generate = f"megabyte-mm generate {model} --out out{options}"
    commands = [generate] if _has_default_format(adapter) else []
    commands.append(f"megabyte-mm generate {model} --out continued{options} --prefix {file}")
    commands.append(f"megabyte-mm score {model} {file}{options}")
    code = _python(card, name, condition, is_custom_adapter) if _has_default_format(adapter) else ""
    return "\n".join(["## Use", "", f"{where}.", "", "```bash", *commands, "```"]) + code


def _first(card: Card, order: str) -> str:
    """The options that begin a record with the parts that the model has not learned to generate."""
    parts = [(name, card.adapters[name]) for name in card.bundle.unlearned.get(order, ())]
    texts = [f" --text a_{name}" for name, adapter in parts if isinstance(adapter, TextAdapter)]
    files = [f" a{next(iter(adapter.suffixes), '')}" for _, adapter in parts if not isinstance(adapter, TextAdapter)]
    return "".join([*texts, " --prefix" if files else "", *files])


def _python(card: Card, name: str, condition: str, is_custom_adapter: bool) -> str:
    load = f"load_model({_string(card.name)}{', adapter=MyAdapter' if is_custom_adapter else ''})"
    argument = "condition=condition, " if condition else ""
    lines = [
        "import torch",
        "",
        "from data_adapters import ByteStream",
        *(["from my_module import MyAdapter"] if is_custom_adapter else []),
        "from megabyte_mm import generate, load_model",
        "from megabyte_mm.alphabet import to_bytes",
        "",
        f"bundle = {load}{f'.for_modality({_string(name)})' if name else ''}",
        "format = bundle.adapter.default_format()",
        "length = bundle.adapter.length_in(format)  # None where files end by themselves",
        "nothing = torch.zeros(1, 0, dtype=torch.int64)",
        *([f"condition = torch.tensor([bundle.conditions.index({_string(condition)})])"] if condition else []),
        f"ids = generate(bundle.model, nothing, length or bundle.window, {argument}allow_end=length is None, seed=0)",
        'bundle.adapter.write(ByteStream(to_bytes(ids[0]), format), "generated" + bundle.adapter.output_suffix)',
    ]
    return "\n".join(["", "", "```python", *lines, "```"])


def _has_default_format(adapter: Adapter) -> bool:
    try:
        adapter.default_format()
    except ValueError:
        return False
    return True


def _kind(adapter: Adapter) -> str:
    kinds = {"image": "pictures", "audio": "sounds", "text": "texts", "file": "files"}
    return kinds.get(adapter.name, _code(adapter.name))


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def _code(text: str) -> str:
    """Any text as inline code."""
    shown = printable(text).replace("|", "\\|")
    fence = _fence(shown, 1)
    return f"{fence}{shown}{fence}" if fence == "`" else f"{fence} {shown} {fence}"


def _fence(text: str, least: int) -> str:
    """At least so many backticks, and more than any run of them in the text."""
    return "`" * max([least, *(len(ticks) + 1 for ticks in re.findall("`+", text))])


def _plain(text: str) -> str:
    """Any text as Markdown that shows it literally."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", printable(text))


def _string(text: str) -> str:
    """A Python string, in double quotes if possible."""
    quoted = json.dumps(text)
    # JSON writes characters beyond 16 bits as two halves, which Python does not join.
    return quoted if quoted == json.dumps(text, ensure_ascii=False) else repr(text)


def _word(text: str) -> str:
    """A word of a command, in single quotes if needed."""
    shown = printable(text)
    return shown if re.fullmatch(r"[\w./@+:-]+", shown) else "'" + shown.replace("'", "'\\''") + "'"
