"""Files at a URL as data: downloaded once into the cache."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import numpy as np
import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm.data.fetched import fetched
from megabyte_mm.data.module import ByteData
from megabyte_mm.errors import FieldError


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """Files at memory://."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def put(system: fsspec.AbstractFileSystem, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        system.pipe_file(f"/bucket/{name}", content)


def picture(level: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4), level, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def test_a_folder_at_a_url_is_fetched_once_for_each_state(memory, tmp_path, monkeypatch):
    put(memory, {"train/a.txt": b"a", "val/b.txt": b"b", "README.md": b"#", ".git/x": b"1"})
    folder = fetched("memory://bucket", tmp_path)
    names = sorted(str(path.relative_to(folder)) for path in tmp_path.rglob("*.*") if path.is_file())
    assert names == ["train/a.txt", "val/b.txt"]
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get_file", None)
        assert fetched("memory://bucket/", tmp_path) == folder
    put(memory, {"train/a.txt": b"aa"})
    assert fetched("memory://bucket", tmp_path) != folder


def test_training_reads_texts_and_archives_at_urls(memory, tmp_path):
    put(memory, {"train.txt": bytes(range(64)), "val.txt": b"valid"})
    data = ByteData("memory://bucket", TextAdapter(), window=16, batch_size=1, cache_dir=str(tmp_path))
    data.setup()
    assert (data.train.read(0).tobytes(), data.val.read(0).tobytes()) == (bytes(range(64)), b"valid")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for i in range(3):
            zipped.writestr(f"photos/{i}.png", picture(i))
    put(memory, {"photos.zip": content.getvalue()})
    data = ByteData(
        ["memory://bucket/photos.zip"], ImageAdapter("L", (4, 4)), batch_size=1, val_share=0.4, cache_dir=str(tmp_path)
    )
    data.setup()
    assert sorted(int(records.read(i)[0]) for records in (data.train, data.val) for i in range(len(records))) == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"path memory://bucket: no data there, neither prepared \(no index.json\) nor files"),
        (
            {"shard-00000.bin": b"1"},
            "holds prepared data without index.json: finish them with megabyte-mm prepare",
        ),
    ],
)
def test_urls_without_data_are_refused(memory, tmp_path, files, message):
    put(memory, files)
    with pytest.raises(FieldError, match=message):
        fetched("memory://bucket", tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_a_download_that_fails_leaves_nothing(memory, tmp_path, monkeypatch):
    put(memory, {"a.txt": b"a", "b.txt": b"b"})
    get_file = type(memory).get_file

    def fail(self, source, target, **options):
        if source.endswith("b.txt"):
            raise OSError("connection reset")
        get_file(self, source, target, **options)

    monkeypatch.setattr(type(memory), "get_file", fail)
    with pytest.raises(OSError, match="memory://bucket: connection reset"):
        fetched("memory://bucket", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """A Hugging Face hub with the data set user/photos, as far as its client asks for one."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "X-Repo-Commit": "0" * 40}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def entries(self, names: list[str]) -> bytes:
            folders = {name.rpartition("/")[0] for name in names} - {""}
            listed: list[dict[str, Any]] = [{"type": "directory", "path": name, "oid": "1"} for name in folders]
            listed += [{"type": "file", "path": n, "size": len(files[n]), "oid": f"{hash(files[n])}"} for n in names]
            return json.dumps(listed).encode()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            name = re.sub(r"^/datasets/user/photos/resolve/[^/]+/", "", path)
            if path.startswith("/api/datasets/user/photos/tree/"):
                below = path.removeprefix("/api/datasets/user/photos/tree/").partition("/")[2]
                self.answer(
                    200, self.entries([n for n in files if n.startswith(below)]), Content_Type="application/json"
                )
            elif path.startswith("/api/datasets/user/photos"):
                self.answer(200, b'{"id": "user/photos", "sha": "%s"}' % (b"0" * 40), Content_Type="application/json")
            elif name in files:
                self.answer(200, files[name], ETag=f'"{len(files[name])}"')
            else:
                self.answer(404, b"", X_Error_Code="RepoNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
            self.answer(200, self.entries([n for n in files if n in wanted]), Content_Type="application/json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_data_set_of_the_hub_is_read_by_its_id(tmp_path, monkeypatch):
    import huggingface_hub
    import pyarrow.parquet

    def table(levels: list[int]) -> bytes:
        content = io.BytesIO()
        rows = [{"image": {"bytes": picture(level), "path": None}, "label": level % 2} for level in levels]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), content)
        return content.getvalue()

    files = {
        "README.md": b"# photos",
        "data/train-00000-of-00001.parquet": table([10, 11, 12]),
        "data/validation-00000-of-00001.parquet": table([20, 21]),
    }
    with hub(files) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        settings: dict[str, Any] = {"classes": True, "batch_size": 1, "cache_dir": str(tmp_path)}
        data = ByteData("hf://user/photos", ImageAdapter("L", (4, 4)), **settings)
        data.setup()
        assert [int(data.train.read(i)[0]) for i in range(3)] == [10, 12, 11]
        assert (len(data.val), data.geometry.conditions) == (2, ("none", "0", "1"))
        assert ByteData("hf://datasets/user/photos", ImageAdapter("L", (4, 4)), **settings).settings.path
        with pytest.raises(OSError, match="hf://datasets/user/gone: no such file, folder or bucket"):
            ByteData("hf://user/gone", ImageAdapter("L", (4, 4)), **settings).setup()
    huggingface_hub.HfFileSystem.clear_instance_cache()
