"""The web server of the playground, on this machine alone unless another address is named."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from megabyte_mm.app.page import build_page
from megabyte_mm.app.playground import Playground

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"
"""Content-Security-Policy: a page loads nothing from other servers, whatever a file or a library puts into it."""
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
"""Fonts of the reader's system: gradio's themes would fetch others."""
SESSIONS = 200
"""Sessions whose state is kept."""


class SecurityHeaders:
    """Adds the policy to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                headers = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                event = {**event, "headers": [*event.get("headers", []), *headers]}
            await send(event)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


@contextmanager
def running(playground: Playground, host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """Serve the page in the background, and yield its address. port: 0 for any free one.

    Raises ValueError for an address that is not free.
    """
    port = _free_port(host, port)
    theme = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS).set(
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="500",
        block_title_padding="0",
        block_label_background_fill="none",
        block_label_background_fill_dark="none",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_label_text_weight="500",
        block_border_width="1px",
        block_border_width_dark="1px",
    )
    with TemporaryDirectory(prefix="megabyte-mm-app-") as folder, _environment(GRADIO_TEMP_DIR=folder):
        page = build_page(playground)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                enable_monitoring=False,
                run_history=False,
                mcp_server=False,
                pwa=False,
                footer_links=["api"],
                max_file_size=playground.limits.upload_megabytes * 10**6,
                state_session_capacity=SESSIONS,
                app_kwargs={"middleware": [Middleware(SecurityHeaders)]},
                theme=theme,
                css_paths=[Path(__file__).with_name("page.css")],
            )
            yield f"http://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"
        finally:
            page.close()
            playground.reader.close()


def serve(playground: Playground, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve until Ctrl-C, and print the address."""
    with running(playground, host, port) as address:
        os.write(1, f"{address}\n".encode())
        threading.Event().wait()


def _free_port(host: str, port: int) -> int:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is in use; choose another" if in_use else f"cannot be served at {host} ({error})"
        raise ValueError(f"--port {port}: {reason}") from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
