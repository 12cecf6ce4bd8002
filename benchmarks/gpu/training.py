"""Training steps: their time, their share of the card's products, launches and memory; beside peers; a profile."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.environment import peak_flops
from benchmarks.gpu.settings import Row, Settings, random_ids
from benchmarks.peers import PEERS, Peer, build_peer
from megabyte_mm.models import ByteModel, CompileMode, MegabyteConfig, StepOptions

STEPS = 10
TABLE_ROWS = 25
BUDGETS = (0.25, 1.0, 4.0, 16.0)
"""GiB of activations that are kept."""
ACTIVATION_SHARE = 0.4
"""Of the GPU's memory, for activations, as in `fit`."""


def training(settings: Settings) -> None:
    """Steps of both sizes, eager and, on a GPU, compiled."""
    peak = peak_flops(settings)
    for size, (config, batch) in settings.sizes.items():
        modes: tuple[CompileMode | None, ...] = (None, "default", "reduce-overhead") if settings.on_gpu else (None,)
        for mode in modes:
            row: Row = {"model": size, "windows": batch, "code": mode or "eager"}
            settings.attempt(row, lambda c=config, b=batch, m=mode: _measured(settings, c, b, m, peak))  # type: ignore[misc]


def peers(settings: Settings) -> None:
    """Steps of other implementations at the first size, in the same precision, where they are installed."""
    config, batch = next(iter(settings.sizes.values()))
    for name, peer in PEERS.items():
        if peer.installed() is None:
            settings.add({"model": peer.package, "error": "not installed"})
            continue
        settings.attempt(
            {"model": peer.package, "windows": batch},
            lambda n=name: _timed(settings, build_peer(n, config, settings.device), batch),  # type: ignore[misc]
        )
    settings.attempt(
        {"model": "megabyte-mm", "windows": batch}, lambda: _timed(settings, _built(settings, config), batch)
    )


def memory(settings: Settings) -> None:
    """The peak of a step's memory by the budget of its activations."""
    config, batch = next(iter(settings.sizes.values()))
    for gibibytes in BUDGETS:
        row: Row = {"budget GiB": gibibytes, "windows": batch}
        settings.attempt(row, lambda g=gibibytes: _timed(settings, _built(settings, config), batch, g))  # type: ignore[misc]


def profiled(settings: Settings) -> None:
    """The operations that take the most time in a step of the first size."""
    config, batch = next(iter(settings.sizes.values()))
    step = _step(settings, _built(settings, config), batch)
    step()
    with profile(activities=_activities(settings)) as profiler:
        step()
    averages = profiler.key_averages()
    time = "self_device_time_total" if settings.on_gpu else "self_cpu_time_total"
    for event in sorted(averages, key=lambda event: -getattr(event, time))[:TABLE_ROWS]:
        settings.add({"operation": event.key, "calls": event.count, "us": float(getattr(event, time))})


def _measured(settings: Settings, config: MegabyteConfig, batch: int, mode: CompileMode | None, peak: float) -> Row:
    model = _built(settings, config)
    if mode is not None:
        model.compile_blocks(mode)
    row = _timed(settings, model, batch)
    flops = model.training_flops_per_byte() * float(row["bytes/s"] or 0)
    return row | {"parameters": model.num_parameters, "TFLOP/s": flops / 1e12, "of peak": flops / peak}


def _timed(settings: Settings, model: ByteModel, batch: int, gibibytes: float | None = None) -> Row:
    """Milliseconds, bytes a second, launches and peak memory of a step."""
    if settings.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = _step(settings, model, batch, gibibytes)
    seconds = settings.seconds(step, STEPS)
    peak = torch.cuda.max_memory_allocated() if settings.on_gpu else None
    kernels, busy = _launches(settings, step)
    return {
        "ms": 1e3 * seconds,
        "bytes/s": batch * model.max_len / seconds,
        "kernels": kernels,
        "busy ms": busy,
        "peak bytes": peak,
    }


def _step(settings: Settings, model: ByteModel, batch: int, gibibytes: float | None = None) -> Callable[[], None]:
    """A training step with autocast, clipping and fused AdamW, as in `fit`."""
    ids_BT = random_ids(batch, model.max_len, settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    options = StepOptions(_budget(settings, gibibytes), num_filled=model.max_len)

    def step() -> None:
        if settings.on_gpu:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        optimizer.zero_grad()
        with torch.autocast(settings.device.type, torch.bfloat16):
            if isinstance(model, Peer):
                loss = model.own_loss(ids_BT)
            else:
                loss = model.training_nll(ids_BT, None, options)[0].mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _built(settings: Settings, config: MegabyteConfig) -> ByteModel:
    torch.manual_seed(0)
    with settings.device:
        return config.build()


def _budget(settings: Settings, gibibytes: float | None) -> float:
    if gibibytes is not None:
        return gibibytes * 2**30
    if settings.on_gpu:
        return ACTIVATION_SHARE * torch.cuda.get_device_properties(settings.device).total_memory
    return StepOptions.activation_budget


def _launches(settings: Settings, run: Callable[[], object]) -> tuple[int | None, float | None]:
    """The kernels of a call, and the milliseconds that the GPU spends in them; None on a CPU."""
    if not settings.on_gpu:
        return None, None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.events() or [] if event.device_type == DeviceType.CUDA]
    return len(kernels), sum(event.self_device_time_total for event in kernels) / 1e3


def _activities(settings: Settings) -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if settings.on_gpu else [])]
