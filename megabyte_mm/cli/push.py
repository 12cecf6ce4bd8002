"""`megabyte-mm push`: a model to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from megabyte_mm.checkpoint import load_model
from megabyte_mm.checkpoint.exported import is_exported, read_exported
from megabyte_mm.checkpoint.hub import HubId, check_token, parse_id, upload
from megabyte_mm.checkpoint.shipped import shipped_folder
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.export.card import Card
from megabyte_mm.export.folder import PATTERNS, export_model


def push(
    model: str,
    to: str,
    private: bool = False,
    revision: str | None = None,
    samples: int = 8,
    license: str | None = None,
    adapter: str | None = None,
) -> None:
    """Put a model on the Hugging Face hub, where `generate user/name` finds it.

    The model's page is created if it does not exist; its address is printed. Needs `pip install 'megabyte-mm[hub]'`
    and a token of the hub: `hf auth login`, or the environment variable HF_TOKEN. See docs/sharing.md.

    Args:
        model: A folder that `export` wrote, or a checkpoint, which is then exported on the way.
        to: The model's id on the hub, user/name.
        private: Create the model page as private; fails if the page is already public.
        revision: The branch that receives it; main by default.
        samples: Samples of each modality to generate for the model card of a checkpoint; 0 for none.
        license: A license identifier of the hub, such as mit, for a checkpoint; an exported folder has its own.
        adapter: Import path of your own adapter class, for a checkpoint that was trained with one.
    """
    model_id = parse_id(to)
    if model_id is None:
        raise ValueError(f"{to!r} is not an id of the hub; it must be user/name")
    model_id = HubId(model_id.repo, revision or model_id.revision)
    check_token(model_id)
    model = str(shipped_folder(model) or model)
    visibility = True if private else None
    if is_exported(model):
        if license is not None or adapter is not None:
            raise ValueError(f"{model}: is an export already; --license and --adapter are for `export`")
        read_exported(Path(model))  # whole, before anybody downloads it
        print(upload(Path(model), model_id, visibility, PATTERNS))
        return
    bundle = load_model(model, pick_device("auto"), adapter)
    with TemporaryDirectory(prefix="megabyte-mm-") as parent:
        folder = Path(parent, "model")
        export_model(folder, Card(model_id.repo, bundle, license or ""), samples)
        print(upload(folder, model_id, visibility, PATTERNS))
