"""A GPU in Python: tensors that say they are on cuda:0, hold their numbers on the CPU, and report what waits.

Under `SimulatedGpu`, `device="cuda"` makes SimulatedTensors. An operation on them runs on the numbers that they hold.
It raises MixedDevices where a GPU would refuse a tensor of the CPU, and is recorded where the processor would wait for
the GPU. Kernels and their rounding, memory, CUDA graphs and compiled code are not simulated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent / "device.py"

WAITING = {
    "_local_scalar_dense": "read as a number",
    "nonzero": "nonzero",
    "masked_select": "masked_select",
    "_unique2": "unique",
    "equal": "equal",
    "repeat_interleave": "repeat_interleave by a tensor",
}
"""Operations whose result, or the shape of it, must be known to the processor."""
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
NEW_FROM_NUMBERS = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class MixedDevices(RuntimeError):
    """An operation on tensors of the simulated GPU and of the CPU."""


class SimulatedTensor(Tensor):
    """A tensor on the simulated GPU; `held` has its numbers.

    To torch's C++ it is a tensor of the CPU, so that any build of torch will do.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> SimulatedTensor:
        tensor: SimulatedTensor = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CPU,
        )
        tensor.held = held
        return tensor

    def __repr__(self) -> str:  # type: ignore[override] # torch's own takes what it prints
        return f"SimulatedTensor({self.held})"

    # In Python alone, and at all times: torch's own hooks ask too.
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch's own is no class method
        cls, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if SimulatedGpu.present is not None and not func.is_view:
            SimulatedGpu.present.launches += 1
        if name in WAITING:
            _record(WAITING[name])
        elif name in INDEXING:
            _check_indices(args[1])
            # In backward passes torch's C++ adds to zeros, and puts zeros, that it makes itself.
            tensors = [] if SimulatedGpu.in_backward else [args[0], *args[2:3]]
        on_cpu = [tuple(x.shape) for x in tensors if not isinstance(x, SimulatedTensor) and x.dim()]
        if name == "copy_" and on_cpu:
            _record_copy(non_blocking=any(args[2:]) or bool(kwargs.get("non_blocking")))
        elif on_cpu:
            raise MixedDevices(f"{func}: a tensor of the CPU, {on_cpu[0]}, at {_caller()}")
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if name == "copy_" and not isinstance(args[0], SimulatedTensor):
            return args[0]
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_wrapped, result))


class SimulatedGpu(TorchFunctionMode):
    """The simulated GPU while it is entered.

    waits: where the processor waited for the GPU since `reset`, each as "reason at file:line". launches: operations on
    it that are no views, and captured graphs.
    """

    present: SimulatedGpu | None = None
    in_backward = False

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.launches = 0
        self._patches = ExitStack()

    def reset(self) -> None:
        """Forget the waits so far."""
        self.waits.clear()

    def __enter__(self) -> SimulatedGpu:
        random_state = torch.zeros(16, dtype=torch.uint8)
        replaced: Mapping[str, object] = {
            "torch.cuda.get_rng_state": lambda device=None: random_state,
            "torch.cuda.set_rng_state": lambda state, device=None: None,
            "torch.autograd._engine_run_backward": self._run_backward,
            "torch.nn.utils.clip_grad._group_tensors_by_device_and_dtype": _grouped,
            "torch.nn.utils.clip_grad._has_foreach_support": lambda tensors, device: True,
        }
        for name, value in replaced.items():
            self._patches.enter_context(mock.patch(name, value))
        SimulatedGpu.present = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        SimulatedGpu.present = None
        self._patches.close()

    def _run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Stay entered in backward passes, which torch starts while it handles a call."""
        with _Again(self), mock.patch.object(SimulatedGpu, "in_backward", True):
            return torch.autograd.graph._engine_run_backward(*args, **kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and isinstance(args[0], SimulatedTensor):
            return _attention(*args, **kwargs)
        if func is F.embedding_bag and isinstance(args[0], SimulatedTensor):
            ids_NX, table, *_ = args  # torch would make the offsets, while this mode handles the call
            offsets_N = SimulatedTensor(torch.arange(0, ids_NX.numel(), ids_NX.shape[1]))
            return func(ids_NX.flatten(), table, offsets_N, mode=kwargs["mode"])
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return _moved(func, *args, **kwargs)
        if func is Tensor.pin_memory:
            return args[0]
        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], SimulatedTensor):
            if func is Tensor.numpy:
                raise TypeError("numpy of a tensor on a GPU: copy it to the CPU first")
            _record("tolist")
            return args[0].held.tolist()
        if func is Tensor.new_tensor and isinstance(args[0], SimulatedTensor):
            _record_copy()
            return SimulatedTensor(args[0].held.new_tensor(*args[1:], **kwargs))
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs)
        if func in NEW_FROM_NUMBERS:
            _record_copy()
        return _wrapped(func(*args, **{**kwargs, "device": CPU}))


class _Again(TorchFunctionMode):
    """A mode that handles calls as another does."""

    def __init__(self, mode: SimulatedGpu) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(self, *args: Any) -> Any:
        return self._mode.__torch_function__(*args)


def on_gpu(module: nn.Module) -> Any:
    """Replace a module's parameters and buffers by copies on the simulated GPU, and return it."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = nn.Parameter(to_gpu(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = to_gpu(buffer)
    return module


