# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 Compare checkpoints
#
# Which model is better, on which files, and where? Bits per byte are comparable whenever the bytes are the same: for
# models of other sizes, other training, even another scan of the same pictures.
#
# Put your own checkpoints into `CHECKPOINTS`, the reference first. By default three small models of the demo pictures
# are compared, which are trained here unless their checkpoints exist: the usual one, one that trained for a third of
# the steps, and one that reads the pictures row by row.

# %%
# %matplotlib inline
import os
from pathlib import Path

import numpy as np

from megabyte_mm import continue_file, load_model, score_files
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.evaluation import bits_by_position, bits_per_byte
from megabyte_mm.notebook import show_pictures, small_checkpoint
from megabyte_mm.plots import bits_per_byte_bars, file_scatter, position_curves

# The test suite sets this variable, so that the notebooks run quickly there.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "600"))
MEDIA, RUNS = Path("../media"), Path("../runs/notebooks")
make_demo_data(MEDIA)

CHECKPOINTS = {
    "patch scan": small_checkpoint("image", MEDIA, RUNS / "image", STEPS),
    "a third of the steps": small_checkpoint("image", MEDIA, RUNS / "image-short", STEPS // 3),
    "raster scan": small_checkpoint("image", MEDIA, RUNS / "image-raster", STEPS, scan="raster"),
}
FILES = sorted((MEDIA / "images" / "val").rglob("*.png"))

# %%
bundles = {name: load_model(path) for name, path in CHECKPOINTS.items()}
scored = {name: score_files(bundle, FILES) for name, bundle in bundles.items()}
bits_per_byte_bars({name: bits_per_byte([file.score for file in files]) for name, files in scored.items()})

# %% [markdown]
# A mean hides differences. Each dot is a file; on files below the diagonal the other model is better than the first.

# %%
per_file = {name: np.array([file.score.bits_per_byte for file in files]) for name, files in scored.items()}
file_scatter(per_file)

# %% [markdown]
# At which positions of the patch and of the window do they differ? A good model improves along the window, since it has
# more context; the first bytes of a patch are the hardest, since the local model has seen nothing of the patch yet.

# %%
position_curves({name: bits_by_position(bundles[name], files) for name, files in scored.items()})

# %% [markdown]
# The file on which the first two differ most, with the continuations of each model from its upper half:

# %%
first, second, *_ = per_file
hardest = FILES[int(np.argmax(per_file[second] - per_file[first]))]
show_pictures(
    bundles[first].adapter,
    {name: continue_file(bundle, hardest, count=4, temperature=0.7) for name, bundle in bundles.items()},
)
