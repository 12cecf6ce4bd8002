"""Names of former versions in config files and options: the one module that knows them.

A file is edited as text, at the positions that its structure gives, so that messages name the lines that a user sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml

from megabyte_mm.models.config import RENAMED_FIELDS

CLASS_PATHS = {
    "megabyte_mm.data.epochs.CountEpochs": "megabyte_mm.data.module.FixEpochRestart",
    "megabyte_mm.models.perceiver_ar.PerceiverARConfig": "megabyte_mm.models.PerceiverARConfig",
    "megabyte_mm.models.transformer.TransformerConfig": "megabyte_mm.models.TransformerConfig",
    "megabyte_mm.training.callbacks.SampleWriter": "megabyte_mm.training.SampleWriter",
    "megabyte_mm.training.checkpoints.AtomicCheckpointIO": "megabyte_mm.training.checkpointing.AtomicCheckpointIO",
    "megabyte_mm.training.checkpoints.BestCheckpoint": "megabyte_mm.training.checkpointing.BestCheckpoint",
    "megabyte_mm.training.checkpoints.KeptCheckpoint": "megabyte_mm.training.checkpointing.RunCheckpoint",
    "megabyte_mm.training.checkpoints.LastCheckpoint": "megabyte_mm.training.checkpointing.LastCheckpoint",
    "megabyte_mm.training.display.RunBar": "megabyte_mm.training.console.StepProgressBar",
    "megabyte_mm.training.logs.CSVLog": "megabyte_mm.training.loggers.DurableCSVLogger",
    "megabyte_mm.training.logs.TensorBoardLog": "megabyte_mm.training.loggers.DurableTensorBoardLogger",
    "megabyte_mm.training.signals.StopBetweenSteps": "megabyte_mm.training.signals.GracefulStop",
    "megabyte_mm.training.strategies.FullySharded": "megabyte_mm.training.distributed.FSDP2Strategy",
    "megabyte_mm.training.watching.Watch": "megabyte_mm.training.progress.ProgressCallback",
}
"""Import paths that a config may hold, former and present."""
CLASS_NAMES = {
    former.rpartition(".")[2]: present
    for former, present in CLASS_PATHS.items()
    if former.rpartition(".")[2] != present.rpartition(".")[2]
}
"""Class names that a config may hold without their module, where the present one differs."""
CLASS_KEYS = ("class_path", "logger", "callbacks", "plugins")
"""Settings whose value may be the name of a class."""

NET = ("model", "net")


def with_present_names(text: str, key: tuple[str, ...] = ()) -> str:
    """The text of a YAML config, or of a part of one, with present names; the text itself where it is not YAML.

    key: of the config's value that the text holds; unknown, and empty, for the file of a part.
    """
    if not any(name in text for name in (*RENAMED_FIELDS, *CLASS_PATHS, *CLASS_NAMES)):
        return text
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text
    for start, end, name in sorted(set(_replacements(root, key)), reverse=True):
        text = f'{text[:start]}"{name}"{text[end:]}'
    return text


def with_present_options(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line with present names, in options and in their values."""
    replaced, option = [], ""
    for argument in arguments:
        value = argument
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            replaced.append(_present_option(option) + equals + _present_value(value, option))
        else:
            replaced.append(_present_value(value, option))
    return replaced


def walk(node: yaml.Node | None, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Every node of a YAML document once, with the keys that lead to it; list items have the key of their list."""
    seen: set[int] = set()  # an alias may lead back to a node that holds it

    def below(node: yaml.Node, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
        if id(node) in seen:
            return
        seen.add(id(node))
        yield key, node
        if isinstance(node, yaml.SequenceNode):
            for child in node.value:
                yield from below(child, key)
        if isinstance(node, yaml.MappingNode):
            for name, child in node.value:
                yield from below(child, (*key, str(name.value)))

    if node is not None:
        yield from below(node, key)


def _replacements(root: yaml.Node | None, key: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """(start, end, present name) of each former name, as offsets in the text."""
    for path, node in walk(root, key):
        if isinstance(node, yaml.ScalarNode) and (present := _present_class(node.value, path)) != node.value:
            yield node.start_mark.index, node.end_mark.index, present
        if isinstance(node, yaml.MappingNode) and _may_be_net(path):
            for name, value in node.value:
                if name.value in RENAMED_FIELDS and isinstance(value, yaml.ScalarNode):
                    yield name.start_mark.index, name.end_mark.index, RENAMED_FIELDS[name.value]


def _may_be_net(path: tuple[str, ...]) -> bool:
    """True for the keys of a mapping that may hold fields of `model.net`, in a config or in the file of a part."""
    return path[:2] == NET or path in ((), ("init_args",), ("net",), ("net", "init_args"))


def _present_class(name: str, path: tuple[str, ...]) -> str:
    names = CLASS_NAMES if path and path[-1] in CLASS_KEYS else {}
    return CLASS_PATHS.get(name) or names.get(name, name)


def _present_option(option: str) -> str:
    *section, field = _keys(option)
    present = RENAMED_FIELDS.get(field, field) if tuple(section[:2]) == NET else field
    return "--" + ".".join([*section, present])


def _present_value(value: str, option: str) -> str:
    if value.startswith(("{", "[")):
        return with_present_names(value, _keys(option.removesuffix("+")))
    return _present_class(value, _keys(option.removesuffix("+")))


def _keys(option: str) -> tuple[str, ...]:
    return tuple(option.removeprefix("--").split("."))
