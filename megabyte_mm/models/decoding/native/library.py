"""steps.cpp as a shared library: compiled once for a machine, kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("steps.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-std=c++17", "-shared", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 120
"""Seconds that the compiler may take; it takes about two."""

address, count = ctypes.c_void_p, ctypes.c_int64


class NativeError(RuntimeError):
    """There is no native code on this machine; says why."""


class Linear(ctypes.Structure):
    """A linear layer with its weights in blocks, as steps.cpp has it."""

    _fields_ = (
        ("weight", address),
        ("scale", address),
        ("bias", address),
        ("inputs", count),
        ("outputs", count),
        ("kind", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """A block and its cache."""

    _fields_ = (
        *((name, address) for name in ("norm1", "norm1_bias", "norm2", "norm2_bias", "query_norm", "key_norm")),
        *((name, Linear) for name in ("qkv", "out", "up", "down")),
        ("keys", address),
        ("values", address),
    )


class Stack(ctypes.Structure):
    """A stack of blocks, and what follows them."""

    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        *((name, address) for name in ("norm", "norm_bias", "rotary")),
        ("head", ctypes.POINTER(Linear)),
        *((name, count) for name in ("layer_count", "dim", "heads", "hidden", "capacity", "positions")),
        *((name, ctypes.c_float) for name in ("epsilon", "head_epsilon")),
        *((name, ctypes.c_int32) for name in ("norm_kind", "activation", "gated")),
    )


def load() -> ctypes.CDLL:
    """The library. Raises NativeError where it cannot be built or loaded."""
    found = _found()
    if isinstance(found, str):
        raise NativeError(found)
    return found


@functools.cache
def _found() -> ctypes.CDLL | str:
    """The library, or why there is none: the compiler is not asked again."""
    try:
        return _loaded()
    # A home that does not exist, or cannot be written or executed from.
    except (OSError, RuntimeError) as error:
        return str(error) if isinstance(error, NativeError) else f"native steps cannot be built or loaded: {error}"


def _loaded() -> ctypes.CDLL:
    if platform.system() != "Linux":
        raise NativeError("native steps are for Linux")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))), None)
    if compiler is None:
        raise NativeError("native steps need a C++ compiler (c++, g++ or clang++)")
    file = _built(compiler)
    try:
        library = ctypes.CDLL(str(file))
    except OSError:
        file.unlink()  # cut short, as by a full disk: once more
        library = ctypes.CDLL(str(_built(compiler)))
    library.width.restype = library.scratch.restype = count
    library.scratch.argtypes = [ctypes.POINTER(Stack), count]
    library.stack_step.argtypes = [ctypes.POINTER(Stack), address, count, *[address] * 4, ctypes.c_int]
    library.linear_step.argtypes = [ctypes.POINTER(Linear), address, count, address, ctypes.c_int]
    return library


def _built(compiler: str) -> Path:
    """The shared library's file, from the cache where this machine's is there."""
    command = [compiler, *FLAGS, f"-DWIDTH={64 if torch.backends.cpu.get_cpu_capability() == 'AVX512' else 32}"]
    file = _folder() / f"steps-{_fingerprint(command)}.so"
    if file.is_file():
        return file
    # In a folder of its own first: another process may build the same.
    with tempfile.TemporaryDirectory(dir=file.parent) as made:
        fresh = Path(made) / file.name
        try:
            subprocess.run(
                [*command, str(SOURCE), "-o", str(fresh)], check=True, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["it gave no reason"])[0]
            raise NativeError(f"{compiler} cannot build the native steps: {said}") from error
        except subprocess.TimeoutExpired as error:
            raise NativeError(f"{compiler} cannot build the native steps: {error}") from error
        fresh.replace(file)
    return file


def _folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megabyte-mm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint(command: list[str]) -> str:
    """Of the source, the compiler and the processor: code for one may not run on another."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    found = "\n".join([SOURCE.read_text(encoding="utf-8"), *command, platform.machine(), *processor])
    return hashlib.sha256(found.encode()).hexdigest()[:16]
