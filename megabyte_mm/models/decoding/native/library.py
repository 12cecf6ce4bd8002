"""steps.cpp as a shared library: compiled once per machine, stored in the user's cache folder."""

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
COMPILER_TIMEOUT = 120
"""Seconds; it usually takes about two."""

address, count = ctypes.c_void_p, ctypes.c_int64


class NativeError(RuntimeError):
    """Native code cannot be built or loaded on this machine; the message gives the reason."""


class NativeLinear(ctypes.Structure):
    """A linear layer with its weights in blocks, as in steps.cpp."""

    _fields_ = (
        ("weight", address),
        ("scale", address),
        ("bias", address),
        ("inputs", count),
        ("outputs", count),
        ("kind", ctypes.c_int32),
    )


class NativeLayer(ctypes.Structure):
    """A block and its cache."""

    _fields_ = (
        *((name, address) for name in ("norm1", "norm1_bias", "norm2", "norm2_bias", "query_norm", "key_norm")),
        *((name, NativeLinear) for name in ("qkv", "out", "up", "down")),
        ("keys", address),
        ("values", address),
    )


class NativeStack(ctypes.Structure):
    """A stack of blocks with its last norm and head."""

    _fields_ = (
        ("layers", ctypes.POINTER(NativeLayer)),
        *((name, address) for name in ("norm", "norm_bias", "rotary")),
        ("head", ctypes.POINTER(NativeLinear)),
        *((name, count) for name in ("layer_count", "dim", "heads", "hidden", "capacity", "positions")),
        *((name, ctypes.c_float) for name in ("epsilon", "head_epsilon")),
        *((name, ctypes.c_int32) for name in ("norm_kind", "activation", "gated")),
    )


class NativeRules(ctypes.Structure):
    """The tables and rules of neighbourhood features."""

    _fields_ = (
        *((name, address) for name in ("values", "groups", "period", "first", "unit", "offset", "weight", "sign")),
        *((name, address) for name in ("divisor", "bias", "byte", "wrap", "modulo", "column", "multiplier", "shift")),
        *((name, count) for name in ("layouts", "neighbours", "predictors", "group_count", "members", "table", "dim")),
        ("byte_multiplier", count),
        ("scale", ctypes.c_float),
    )


def load() -> ctypes.CDLL:
    """The library. Raises NativeError where it cannot be built or loaded."""
    library = _library_or_reason()
    if isinstance(library, str):
        raise NativeError(library)
    return library


@functools.cache
def _library_or_reason() -> ctypes.CDLL | str:
    """The library, or the reason that there is none; cached, so that a failed build is not tried again."""
    try:
        return _load()
    # A home folder that does not exist, or cannot be written to or executed from.
    except (OSError, RuntimeError) as error:
        return str(error) if isinstance(error, NativeError) else f"native steps cannot be built or loaded: {error}"


def _load() -> ctypes.CDLL:
    if platform.system() != "Linux":
        raise NativeError("native steps are for Linux")
    compiler = _compiler()
    file = _build(compiler)
    try:
        library = ctypes.CDLL(str(file))
    except OSError:
        file.unlink()  # truncated, as by a full disk: build it again
        library = ctypes.CDLL(str(_build(compiler)))
    library.width.restype = library.scratch.restype = count
    library.scratch.argtypes = [ctypes.POINTER(NativeStack), count]
    library.stack_step.argtypes = [ctypes.POINTER(NativeStack), address, count, *[address] * 4, ctypes.c_int]
    library.linear_step.argtypes = [ctypes.POINTER(NativeLinear), address, count, address, ctypes.c_int]
    library.neighbourhood_read.argtypes = [address, count, address, address, count]
    library.neighbourhood_step.argtypes = [
        *(ctypes.POINTER(NativeRules), address, count, address, address, count, count, address, address)
    ]
    return library


def _compiler() -> str:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))), None)
    if compiler is None:
        raise NativeError("native steps need a C++ compiler (c++, g++ or clang++)")
    return compiler


def _build(compiler: str) -> Path:
    """The shared library's file, from the cache if it was built on this machine before."""
    command = [compiler, *FLAGS, f"-DWIDTH={64 if torch.backends.cpu.get_cpu_capability() == 'AVX512' else 32}"]
    file = _folder() / f"steps-{_fingerprint(command)}.so"
    if file.is_file():
        return file
    # In a temporary folder first: another process may build the same.
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        built = Path(folder) / file.name
        try:
            subprocess.run(
                [*command, str(SOURCE), "-o", str(built)],
                check=True,
                capture_output=True,
                text=True,
                timeout=COMPILER_TIMEOUT,
            )
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["it gave no reason"])[0]
            raise NativeError(f"{compiler} cannot build the native steps: {reason}") from error
        except subprocess.TimeoutExpired as error:
            raise NativeError(f"{compiler} cannot build the native steps: {error}") from error
        built.replace(file)
    return file


def _folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megabyte-mm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint(command: list[str]) -> str:
    """Hash of the source, the compiler and the processor: code for one processor may not run on another."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    text = "\n".join([SOURCE.read_text(encoding="utf-8"), *command, platform.machine(), *processor])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
