"""A trained model with huggingface_hub's own methods; needs the extra `hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_adapters import Adapter
from megabyte_mm.checkpoint import Bundle, load_model
from megabyte_mm.checkpoint.exported import write_exported
from megabyte_mm.checkpoint.hub import INSTALL, HubId, download_files
from megabyte_mm.checkpoint.shipped import shipped_folder
from megabyte_mm.export.card import LIBRARY, Card, model_card
from megabyte_mm.export.folder import export_config

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin
except ImportError as error:
    raise ImportError(f"HubModel needs huggingface_hub: {INSTALL}") from error


class HubModel(nn.Module, PyTorchModelHubMixin, library_name=LIBRARY):
    """A bundle's model with `from_pretrained`, `save_pretrained` and `push_to_hub`, as huggingface_hub has them.

    There is one format: `save_pretrained` and `push_to_hub` write the folder of `megabyte-mm export`, without samples,
    and `load_model` reads it; `from_pretrained` reads what `export` and `push` made. Errors and retries are
    huggingface_hub's own; `load_model("user/name")` reports errors in one line and gives up sooner.

    `HubModel(load_model("runs/image/best.ckpt")).push_to_hub("user/name")` shares a checkpoint. `from_pretrained` also
    takes `device` and `adapter`, as `load_model` does, and raises ValueError as it does for a damaged model.
    """

    _hub_mixin_config: dict[str, Any] = {}  # noqa: RUF012 - the mixin's; it would copy the bundle, weights and all

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.bundle = bundle
        self.model = bundle.model
        self.train(bundle.model.training)

    def forward(self, ids: Tensor, condition: Tensor | None = None) -> Tensor:
        """The logits of each symbol: (B, T) int64, (B,) int64 -> (B, T, 257)."""
        logits: Tensor = self.model(ids, condition)
        return logits

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model with a card that names its id. options: the mixin's. Returns the commit's URL."""
        options["model_card_kwargs"] = {"name": repo_id, **(options.get("model_card_kwargs") or {})}
        return str(super().push_to_hub(repo_id, **options))

    def generate_model_card(self, *, name: str = "model", license: str = "", **_: Any) -> ModelCard:
        """The card of `export`, without samples. name, license: what `model_card_kwargs` may hold."""
        return ModelCard(model_card(Card(name, self.bundle, license), {}))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_exported(save_directory, export_config(self.bundle), self.model.state_dict())

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str | torch.device = "cpu",
        adapter: type[Adapter] | None = None,
        **_: Any,
    ) -> HubModel:
        folder = shipped_folder(model_id) or Path(model_id)
        if not folder.is_dir():
            folder = download_files(
                HubId(model_id, revision),
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        return cls(load_model(folder, device, adapter))
