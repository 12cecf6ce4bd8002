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
# A model of pictures, trained in this notebook; its learning curve and the pictures it generates appear while it
# learns. 600 steps take about a minute on a laptop without a GPU.

# %%
# %matplotlib inline
import os
from pathlib import Path

from data_adapters import ImageAdapter
from megabyte_mm import ByteData, ByteLM, MegabyteConfig, StackConfig, continue_file, fit, load_model
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.models import BlockConfig
from megabyte_mm.notebook import LiveRun, sheets_over_time, show_pictures
from megabyte_mm.training import OptimizerConfig, ProgressCallback, SampleWriter

# The test suite sets this variable, so that the notebooks run quickly there.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "600"))
MEDIA, RUN = Path("../media"), Path("../runs/notebooks/image")
make_demo_data(MEDIA)

# %% [markdown]
# ## The data
#
# `ByteData` finds the files, reads them as bytes with the adapter, and cuts these into windows. Here each picture is
# one window.

# %%
data = ByteData(str(MEDIA / "images"), ImageAdapter(size=(32, 32), patch=4), batch_size=2, val_batch_size=16)

# %% [markdown]
# ## The model
#
# Two Transformers: the global one reads patches of 48 bytes, the local one the bytes inside a patch. The patch size and
# the window follow from the data. Change the sizes and see the effect on the curve.

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
# Raw bytes cost 8 bits per byte (dotted). Each validation continues four pictures from their upper halves: a row shows
# the prefix, the model's continuation and the original. The stop button ends the run after the current step, and the
# checkpoint is saved.

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
# The samples of all validations, in order:

# %%
sheets_over_time(RUN)

# %% [markdown]
# ## Samples of the trained model
#
# Several continuations of the same prefix at three temperatures: low ones prefer the likeliest bytes, high ones give
# unlikely bytes more of a chance.

# %%
bundle = load_model(checkpoint)
heart = MEDIA / "images" / "val" / "heart" / "0000.png"
show_pictures(
    bundle.adapter,
    {f"T = {t}": continue_file(bundle, heart, count=4, temperature=t) for t in (0.3, 0.7, 1.0)},
)

# %% [markdown]
# The checkpoint is an ordinary one: `megabyte-mm generate runs/notebooks/image/best.ckpt --out out/notebook` accepts
# it, and the next notebooks use it. More steps make it better; `megabyte-mm fit --config image` trains a larger model.
