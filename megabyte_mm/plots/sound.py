"""Encodings of sound as bytes: the bytes they make, the levels they have, the errors they cause."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from megabyte_mm.plots.style import FULL_SCALE, Bytes, Samples


def sound_bytes(samples_T: Samples, streams: Mapping[str, Bytes], rate: int) -> Figure:
    """Draw a short sound above the bytes that each encoding makes of it.

    streams: encoding -> (T * k,) uint8, k bytes a sample. An encoding of two bytes has a line for each: the low byte,
    which looks like noise, and the high byte, which looks like the sound.
    """
    figure = Figure(figsize=(10, 2 + 1.8 * len(streams)), layout="constrained")
    wave, *rows = figure.subplots(1 + len(streams), sharex=True)
    milliseconds = 1000 * np.arange(len(samples_T)) / rate
    wave.plot(milliseconds, samples_T / FULL_SCALE, color="black", linewidth=1)
    wave.set_title("the samples", loc="left", size=10)
    wave.set_ylabel("amplitude")
    for axes, (name, data) in zip(rows, streams.items(), strict=True):
        columns = data.reshape(len(samples_T), -1).T
        labels = ("low byte", "high byte") if len(columns) == 2 else ("byte",)
        for column, label in zip(columns, labels, strict=True):
            axes.plot(milliseconds, column, ".", markersize=3, label=label)
        axes.set_title(f"{name}: {len(columns)} byte{'s' * (len(columns) > 1)} a sample", loc="left", size=10)
        axes.set_ylim(-8, 263)
        axes.set_yticks((0, 128, 255))
        axes.set_ylabel("byte")
        axes.legend(loc="upper right", ncols=2)
    rows[-1].set_xlabel("milliseconds")
    return figure


def coding_levels(encodings: Mapping[str, Samples]) -> Figure:
    """Draw the 256 levels of each one-byte encoding, and the distances between them.

    encodings: encoding -> the sample that each byte decodes to: (256,). Distances begin with the second level, since
    the lowest one of the mu-law, -32768, is next to it.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    curve, steps = figure.subplots(1, 2)
    for name, decoded in encodings.items():
        curve.plot(np.arange(256), decoded / FULL_SCALE, ".", markersize=3, label=name)
        distances = np.diff(decoded.astype(float)) / FULL_SCALE
        steps.step(decoded[1:-1] / FULL_SCALE, distances[1:], where="post", label=name)
    curve.set_xlabel("byte")
    curve.set_ylabel("decoded amplitude")
    steps.set_xlabel("amplitude")
    steps.set_ylabel("distance to the next level")
    steps.set_yscale("log")
    for axes in (curve, steps):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def coding_errors(samples_T: Samples, decoded: Mapping[str, Samples], rate: int) -> Figure:
    """Draw a short sound, and below it the error of each encoding: decoded samples minus samples."""
    figure = Figure(figsize=(10, 2 + 1.2 * len(decoded)), layout="constrained")
    wave, *rows = figure.subplots(1 + len(decoded), sharex=True)
    milliseconds = 1000 * np.arange(len(samples_T)) / rate
    wave.plot(milliseconds, samples_T, color="black", linewidth=1)
    wave.set_title("the samples", loc="left", size=10)
    errors = {name: samples.astype(np.int64) - samples_T for name, samples in decoded.items()}
    highest = max(1, *(int(np.abs(error).max()) for error in errors.values()))
    for number, (axes, (name, error)) in enumerate(zip(rows, errors.items(), strict=True)):
        axes.plot(milliseconds, error, color=f"C{number}", linewidth=1)
        mean = float(np.abs(error).mean())
        axes.set_title(f"{name}: {mean:.1f} steps of 65,536 off on average", loc="left", size=10)
        axes.set_ylim(-1.1 * highest, 1.1 * highest)
    rows[-1].set_xlabel("milliseconds")
    return figure