def to_gpu(x: Tensor) -> Tensor:
    """A copy on the simulated GPU, of which nothing is recorded."""
    return SimulatedTensor(to_cpu(x).detach().clone())


def to_cpu(x: Tensor) -> Tensor:
    """The numbers of a tensor on the simulated GPU, without waiting for it."""
    return x.held if isinstance(x, SimulatedTensor) else x


def _moved(func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """`to`, `cuda` and `cpu`: a copy between devices is recorded, and has no gradients here."""
    device = {Tensor.cuda: CUDA, Tensor.cpu: CPU}.get(func, kwargs.pop("device", None))
    for arg in args if func is Tensor.to else ():
        if isinstance(arg, str | torch.device):
            device = torch.device(arg)
        elif isinstance(arg, Tensor):
            device, kwargs["dtype"] = arg.device, arg.dtype
        elif isinstance(arg, torch.dtype):
            kwargs["dtype"] = arg
        else:
            kwargs["non_blocking"] = arg
    non_blocking = kwargs.pop("non_blocking", False)
    to_cuda = x.is_cuda if device is None else torch.device(device).type == "cuda"
    if to_cuda == isinstance(x, SimulatedTensor):
        return Tensor.to(x, **kwargs) if kwargs else x
    if x.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError("gradients through a copy between devices")
    _record_copy(non_blocking=non_blocking and to_cuda)
    copied = to_cpu(x).detach().clone()
    copied = copied.to(**kwargs) if kwargs else copied
    return SimulatedTensor(copied) if to_cuda else copied


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """One fused kernel, by its definition: the CPU's own might create masks that are not on the simulated GPU."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if is_causal:
        attn_mask = SimulatedTensor(torch.ones(scores.shape[-2:], dtype=torch.bool).tril())
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    return F.dropout(scores.softmax(-1), dropout_p, training=dropout_p > 0).to(v.dtype) @ v


def _check_indices(indices: Sequence[Tensor | None]) -> None:
    for index in indices:
        if index is not None and not isinstance(index, SimulatedTensor):
            _record_copy("index from the CPU")
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            _record("index by a mask")


def _grouped(tensorlistlist: list[list[Tensor]], with_indices: bool = False) -> Any:
    """Lists of tensors by their device, which C++ would see as the CPU."""
    dtype = tensorlistlist[0][0].dtype
    return {(CUDA, dtype): (tensorlistlist, list(range(len(tensorlistlist[0]))))}


def _record_copy(reason: str = "copy from or to the CPU", non_blocking: bool = False) -> None:
    if not non_blocking:
        _record(reason)


def _record(reason: str) -> None:
    if SimulatedGpu.present is not None:
        SimulatedGpu.present.waits.append(f"{reason} at {_caller()}")


def _caller() -> str:
    """The innermost line of this project outside this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != SUPPORT and path.is_relative_to(ROOT):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "torch"


def _inner(x: Any) -> Any:
    return x.held if isinstance(x, SimulatedTensor) else x


def _wrapped(x: Any) -> Any:
    return SimulatedTensor(x) if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor) else x
