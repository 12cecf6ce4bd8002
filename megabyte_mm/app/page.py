"""The page: its elements, and what happens when a user moves or presses one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from data_adapters import printable
from megabyte_mm.app.api import add_endpoints
from megabyte_mm.app.bits import measure
from megabyte_mm.app.display import bits_view, given_view, message, samples_view, status_view
from megabyte_mm.app.generating import generate
from megabyte_mm.app.playground import Job, Playground
from megabyte_mm.app.runs import Runs
from megabyte_mm.app.uploads import refuse_urls, uploaded

MODEL = "model"
"""Name of the queue of all that computes with the model: one request at a time, since each takes all processors."""
FILES_SECONDS = 3600
"""Time for which uploads and generated files are kept."""
FILE_DECIDES = "by the file"
STOPPED = '<p class="mm-status" data-state="stopped">Stopped.</p>'
KINDS = {"image": "pictures", "audio": "sounds", "text": "texts", "file": "files"}


def job_of(playground: Playground, values: tuple[Any, ...]) -> Job:
    """The job that the elements of the page describe, in the order of `build_page`."""
    file, picked, text, keep, condition, count, temperature, top_p, seed, length, guidance = values
    path = uploaded(file) if file else str(playground.files[picked]) if picked in playground.files else None
    return Job(
        path,
        text or "",
        "" if condition in (None, FILE_DECIDES) else str(condition),
        keep,
        int(length) if length and playground.open_ended else None,
        int(count),
        temperature,
        top_p,
        int(seed or 0),
        guidance,
    )


def show_given(playground: Playground, *values: Any) -> str:
    """What is given, as the model reads it; or why it is refused."""
    try:
        return given_view(playground.given(job_of(playground, values)))
    except ValueError as error:
        return message(str(error))


def show_generation(
    playground: Playground, is_wanted: Callable[[], bool], *values: Any
) -> Iterator[tuple[Any, str, Any]]:
    """Yield the continuations, the status and the files, several times a second, until all are complete.

    is_wanted: false once the user has stopped the run, which then ends.
    """
    if not is_wanted():
        yield gr.skip(), STOPPED, gr.skip()
        return
    yield "", '<p class="mm-status" data-state="running">Reading …</p>', gr.update(value=None, visible=False)
    with TemporaryDirectory() as folder:
        try:
            with closing(generate(playground, job_of(playground, values), Path(folder))) as states:
                for progress in states:
                    if not is_wanted():
                        yield gr.skip(), STOPPED, gr.skip()
                        return
                    paths = [str(path) for path in progress.files]
                    files = gr.update(value=paths, visible=True) if progress.complete else gr.skip()
                    yield samples_view(progress), status_view(progress), files
        except ValueError as error:
            yield gr.skip(), message(str(error)), gr.skip()


def show_bits(playground: Playground, *values: Any) -> str:
    """The bits of the file or text, as bars and a heatmap; or why they are not measured."""
    try:
        return bits_view(measure(playground, job_of(playground, values)))
    except ValueError as error:
        return message(str(error))


def build_page(playground: Playground) -> gr.Blocks:
    """Return the page with its events and its JSON endpoints."""
    limits, text_only = playground.limits, playground.takes_text and len(playground.adapters) == 1
    page = gr.Blocks(
        analytics_enabled=False,
        title=f"{playground.name} · megabyte-mm",
        delete_cache=(FILES_SECONDS // 4, FILES_SECONDS),
    )
    with page:
        gr.HTML(_title(playground), elem_classes="mm-title")
        with gr.Row():
            with gr.Column(scale=5, min_width=300):
                file = gr.File(label=f"Upload (at most {limits.upload_megabytes} MB)", height=120, elem_id="upload")
                picked = gr.Dropdown(
                    list(playground.files),
                    value=None,
                    label="or pick a file",
                    visible=bool(playground.files),
                    elem_id="pick",
                )
                text = gr.Textbox(
                    label="or type a text" if not playground.bundle.reads_records else "Text",
                    lines=4 if text_only else 2,
                    max_length=limits.text,
                    visible=playground.takes_text,
                    elem_id="text",
                )
                given = gr.HTML(given_view([]), elem_id="given")
                keep = gr.Slider(0, 1, playground.default_keep, step=0.01, label="Share that is kept", elem_id="keep")
                condition = _condition(playground)
                with gr.Row():
                    count = gr.Slider(1, limits.count, 4, step=1, label="Continuations", min_width=120)
                    temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", min_width=120)
                with gr.Accordion("More settings", open=False), gr.Row():
                    top_p = gr.Slider(0.05, 1, 1, step=0.01, label="Top-p", min_width=120)
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
                    length = gr.Number(
                        playground.default_length,
                        label="Length in bytes",
                        precision=0,
                        minimum=1,
                        maximum=limits.length,
                        visible=playground.open_ended,
                        min_width=90,
                    )
                    guidance = gr.Slider(
                        0, 5, 1, step=0.1, label="Guidance", visible=playground.can_guide, min_width=120
                    )
                with gr.Row():
                    start = gr.Button("Generate", variant="primary", elem_id="generate", min_width=100)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80)
                    bits = gr.Button("Measure", elem_id="measure", min_width=90)
            with gr.Column(scale=7, min_width=300):
                status = gr.HTML('<p class="mm-status"></p>', elem_id="status")
                samples = gr.HTML(elem_id="samples", min_height=40)
                files = gr.File(label="Files", file_count="multiple", visible=False, interactive=False, elem_id="files")
                measured = gr.HTML(elem_id="bits", min_height=20)

        run, runs = gr.State(), Runs()
        values = [file, picked, text, keep, condition, count, temperature, top_p, seed, length, guidance]

        def on_change(*given_values: Any) -> str:
            return show_given(playground, *given_values)

        def on_generate(token: str, *given_values: Any) -> Iterator[tuple[Any, str, Any]]:
            try:
                yield from show_generation(playground, lambda: runs.is_wanted(token), *given_values)
            finally:
                runs.stop(token)

        def on_stop(token: str) -> str:
            runs.stop(token)
            return STOPPED

        def on_measure(*given_values: Any) -> str:
            return show_bits(playground, *given_values)

        # The page's own events are no endpoints; `add_endpoints` has those.
        hidden: dict[str, Any] = {"api_visibility": "private"}
        showing: dict[str, Any] = {
            "inputs": values,
            "outputs": given,
            "show_progress": "hidden",
            "concurrency_limit": 4,
            **hidden,
        }
        for event in (file.change, picked.change, text.change, condition.change, keep.change):
            event(on_change, trigger_mode="always_last", **showing)
        file.upload(lambda: None, None, picked, **hidden)
        at_once: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", **hidden}
        begun = start.click(runs.begin, run, run, trigger_mode="multiple", **at_once)
        begun.then(
            on_generate,
            [run, *values],
            [samples, status, files],
            trigger_mode="multiple",
            concurrency_limit=1,
            concurrency_id=MODEL,
            show_progress="minimal",
            show_progress_on=status,
            **hidden,
        )
        stop.click(on_stop, run, status, **at_once)
        bits.click(
            on_measure, values, measured, concurrency_limit=1, concurrency_id=MODEL, show_progress="minimal", **hidden
        )
        add_endpoints(playground, MODEL)
    refuse_urls(page)
    page.queue(max_size=limits.queue, default_concurrency_limit=1)
    return page


def _title(playground: Playground) -> str:
    bundle = playground.bundle
    kinds = " and ".join(dict.fromkeys(KINDS.get(adapter.name, adapter.name) for adapter in playground.adapters))
    figures = [f"{bundle.model.num_parameters / 1e6:.2f} M parameters", f"window of {bundle.window:,} bytes"]
    if bits := bundle.provenance.val_bpb.get(""):
        figures.append(f"{bits:.3f} bits per byte in validation")
    what = f"Continues {kinds}, byte by byte · {' · '.join(figures)}"
    return f"<h1>{escape(printable(playground.name))}</h1><p>{escape(printable(what))}</p>"


def _condition(playground: Playground) -> gr.Dropdown:
    names = list(playground.conditions)
    choices = names if playground.needs_condition else [FILE_DECIDES, *names]
    label = "Class" if playground.needs_condition else "Kind"
    value = choices[0] if choices else None
    return gr.Dropdown(choices, value=value, label=label, visible=bool(names), elem_id="condition")
