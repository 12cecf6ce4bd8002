"""CUDA graphs without CUDA: operations are recorded, and run again on the same memory, as a graph's kernels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.simulated_gpu.device import SimulatedGpu

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal"}
"""Operations that a capture refuses, since their result goes to Python."""


class RecordedGraph(TorchDispatchMode):
    """Records operations. `replay` runs them again with the arguments that they had, and writes over their results.

    What Python computed between them, and numbers among the arguments, stay as they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.replays = 0
        self._before: list[tuple[Tensor, Tensor]] = []
        self._calls: list[tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        if func.is_view:
            return func(*args, **(kwargs or {}))
        written = [
            value
            for value, argument in zip(args, func._schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        self._before += [(tensor, tensor.clone()) for tensor in written]
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, None if written else result))
        return result

    def __exit__(self, *error: Any) -> None:
        """Undo what was written: a graph's kernels do not run while they are captured."""
        super().__exit__(*error)
        for tensor, before in reversed(self._before):
            tensor.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations, in one launch."""
        self.replays += 1
        gpu = SimulatedGpu.present
        launches = 0 if gpu is None else gpu.launches
        for func, args, kwargs, expected in self._calls:
            result = func(*args, **kwargs)
            for old, new in zip(tree_leaves(expected), tree_leaves(result), strict=False):
                if isinstance(old, Tensor):
                    old.copy_(new)
        if gpu is not None:
            gpu.launches = launches + 1


def recorded(run: Callable[[], None]) -> RecordedGraph:
    """As `megabyte_mm.generation.patches.captured`."""
    run()
    graph = RecordedGraph()
    with torch.no_grad(), graph:
        run()
    return graph
