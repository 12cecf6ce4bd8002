"""`megabyte-mm embed`: features of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_adapters import write_atomically
from megabyte_mm.checkpoint import load_model
from megabyte_mm.cli.arguments import pick_device
from megabyte_mm.cli.feature_files import check_all_read, read_media
from megabyte_mm.cli.files import check_output
from megabyte_mm.errors import check_absent
from megabyte_mm.features import POOLINGS, Layer, embed_streams
from megabyte_mm.progress import byte_progress


def embed(
    checkpoint: str,
    path: Sequence[str],
    out: str,
    layer: Layer = None,
    pooling: str = "sections",
    condition: str | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    device: str = "auto",
    adapter: str | None = None,
) -> None:
    """Write a vector of features for each file.

    An .npz holds the arrays vectors, paths and classes (the first folder of each file below the given one, or ""),
    and with `--pooling patches` the number of vectors of each file, in counts. A .parquet table has a row for each
    vector: path, class, patch and vector.

    Args:
        checkpoint: A checkpoint of a run, such as runs/image/best.ckpt, an exported folder, demo:image, or a hub id.
        path: Files, and folders with all files below them.
        out: A file that ends in .npz or .parquet.
        layer: Of the global model: 0 for its patches, n for the output of its block n; by default the last;
            bytes for the bytes of each file, of one length for all, to compare features with.
        pooling: Of the states of the patches: sections (the means of 16 sections of the file, one behind the other),
            squares (those of 4 x 4 parts of a picture), mean, max or last; patches keeps the vector of each patch.
        condition: The modality of all files, for a model of several.
        batch_size: Windows read at the same time.
        overwrite: Replace a file of the same name.
        device: auto, cpu, cuda, cuda:1, mps, ...
        adapter: Import path of your own adapter class, for a model that was trained with one.
    """
    check_output("out", out)
    writer = _WRITERS.get(Path(out).suffix.lower())
    if writer is None:
        raise ValueError(f"--out {out}: the name must end in .npz or .parquet")
    if writer is _write_table and find_spec("pyarrow") is None:
        raise ValueError(f"--out {out}: writing .parquet takes pyarrow: pip install 'megabyte-mm[parquet]'")
    check_absent(Path(out), "out", overwrite)
    if pooling not in POOLINGS:
        raise ValueError(f"--pooling {pooling}: known are {', '.join(POOLINGS)}")
    bundle, files, skipped = read_media(load_model(checkpoint, pick_device(device), adapter), path, condition)
    streams = [file.stream for file in files]
    with byte_progress(sum(len(stream.data) for stream in streams), "read") as on_bytes:
        features = list(embed_streams(bundle, streams, layer, pooling, batch_size, on_bytes))
    if len({each.shape[-1] for each in features}) > 1:
        raise ValueError("--layer bytes: the files have different lengths; choose a layer of the model")
    arrays = {
        "vectors": np.concatenate(features) if pooling == "patches" else np.stack(features),
        "paths": np.array([str(file.path) for file in files]),
        "classes": np.array([file.label for file in files]),
    }
    if pooling == "patches":
        arrays["counts"] = np.array([len(each) for each in features])
    write_atomically(out, lambda temporary: writer(temporary, arrays))
    print(f"{out}: {len(files)} files, {arrays['vectors'].shape[1]} features each")
    check_all_read(skipped)


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _write_table(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """A row for each vector: its file's path and class, the number of its patch, and itself."""
    import pyarrow
    import pyarrow.parquet

    vectors = arrays["vectors"]
    counts = arrays.get("counts", np.ones(len(vectors), dtype=np.int64))
    flat = pyarrow.array(vectors.reshape(-1))
    columns = {
        "path": np.repeat(arrays["paths"], counts).tolist(),
        "class": np.repeat(arrays["classes"], counts).tolist(),
        "patch": np.concatenate([np.arange(count) for count in counts]),
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


_WRITERS: dict[str, Callable[[Path, Mapping[str, NDArray[Any]]], None]] = {
    ".npz": _write_arrays,
    ".parquet": _write_table,
}
