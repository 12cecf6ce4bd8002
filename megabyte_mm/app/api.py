"""The JSON endpoints: /model, /generate and /score, for gradio_client and any other HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api

from data_adapters import TextAdapter
from megabyte_mm.app.bits import measure
from megabyte_mm.app.generating import Progress, generate
from megabyte_mm.app.playground import Job, Playground
from megabyte_mm.app.uploads import uploaded


def describe(playground: Playground) -> dict[str, Any]:
    """The model and the limits of the server, as plain values."""
    bundle, limits = playground.bundle, playground.limits
    return {
        "name": playground.name,
        "architecture": bundle.config.name,
        "parameters": bundle.model.num_parameters,
        "window": bundle.window,
        "modalities": {
            name: {"adapter": modality.adapter.name, "suffixes": list(modality.adapter.suffixes)}
            for name, modality in bundle.modalities.items()
        },
        "conditions": list(playground.conditions),
        "limits": {
            "upload_megabytes": limits.upload_megabytes,
            "text": limits.text,
            "count": limits.count,
            "length": limits.length,
        },
    }


def job_of(file: dict[str, Any] | None, **values: Any) -> Job:
    """The job of an endpoint's arguments. file: as gradio_client sends it."""
    if file is not None and not (isinstance(file, dict) and isinstance(file.get("path"), str)):
        raise ValueError("file: must be a file, as gradio_client.handle_file returns it")
    for name in ("text", "condition"):
        if not isinstance(values[name], str):
            raise ValueError(f"{name} must be a text")
    return Job(None if file is None else uploaded(file["path"]), **values)


def as_values(progress: Progress) -> dict[str, Any]:
    """A state as plain values; once complete, with the files and the texts."""
    values: dict[str, Any] = {
        "complete": progress.complete,
        "generated": progress.generated,
        "total": progress.total,
        "seconds": round(progress.seconds, 3),
    }
    if progress.complete:
        values["files"] = [_file(path) for path in progress.files]
        values["texts"] = [
            {
                piece.name or "text": piece.adapter.decode(piece.stream.data)
                for piece in pieces
                if isinstance(piece.adapter, TextAdapter)
            }
            for pieces in progress.samples
        ]
    return values


def add_endpoints(playground: Playground, queue_name: str) -> None:
    """Add the endpoints to the page that is being built. queue_name: of the requests that compute with the model."""

    def model() -> dict:  # type: ignore[type-arg]
        return describe(playground)

    def generate_files(
        file: FileData | None = None,
        text: str = "",
        condition: str = "",
        keep: float | None = None,
        length: int | None = None,
        count: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        guidance: float = 1.0,
    ) -> Iterator[dict]:  # type: ignore[type-arg]
        values = {name: value for name, value in locals().items() if name not in ("file", "playground")}
        with TemporaryDirectory() as folder:
            try:
                for progress in generate(playground, job_of(_plain(file), **values), Path(folder)):
                    yield as_values(progress)
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error

    def score(file: FileData | None = None, text: str = "", condition: str = "") -> dict:  # type: ignore[type-arg]
        try:
            bits = measure(playground, job_of(_plain(file), text=text, condition=condition), with_heatmap=False)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {"name": bits.name, "bytes": bits.size, "bits_per_byte": bits.model, "codecs": bits.codecs}

    shared: dict[str, Any] = {"concurrency_id": queue_name, "concurrency_limit": 1}
    api(model, api_name="model", api_description="The model, its conditions and the limits.")
    api(generate_files, api_name="generate", api_description="Continue a file or a text.", **shared)
    api(score, api_name="score", api_description="Bits per byte of a file or a text.", **shared)


def _plain(file: Any) -> Any:
    return file.model_dump() if isinstance(file, FileData) else file


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
