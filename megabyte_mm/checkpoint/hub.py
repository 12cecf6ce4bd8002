"""The Hugging Face hub: ids of models, download and upload. Needs the extra `hub`.

huggingface_hub is imported only for a hub id: loading a file or a folder sends no request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import Any

from megabyte_mm.checkpoint.exported import CONFIG_FILE, WEIGHTS_FILE

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]+))?")
FILE_SUFFIXES = (".ckpt", ".json", ".pt", ".pth", ".safetensors", ".yaml", ".yml")
"""Suffixes of local files: a mistyped file name is not sent to the hub."""
INSTALL = "pip install 'megabyte-mm[hub]'"
LOGIN = "run `hf auth login`, or set HF_TOKEN"
TIMEOUT = 10
"""Seconds to wait for the hub's first answer."""


@dataclass(frozen=True)
class HubId:
    """A model on the hub, user/name. revision: a branch, a tag or a commit; None for the main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_id(text: str | os.PathLike[str]) -> HubId | None:
    """Parse `user/name` or `user/name@revision`; None for a local path.

    Local is a path that exists, has the suffix of a file, or lies in an existing folder, and every Path.
    """
    if not isinstance(text, str) or Path(text).exists() or Path(text).parent.exists():
        return None
    return None if text.lower().endswith(FILE_SUFFIXES) else parse_id(text)


def parse_id(text: str) -> HubId | None:
    """Parse `user/name` or `user/name@revision`; None for text of another form."""
    parts = _ID.fullmatch(text)
    if parts is None or "--" in parts[1] or ".." in parts[1]:
        return None
    return HubId(parts[1], parts[2])


def download(model_id: HubId) -> Path:
    """Return the folder of `download_files`.

    Without a network, cached files are used. Raises FileNotFoundError and ValueError, in one line.
    """
    _import()
    with _translate_errors(model_id):
        # huggingface_hub would try a dead network for half a minute.
        return download_files(model_id, local_files_only=not _answers(model_id))


def download_files(model_id: HubId, **options: Any) -> Path:
    """Download the config and the weights, both of one commit, and return their folder in huggingface_hub's cache.

    options: those of `hf_hub_download`, whose errors this raises.
    """
    from huggingface_hub import hf_hub_download

    # By the revision's own name, which the cache then knows without a network.
    config = Path(hf_hub_download(model_id.repo, CONFIG_FILE, revision=model_id.revision, **options))
    folder = config.parent
    weights = hf_hub_download(model_id.repo, WEIGHTS_FILE, revision=folder.name, **options)
    assert Path(weights).parent == folder
    return folder


def upload(folder: Path, to: HubId, private: bool | None = None, patterns: Sequence[str] = ()) -> str:
    """Upload files of a folder in one commit, and create the model and its branch if needed.

    patterns: of the files' names; all files if empty. Returns the commit's URL. Raises ValueError in one line.
    """
    check_token(to)
    from huggingface_hub import HfApi, constants

    api = HfApi()
    with _translate_errors(to):
        api.create_repo(to.repo, private=private, exist_ok=True)
        if private and not api.repo_info(to.repo).private:
            raise ValueError(f"{to}: is already a public model on {constants.ENDPOINT}")
        if to.revision is not None:
            api.create_branch(to.repo, branch=to.revision, exist_ok=True)
        message, only = "Upload a megabyte-mm model", list(patterns) or None
        commit = api.upload_folder(
            repo_id=to.repo, folder_path=folder, revision=to.revision, commit_message=message, allow_patterns=only
        )
    return str(commit.commit_url)


def check_token(to: HubId) -> None:
    """Raise ValueError if this machine has no token of the hub, which uploads require."""
    _import()
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(f"{to}: uploads need a token: {LOGIN}")


def _import() -> None:
    try:
        import huggingface_hub  # noqa: F401 - only to see if it is installed
    except ImportError as error:
        raise ValueError(f"the Hugging Face hub needs huggingface_hub: {INSTALL}") from error


def _answers(model_id: HubId) -> bool:
    """True if the hub can be reached, after one attempt. Raises the error that it answers with."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        get_hf_file_metadata(hf_hub_url(model_id.repo, CONFIG_FILE, revision=model_id.revision), timeout=TIMEOUT)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return False
    except (_transport_error(), OfflineModeIsEnabled):
        return False
    return True


def _transport_error() -> type[Exception]:
    """The error of httpx, or of httpx2, which huggingface_hub uses from its version 2 on."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


@contextmanager
def _translate_errors(model_id: HubId) -> Iterator[None]:
    """Turn huggingface_hub's errors, many lines with URLs and ids of requests, into one line with advice."""
    from huggingface_hub import constants, errors

    hub = f"the Hugging Face hub ({constants.ENDPOINT})"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(f"{model_id}: its owner must grant access first; then {LOGIN}") from error
    except errors.RepositoryNotFoundError as error:
        reason = f"no such file or folder, nor such a model on {hub}; if it is private, {LOGIN}"
        raise FileNotFoundError(ENOENT, reason, str(model_id)) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{model_id}: this model on {hub} has no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        why = "is disabled by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "does not answer"
        reason = f"no such file or folder here; {hub} {why}, and its cache on this machine has no such model"
        raise FileNotFoundError(ENOENT, reason, str(model_id)) from error
    except errors.EntryNotFoundError as error:
        raise ValueError(
            f"{model_id}: on {hub}, but no model of megabyte-mm: {CONFIG_FILE} or {WEIGHTS_FILE} is missing"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = f"; {LOGIN}" if status in (401, 403) else ""
        raise ValueError(f"{model_id}: {hub} answers {status} {error.response.reason_phrase}{advice}") from error
    except (_transport_error(), errors.OfflineModeIsEnabled, RuntimeError) as error:  # RuntimeError of an upload
        raise ValueError(f"{model_id}: {hub} cannot be reached ({error.__cause__ or error})") from error
