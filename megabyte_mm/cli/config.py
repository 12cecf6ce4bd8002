"""The one parser of run settings: of the options of `fit`, `validate` and `test`, and of all commands' configs."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentError, Namespace, get_loader, set_loader
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from megabyte_mm.cli.former_names import walk, with_present_names
from megabyte_mm.cli.parser_reports import one_line
from megabyte_mm.data.module import ByteData
from megabyte_mm.errors import FieldError, errors_inside
from megabyte_mm.models import CONFIGS, ByteModel
from megabyte_mm.models.config import from_plain
from megabyte_mm.training.compatibility import build_model
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.samples import SampleWriter
from megabyte_mm.training.trainer import CHECKPOINT_MINUTES, TRAINER_DEFAULTS

SECTIONS = {"model": ByteLM, "data": ByteData, "samples": SampleWriter}
"""The sections of a config beside `trainer`, and the classes that take their settings."""
KEYS = ("trainer", *SECTIONS, "seed_everything", "checkpoint_minutes", "init_from", "ckpt_path", "weights_only")
"""The allowed top-level keys of a config."""

PARSER_MODE = "yaml with former names"
"""The name of ConfigParser's loader in jsonargparse."""

_UNKNOWN_CLASS = re.compile(r'Parser key "model\.net".*Expected a dot import path string: (\S+)', re.S)


class ConfigParser(LightningArgumentParser):
    """LightningCLI's parser; it checks the structure of config files, and accepts the names of former versions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        set_loader(PARSER_MODE, _load, exceptions=(yaml.YAMLError,))
        super().__init__(*args, **{"parser_mode": PARSER_MODE, **kwargs})

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """The settings of a file. Raises ValueError where the parser would ignore a part of it."""
        check_config_file(path)
        return super().parse_path(path, *args, **kwargs)


def _load(text: str) -> Any:
    """The value of a YAML text with present names: of a config, of the file of a part of it, or of an option."""
    return get_loader("yaml")(with_present_names(text))


def add_settings(parser: LightningArgumentParser) -> None:
    """Add the sections trainer, model, data and samples, checkpoint_minutes and init_from."""
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    _add_sections(parser)


def _add_sections(parser: LightningArgumentParser) -> None:
    """Add the sections model, data and samples, checkpoint_minutes and init_from."""
    for section, kind in SECTIONS.items():
        parser.add_lightning_class_args(kind, section)
    parser.add_argument(
        "--checkpoint_minutes",
        type=float,
        default=CHECKPOINT_MINUTES,
        help="Minutes of training between two last.ckpt.",
    )
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="Begin with the weights of this model: a checkpoint, an exported folder, demo:image, or a hub id.",
    )


@dataclass(frozen=True)
class RunConfig:
    """The settings of a config file but those of the trainer, as `fit` has them before it opens the data."""

    model: ByteLM
    data: ByteData
    samples: SampleWriter

    def build_empty(self) -> ByteModel:
        """The model without memory for its weights, for data without classes.

        Raises ValueError, naming the field, where only the data themselves would fix one.
        """
        net = self.model.net
        with torch.device("meta"):
            return build_model(net, self.model.method, self.data.settings.expected_geometry(), net.conditions)


def read_config(path: str, data_path: str | None = None) -> RunConfig:
    """Read the model, data and sample settings of a config file.

    data_path: replaces the paths of the config's data, those of its sources too. Raises ValueError, in one line that
    names the file and the field, for a file that is not a config or holds settings that cannot be used.
    """
    parser = ConfigParser(exit_on_error=False)
    _add_sections(parser)
    trainer = parser.add_argument_group("trainer", name="trainer")
    for name in inspect.signature(Trainer).parameters:  # values unchecked: their classes need not exist on this machine
        trainer.add_argument(f"--trainer.{name}", type=Any)
    for key in KEYS:
        if key not in ("trainer", *SECTIONS, "checkpoint_minutes", "init_from"):
            parser.add_argument(f"--{key}", type=Any)
    try:
        settings = parser.parse_path(path)
        check_nulls(settings)
        del settings["trainer"]
        if data_path is not None:
            settings.data.path = data_path
            for source in (settings.data.sources or {}).values():
                source.path = ""
        instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # before jsonargparse 4.49
        with whole_field_names(settings):
            sections = instantiate(settings)
    except ArgumentError as error:
        raise ValueError(f"{path}: {explain(str(error)).removeprefix('--')}") from error
    except (TypeError, ValueError, ImportError) as error:
        reason = one_line(str(error))
        raise ValueError(reason if reason.startswith(path) else f"{path}: {reason}") from error
    return RunConfig(sections.model, sections.data, sections.samples)


def check_config_file(path: str) -> None:
    """Raise ValueError, naming the file, for no config, an unknown key at its top, or a key that is set twice."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a config file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a config file")
    check_duplicate_keys(path, text)
    for key, value in content.items():
        if key not in KEYS:
            raise ValueError(f"{path}: {key} is not a section of a config; known: {', '.join(KEYS)}")
        if key in ("trainer", *SECTIONS) and not isinstance(value, dict | None):
            raise ValueError(f"{path}: {key} is {value!r}; it must hold settings, each with a name")


