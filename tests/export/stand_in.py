"""A Hugging Face hub of the tests' own, as far as huggingface_hub asks it for models; it keeps them in memory.

It answers with what the client looks at: `X-Repo-Commit`, `ETag` and `X-Linked-*` of files, `X-Error-Code` of refusals,
a redirect to another host for large files, and the protocols of commits and of git LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import yaml

TOKEN = "hf_of_the_tests"
Files = dict[str, bytes]


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, changes: Files) -> str:
        files = {**self.commits.get(self.branches.get(branch, ""), {}), **changes}
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid


class StandIn(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.large: Files = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage(self) -> str:
        """Where large files are: to the client another host, which gets no token."""
        return f"http://localhost:{self.server_port}/storage"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(self.path).split("?")[0].strip("/").split("/")
        if parts[0] == "storage":
            assert "Authorization" not in self.headers, "the token left the hub"
            self.answer(200, self.server.large[parts[1]])
        elif parts[:2] == ["api", "models"] and "/".join(parts[2:]) in self.server.repos:
            name = "/".join(parts[2:])
            self.answer_json({"id": name, "private": self.server.repos[name].private})
        elif len(parts) > 4 and parts[2] == "resolve":
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.answer(404)

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.server.repos.get(name)
        if name.startswith("broken/"):
            self.answer(418)
        elif "Authorization" in self.headers and not self.known:
            self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not self.known):
            self.answer(404 if self.known else 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif (commit := repo.branches.get(revision, revision)) not in repo.commits:
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif path not in repo.commits[commit]:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        else:
            content = repo.commits[commit][path]
            oid = hashlib.sha256(content).hexdigest()
            if oid in self.server.large:
                self.answer(
                    302,
                    Location=f"{self.server.storage}/{oid}",
                    X_Repo_Commit=commit,
                    X_Linked_Size=str(len(content)),
                    X_Linked_Etag=f'"{oid}"',
                )
            else:
                self.answer(200, content, ETag=f'"{oid[:40]}"', X_Repo_Commit=commit)

    def do_PUT(self) -> None:
        content = self.body()
        oid = self.path.rsplit("/", 1)[1]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.large[oid] = content
        self.answer(200)

    def do_POST(self) -> None:
        body = self.body()
        parts = unquote(self.path).split("?")[0].strip("/").split("/")
        if not self.known:
            self.answer(401, X_Error_Message="Invalid username or password.")
            return
        match parts:
            case ["api", "repos", "create"]:
                self.create(json.loads(body))
            case ["api", "validate-yaml"]:
                self.validate(json.loads(body)["content"])
            case ["api", "models", user, name, "branch", branch]:
                repo = self.server.repos[f"{user}/{name}"]
                repo.commit(branch, {})
                self.answer(200)
            case ["api", "models", user, name, "preupload", _]:
                files = [
                    {"path": file["path"], "uploadMode": self.mode(file["path"]), "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self.answer_json({"files": files})
            case ["api", "models", user, name, "commit", branch]:
                self.commit(f"{user}/{name}", branch, [json.loads(line) for line in body.splitlines()])
            case [_, _, "info", "lfs", "objects", "batch"]:
                wanted = [{**one, "actions": {"upload": self.place(one["oid"])}} for one in json.loads(body)["objects"]]
                self.answer_json({"transfer": "basic", "objects": wanted})
            case _:
                self.answer(404)

    def mode(self, path: str) -> str:
        return "lfs" if path.endswith((".safetensors", ".png")) else "regular"

    def place(self, oid: str) -> dict[str, str]:
        return {"href": f"{self.server.storage}/{oid}"}

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        asked["private"] = asked.get("private") or asked.get("visibility") == "private"  # before 2.0, and since
        status = 409 if name in self.server.repos else 200
        self.server.repos.setdefault(name, Repo(private=bool(asked.get("private"))))
        self.answer_json({"url": f"{self.server.url}/{name}"}, status)

    def validate(self, card: str) -> None:
        assert isinstance(yaml.safe_load(card.split("---\n")[1]), dict)
        self.answer_json({"warnings": [], "errors": []})

    def commit(self, name: str, branch: str, lines: list[dict]) -> None:
        changes: Files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.server.large[value["oid"]]
        oid = self.server.repos[name].commit(branch, changes)
        self.answer_json({"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A hub that runs until the block ends."""
    with StandIn() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
