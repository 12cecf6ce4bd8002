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
# Which model is better, on which files, and where? Bits per byte can be compared wherever the bytes are the same: in
# models of other sizes, other training, even another scan of the same pictures.
#
# Put checkpoints of your own into `CHECKPOINTS`, the one to compare with first. As it stands, three small models of the
# made-up pictures are compared, which are trained here unless they are there already: the usual one, one that trained
# for a third of the steps, and one that reads the pictures row by row.

# %%
# %matplotlib inline
import os
from pathlib import Path

import numpy as np

from megabyte_mm import load_model
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.evaluation.files import bits_by_position, bits_per_byte, score_files
from megabyte_mm.generation.continuation import continue_file
from megabyte_mm.notebook.show import show_pictures
from megabyte_mm.notebook.small_models import small_checkpoint
from megabyte_mm.plots.scores import bits_per_byte_bars, file_scatter, position_curves

# The variable makes the notebooks short where they are only checked.
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
bits_per_byte_bars({name: bits_per_byte(files) for name, files in scored.items()})

# %% [markdown]
# A mean hides much. Each dot is a file: below the diagonal, the other model does better on it than the first.

# %%
per_file = {name: np.array([file.score.bits_per_byte for file in files]) for name, files in scored.items()}
file_scatter(per_file)

# %% [markdown]
# Where in a patch, and where in the window, do they differ? A good model gets better along the window, since it has
# seen more; the first bytes of a patch are the hardest, since the local model has seen nothing of it yet.

# %%
position_curves({name: bits_by_position(bundles[name], files) for name, files in scored.items()})

# %% [markdown]
# The files on which the first two differ most, with what each model draws below the upper half:

# %%
first, second, *_ = per_file
hardest = FILES[int(np.argmax(per_file[second] - per_file[first]))]
show_pictures(
    bundles[first].adapter,
    {name: continue_file(bundle, hardest, count=4, temperature=0.7) for name, bundle in bundles.items()},
)