def check_duplicate_keys(path: str, text: str) -> None:
    """Raise ValueError where a YAML file sets a key twice: YAML keeps the last, without a warning."""
    for _, node in walk(yaml.compose(text, Loader=yaml.SafeLoader)):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value in seen:
                raise ValueError(f"{path}, line {key.start_mark.line + 1}: {key.value} is set twice")
            seen.add(key.value)


def check_nulls(settings: Namespace) -> None:
    """Raise FieldError where a setting is null that must not be: jsonargparse lets every setting be null."""
    for section, kind in SECTIONS.items():
        _check_nulls(kind, settings[section], section)


def _check_nulls(kind: Any, values: Namespace, key: str) -> None:
    for name, hint in get_type_hints(kind if is_dataclass(kind) else kind.__init__).items():
        value = values.get(name, ...)
        if value is None and type(None) not in (hint, *get_args(hint)):
            raise FieldError(f"{key}.{name}", "is null; leave it out, or give it a value")
        if isinstance(value, Namespace):
            inner = _import(value.class_path) if "class_path" in value else hint
            if is_dataclass(inner):
                _check_nulls(inner, value.get("init_args") or value, f"{key}.{name}")


@contextmanager
def whole_field_names(settings: Namespace) -> Iterator[None]:
    """Raise an error about a field of a config that the block creates under the whole name of the field.

    A config knows the names of its own fields only: "lr", not "model.optimizer.lr".
    """
    try:
        yield
    except ValueError:  # jsonargparse makes one with a report of a FieldError of a field that may be null
        for section, kind in SECTIONS.items():
            _create_configs(kind, settings[section], section)
        raise


def _create_configs(kind: Any, values: Namespace, key: str) -> None:
    """Create the configs among the settings of a class. Raises FieldError with the whole name of the field."""
    for name, hint in get_type_hints(kind.__init__).items():
        value = values.get(name)
        if isinstance(value, Namespace):
            inner = _import(value.class_path) if "class_path" in value else hint
            if is_dataclass(inner):
                with errors_inside(f"{key}.{name}"):
                    from_plain(inner, (value.get("init_args") or value).as_dict())  # type: ignore[arg-type] # a class


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def explain(report: str) -> str:
    """jsonargparse's report in one line, with the known names where a class of model.net or its option is unknown."""
    if unknown := _UNKNOWN_CLASS.search(report):
        known = ", ".join(kind.__name__ for kind in CONFIGS.values())
        return f"--model.net {unknown[1]}: no such class; known are {known}, and the import path of your own"
    if "model.net" in report and "is not accepted" in report:
        return f"{one_line(report)}; --model.net.help MegabyteConfig (or another class) lists all options"
    return one_line(report)
