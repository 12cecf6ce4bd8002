# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 Train a small model and watch it
#
# A model of pictures, trained in this notebook: the curve and the pictures that it draws appear while it learns.
# 600 steps take about a minute on a laptop without a GPU.

# %%
# %matplotlib inline
import os
from pathlib import Path

from data_adapters import ImageAdapter
from megabyte_mm import MegabyteConfig, StackConfig, load_model
from megabyte_mm.data.module import ByteData
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.generation.continuation import continue_file
from megabyte_mm.models import BlockConfig
from megabyte_mm.notebook.live import LiveRun, sheets_over_time
from megabyte_mm.notebook.show import show_pictures
from megabyte_mm.training import ByteLM, OptimizerConfig, ProgressCallback, SampleWriter, fit

# The variable makes the notebooks short where they are only checked.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "600"))
MEDIA, RUN = Path("../media"), Path("../runs/notebooks/image")
make_demo_data(MEDIA)

# %% [markdown]
# ## The data
#
# `ByteData` finds the files, lets the adapter make bytes of them, and cuts these into windows. A picture is a window of
# its own.

# %%
data = ByteData(str(MEDIA / "images"), ImageAdapter(size=(32, 32), patch=4), batch_size=2, val_batch_size=16)

# %% [markdown]
# ## The model
#
# Two Transformers: the global one reads patches of 48 bytes, the local one the bytes inside a patch. The patch size and
# the window follow from the data. Change the sizes and see what they do to the curve.

# %%
net = MegabyteConfig(
    global_stack=StackConfig(dim=192, layers=2, heads=4),
    local_stack=StackConfig(dim=64, layers=2, heads=2),
    local_start="byte",
    embedding_scale=5.0,
    block=BlockConfig(activation="relu2"),
    init_std=0.08,
)
model = ByteLM(net, OptimizerConfig(lr=4e-3, warmup_steps=20))

# %% [markdown]
# ## Training
#
# 8 bits per byte is what bytes cost that nobody has looked at (dotted). Each validation continues four pictures from
# their upper halves: each row shows what was given, what was drawn, and the original. The stop button ends the run
# after the step at hand, and what it has learned is kept.

# %%
checkpoint = fit(
    model,
    data,
    RUN,
    STEPS,
    val_every=STEPS // 4,
    callbacks=[SampleWriter(count=4, temperature=0.7), ProgressCallback(LiveRun(), every=5)],
)

# %% [markdown]
# How the drawings came about, validation by validation:

# %%
sheets_over_time(RUN)

# %% [markdown]
# ## What it draws now
#
# The same beginning several times, at three temperatures: low ones take the likeliest bytes, high ones more of the
# unlikely.

# %%
bundle = load_model(checkpoint)
heart = MEDIA / "images" / "val" / "heart" / "0000.png"
show_pictures(
    bundle.adapter,
    {f"T = {t}": continue_file(bundle, heart, count=4, temperature=t) for t in (0.3, 0.7, 1.0)},
)

# %% [markdown]
# The checkpoint is an ordinary one: `megabyte-mm generate runs/notebooks/image/best.ckpt --out out/notebook` uses it,
# and so do the next notebooks. With more steps it becomes better; `megabyte-mm fit --config image` trains a larger one.
