"""Good, broken and hostile requests of a model of pictures, sound or text, as files and values of /generate."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from data_adapters import Adapter, AudioAdapter, ImageAdapter

MEGABYTE = 10**6


@dataclass(frozen=True)
class Request:
    """A call. expected: "answer", "refusal" (one line of the server), or "cancel" after a second.

    file: a name and its content, None for none. values: other arguments.
    """

    name: str
    endpoint: str
    expected: str
    file: tuple[str, bytes] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def saved(self, folder: Path) -> Path | None:
        """The file in a folder."""
        if self.file is None:
            return None
        path = folder / self.file[0]
        path.write_bytes(self.file[1])
        return path


def requests(adapter: Adapter, upload_megabytes: int, rng: np.random.Generator) -> list[Request]:
    """One of each kind. adapter: of the model. upload_megabytes: limit of the server."""
    good = _content(adapter, rng)
    kind = adapter.name
    suffix = {"image": ".png", "audio": ".wav", "text": ".txt"}[kind]
    name, noise = f"good{suffix}", rng.bytes(5000)
    both = [("continue", "/generate", {"count": 2}), ("score", "/score", {})]
    asked = [Request(kind, path, "answer", (name, good), values) for kind, path, values in both]
    asked += [
        Request("cancel", "/generate", "cancel", (name, good), {"count": 8, "keep": 0.1}),
        Request("too large", "/score", "refusal", (name, bytes(upload_megabytes * MEGABYTE + 1))),
        Request("too many", "/generate", "refusal", (name, good), {"count": 10**6}),
        Request("no number", "/generate", "refusal", (name, good), {"temperature": "hot"}),
        Request("other kind", "/generate", "refusal", ("a.mp3" if kind != "audio" else "a.png", good)),
        Request("packed", "/score", "refusal", (name, zlib.compress(noise))) if kind != "text" else asked[0],
        Request("strange name", "/score", "answer", (f"<b>..%2f{suffix}", good)),
    ]
    if kind == "text":
        return asked
    return [
        *asked,
        Request("noise", "/generate", "refusal", (name, noise)),
        Request("cut", "/generate", "refusal", (name, good[: len(good) // 2])),
        Request("bomb", "/generate", "refusal", (name, _bomb(kind))),
    ]


def _content(adapter: Adapter, rng: np.random.Generator) -> bytes:
    output = io.BytesIO()
    if isinstance(adapter, ImageAdapter):
        width, height = adapter.size or (400, 300)  # some models take pictures of their own size alone
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(output, "PNG")
    elif isinstance(adapter, AudioAdapter):
        soundfile.write(output, rng.integers(-9000, 9000, 40_000).astype(np.int16), 8000, format="WAV")
    else:
        output.write(" ".join(map(str, rng.integers(0, 10**6, 2000))).encode())
    return output.getvalue()


def _bomb(kind: str) -> bytes:
    """A small file that decodes to gigabytes."""
    if kind == "audio":  # a header that promises an hour of sound, and none of it
        return (
            b"RIFF" + struct.pack("<I", 2**31) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 8, 8000, 128000, 16, 16)
        )
    lines = zlib.compressobj(9)
    data = b"".join(lines.compress(bytes(12_501)) for _ in range(4_000)) + lines.flush()
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
