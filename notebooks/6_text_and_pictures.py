# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 Text and pictures
#
# A record has several parts: a caption and a picture, or a sound and its notes. One model reads the parts one behind
# the other, and generates what is missing. Here, captions make pictures, pictures make captions, and melodies make
# notes.
#
# Name your own checkpoints and files in the first cell. Where a checkpoint is `None`, a small model of the demo data is
# trained here, in about three minutes each.

# %%
# %matplotlib inline
import os
from pathlib import Path

from megabyte_mm import convert, load_model
from megabyte_mm.demo_data import make_demo_pairs
from megabyte_mm.notebook import sampling_sliders, show_records, small_checkpoint

# The test suite sets this variable, so that the notebooks run quickly there.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "1600"))
PAIRS, RUNS = Path("../pairs"), Path("../runs/notebooks")
make_demo_pairs(PAIRS)

CAPTIONS = None  # or a path, such as "../runs/pairs/best.ckpt" after `megabyte-mm fit --config pairs_text_image`
NOTES = None
TEXTS = ("a red heart on white, middle", "a blue ring on dark blue, upper left", "a green cross on white, right")
PICTURES = sorted((PAIRS / "captions" / "val").glob("*.png"))[:4]
SOUNDS = sorted((PAIRS / "melodies" / "val").glob("*.wav"))[:3]

# %% [markdown]
# ## At once
#
# A model that comes with the package has learned one direction, from captions to pictures.

# %%
shipped = load_model("demo:text-to-image")
show_records(shipped, [convert(shipped, {"text": text}, count=4, temperature=0.1) for text in TEXTS])

# %% [markdown]
# ## A picture from a caption
#
# This model has read captions and pictures of 16 × 16 pixels, in both orders. A letter of a caption is a patch, and a
# square of 4 × 4 pixels is another: both are steps of the same global model.

# %%
captions = load_model(CAPTIONS or small_checkpoint("captions", PAIRS, RUNS / "captions", STEPS))
pictures = [convert(captions, {"text": text}, count=4, temperature=0.1) for text in TEXTS]
show_records(captions, pictures)

# %% [markdown]
# Move the sliders and press *sample*; they need a running notebook.

# %%
sampling_sliders(
    lambda temperature, top_p, seed: show_records(
        captions,
        [convert(captions, {"text": TEXTS[0]}, count=5, temperature=temperature, top_p=top_p, seed=seed)],
    ),
    temperature=0.5,
)

# %% [markdown]
# ## A caption from a picture
#
# Pictures that the model has not been trained on, with captions that it has not been trained on either. At temperature
# 0 it writes the likeliest one.

# %%
show_records(captions, [convert(captions, {"image": picture}, count=1, temperature=0) for picture in PICTURES])

# %% [markdown]
# ## There and back
#
# From a caption to a picture, and from that picture to a caption again: does the model recognise what it has generated?

# %%
back = [convert(captions, {"image": row[0].parts["image"]}, count=1, temperature=0) for row in pictures]
show_records(captions, back)

# %% [markdown]
# ## Half a picture, with a caption
#
# The last given part may be cut: all of the caption, and the upper half of the picture.

# %%
halves = [{"text": picture.with_suffix(".txt"), "image": picture} for picture in PICTURES]
show_records(captions, [convert(captions, half, keep=0.5, count=3, temperature=0.1) for half in halves])

# %% [markdown]
# ## Notes from a melody
#
# Another model reads melodies of 0.9 seconds, a byte for each sample, and writes their notes. The local model reads
# only the notes, which are all that it learns.

# %%
notes = load_model(NOTES or small_checkpoint("notes", PAIRS, RUNS / "notes", STEPS // 2))
show_records(notes, [convert(notes, {"audio": sound}, count=1, temperature=0) for sound in SOUNDS])
