"""The Hugging Face hub: ids of models on it, what is fetched from it, what is put there. Needs the extra `hub`.

huggingface_hub is imported when a hub id is used, and never else: a file or a folder asks nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path

from megabyte_mm.checkpoint.exported import CONFIG, WEIGHTS

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]+))?")
FILES = (".ckpt", ".json", ".pt", ".pth", ".safetensors", ".yaml", ".yml")
"""Endings of what lies on a disk: a mistyped name of a file is not asked of the hub."""
INSTALL = "pip install 'megabyte-mm[hub]'"
LOGIN = "`hf auth login`, or the environment variable HF_TOKEN, gives it a token"
PATIENCE = 10
"""Seconds that the hub may take to answer at all."""


@dataclass(frozen=True)
class HubId:
    """A model on the hub, user/name. revision: a branch, a tag or a commit; None for the main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_id(text: str | os.PathLike[str]) -> HubId | None:
    """What `user/name` or `user/name@revision` names, unless it is, or looks like, a path on this machine.

    Local is whatever exists, has the ending of a file, or lies in a folder that exists; a Path always is.
    """
    if not isinstance(text, str) or Path(text).exists() or Path(text).parent.exists():
        return None
    return None if text.lower().endswith(FILES) else parse_id(text)


def parse_id(text: str) -> HubId | None:
    """What `user/name` or `user/name@revision` names; None for text of another form."""
    parts = _ID.fullmatch(text)
    if parts is None or "--" in parts[1] or ".." in parts[1]:
        return None
    return HubId(parts[1], parts[2])


def download(wanted: HubId) -> Path:
    """The folder in huggingface_hub's cache that holds the config and the weights, fetched if they are not there.

    Both are of one commit. Without a network, what the cache has is used. Raises FileNotFoundError and ValueError, in
    one line, where the hub does not give them.
    """
    _import()
    from huggingface_hub import hf_hub_download

    with _translate_errors(wanted):
        # huggingface_hub would try a dead network for half a minute.
        here = not _answers(wanted)
        # By the revision's own name, for the cache to know it when there is no network.
        config = Path(hf_hub_download(wanted.repo, CONFIG, revision=wanted.revision, local_files_only=here))
        folder = config.parent
        weights = hf_hub_download(wanted.repo, WEIGHTS, revision=folder.name, local_files_only=here)
    assert Path(weights).parent == folder
    return folder


def upload(folder: Path, to: HubId, private: bool | None = None, patterns: Sequence[str] = ()) -> str:
    """Put files of a folder on the hub in one commit, and the model and its branch there first where they are not.

    patterns: of the names of the files; all if there are none. Returns the commit's URL. Raises ValueError in one line.
    """
    check_token(to)
    from huggingface_hub import HfApi, constants

    api = HfApi()
    with _translate_errors(to):
        api.create_repo(to.repo, private=private, exist_ok=True)
        if private and not api.repo_info(to.repo).private:
            raise ValueError(f"{to}: is on {constants.ENDPOINT} already, where everybody sees it")
        if to.revision is not None:
            api.create_branch(to.repo, branch=to.revision, exist_ok=True)
        message, only = "Upload a megabyte-mm model", list(patterns) or None
        commit = api.upload_folder(
            repo_id=to.repo, folder_path=folder, revision=to.revision, commit_message=message, allow_patterns=only
        )
    return str(commit.commit_url)


def check_token(to: HubId) -> None:
    """Raise ValueError where this machine has no token, without which nothing can be put on the hub."""
    _import()
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(f"{to}: the Hugging Face hub takes models from a known user alone: {LOGIN}")


def _import() -> None:
    try:
        import huggingface_hub  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ValueError(f"the Hugging Face hub needs huggingface_hub: {INSTALL}") from error


def _answers(wanted: HubId) -> bool:
    """Whether the hub can be reached, after one attempt. Raises what it answers where that is an error."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        get_hf_file_metadata(hf_hub_url(wanted.repo, CONFIG, revision=wanted.revision), timeout=PATIENCE)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return False
    except (_transport_error(), OfflineModeIsEnabled):
        return False
    return True


def _transport_error() -> type[Exception]:
    """The error of httpx, or of httpx2, on which huggingface_hub stands from its version 2 on."""
    from huggingface_hub.errors import HfHubHTTPError

    found: type[Exception] = HfHubHTTPError.__bases__[0]
    return found


@contextmanager
def _translate_errors(wanted: HubId) -> Iterator[None]:
    """Make of what huggingface_hub raises, many lines with URLs and ids of requests, one that says what to do."""
    from huggingface_hub import constants, errors

    hub = f"the Hugging Face hub ({constants.ENDPOINT})"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(f"{wanted}: its owner must grant access first; then {LOGIN}") from error
    except errors.RepositoryNotFoundError as error:
        told = f"no such file or folder, nor such a model on {hub}; where it is private, {LOGIN}"
        raise FileNotFoundError(ENOENT, told, str(wanted)) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{wanted}: this model on {hub} has no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        why = "is not asked (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "does not answer"
        told = f"no such file or folder here; {hub} {why}, and its cache on this machine has no such model"
        raise FileNotFoundError(ENOENT, told, str(wanted)) from error
    except errors.EntryNotFoundError as error:
        raise ValueError(
            f"{wanted}: on {hub}, but no model of megabyte-mm: {CONFIG} or {WEIGHTS} is missing"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        what = f"; {LOGIN}" if status in (401, 403) else ""
        raise ValueError(f"{wanted}: {hub} answers {status} {error.response.reason_phrase}{what}") from error
    except (_transport_error(), errors.OfflineModeIsEnabled, RuntimeError) as error:  # RuntimeError of an upload
        raise ValueError(f"{wanted}: {hub} cannot be reached ({error.__cause__ or error})") from error
