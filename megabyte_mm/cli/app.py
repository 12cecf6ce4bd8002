"""`megabyte-mm app`: a model in the browser."""

from __future__ import annotations

from megabyte_mm.app.limits import Limits
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.errors import check_positive


def app(
    checkpoint: str,
    port: int = 7860,
    host: str = "127.0.0.1",
    files: str | None = None,
    name: str | None = None,
    max_upload: int = Limits.upload_megabytes,
    max_count: int = Limits.count,
    max_length: int = Limits.length,
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Serve a model as a web page: continue files and texts, and see their bits; with JSON endpoints for programs.

    Prints the address, and serves until Ctrl-C. Needs `pip install 'megabyte-mm[app]'`. Several users share the model,
    one request after the other. Nothing is loaded from or sent to other servers. See docs/app.md.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        port: Port to listen on; 0 for any free one.
        host: Address to listen on; by default this machine only, 0.0.0.0 for everybody who can reach it.
        files: A folder of files to pick from, beside uploads; by default the samples of an exported folder.
        name: The title of the page; by default the name of the run, of the folder, or the hub id.
        max_upload: Megabytes that an uploaded file may have.
        max_count: Continuations of one request, at most.
        max_length: Bytes that a continuation of sound, text or any file may have.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
    """
    check_positive(max_upload=max_upload, max_count=max_count, max_length=max_length)
    from megabyte_mm.app.open import check_installed, open_playground

    check_installed()
    limits = Limits(upload_megabytes=max_upload, count=max_count, length=max_length)
    playground = open_playground(checkpoint, files, name, pick_device(device), adapter, limits)
    from megabyte_mm.app.server import serve

    serve(playground, host, port)
