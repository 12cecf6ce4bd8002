"""`megabyte-mm export`: a trained model as a folder for others."""

from __future__ import annotations

from pathlib import Path

from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.checkpoint.rounding import Precision
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.files import group_by_modality, read_files
from megabyte_mm.cli.score_records import score_parts
from megabyte_mm.evaluation import bits_per_byte, check_finite, score_streams
from megabyte_mm.export.card import Card, CardScore
from megabyte_mm.export.folder import check_export_folder, check_samples, export_model, round_weights
from megabyte_mm.export.space import export_space
from megabyte_mm.progress import byte_progress


def export(
    checkpoint: str,
    folder: str,
    data: str | None = None,
    samples: int = 8,
    license: str | None = None,
    name: str | None = None,
    notes: str | None = None,
    precision: Precision = "float32",
    device: str = "auto",
    adapter: str | None = None,
    space: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model as a folder for others: weights, config, and a model card with samples and bits per byte.

    `generate`, `score`, `info` and `load_model` take the folder as they take a checkpoint, and so does the Hugging Face
    hub (`push`). The files are named on stdout. See docs/sharing.md for their content.

    Args:
        checkpoint: A checkpoint of a training run, such as runs/image/best.ckpt.
        folder: The folder to create, written completely or not at all.
        data: Files to score for the card, a file or a folder, beside the bits per byte that the run measured.
        samples: Samples of each modality to generate for the card; 0 for none.
        license: A license identifier of the hub for the card, such as mit or cc-by-4.0.
        name: The card's title, and how its commands call the model: by default the folder's name.
        notes: A Markdown file that becomes part of the card, such as the licence and attribution of the data.
        precision: Round the weights to bfloat16 or int8, a half or a quarter of the size; figures and samples of the
            card are those of the rounded weights.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
        space: Write the playground around the model: a folder that runs as a Space of the Hugging Face hub.
        overwrite: Replace the files of an earlier export; other files in the folder stay.
    """
    path = Path(folder)
    check_export_folder(path, overwrite)
    bundle = load_model(checkpoint, pick_device(device), adapter)
    check_samples(samples)
    text = "" if notes is None else Path(notes).read_text(encoding="utf-8")
    round_weights(bundle, precision)
    scored = {} if data is None else score_for_card(bundle, data)
    title, scored_name = name or path.absolute().name, Path(data or "").name
    card = Card(title, bundle, license or "", text, precision, scored=scored, scored_name=scored_name)
    for file in (export_space if space else export_model)(path, card, samples):
        print(file)


def score_for_card(bundle: Bundle, data: str) -> dict[str, CardScore]:
    """Bits per byte of the files, by modality or by part of an order. Raises ValueError where there is none to read."""
    if bundle.reads_records:
        parts = score_parts(bundle, data)
        return {name: CardScore(score.bits_per_byte, count, score.bytes) for name, (score, count) in parts.items()}
    scored: dict[str, CardScore] = {}
    for selected, paths in group_by_modality(bundle, [data], None):
        files, _ = read_files(selected, paths, selected.window)
        streams = [(file.stream.data, file.condition) for file in files]
        unit = selected.adapter.common_unit(file.stream.format for file in files)
        total, window = sum(len(stream) for stream, _ in streams), max(selected.window // unit, 1) * unit
        if not total:
            raise ValueError(f"--data {data}: no byte in it could be read")
        with byte_progress(total, "scored") as on_bytes:
            scores = list(
                score_streams(selected.model, streams, window, unit, selected.fixed_length, on_bytes=on_bytes)
            )
        check_finite(scores)
        scored[selected.modality_name] = CardScore(bits_per_byte(scores), len(files), total)
    return scored
