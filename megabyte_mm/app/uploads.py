"""The files that a request may name: uploads to this server, and nothing else on this machine or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

NOT_UPLOADED = (
    "file: must be uploaded to this server first, as gradio_client does; it reads no paths and fetches no URLs"
)


def folder() -> Path:
    """The folder of this server's uploads; `server.running` names it to gradio."""
    return Path(os.environ["GRADIO_TEMP_DIR"]).resolve()


def uploaded(path: str) -> str:
    """Return the path of an upload. Raises ValueError for any other: gradio does not check those of `gr.api`."""
    if not Path(path).resolve().is_relative_to(folder()):
        raise ValueError(NOT_UPLOADED)
    return path


def refuse_urls(page: gr.Blocks) -> None:
    """Let no element of the page download what a request names: gradio would fetch any public URL, of any size."""
    for block in page.blocks.values():
        move = getattr(block, "async_move_resource_to_block_cache", None)
        if move is not None:
            block.async_move_resource_to_block_cache = partial(_move, move)  # type: ignore[attr-defined, method-assign, unused-ignore]


async def _move(move: Callable[[Any], Awaitable[str | None]], path: Any) -> str | None:
    if isinstance(path, str) and "://" in path:
        raise gr.Error(NOT_UPLOADED, print_exception=False)
    return await move(path)
