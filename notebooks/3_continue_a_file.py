# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 Continue a file
#
# A model reads the beginning of a file, the prefix, and generates what may follow: the lower half of a picture, the
# rest of a melody, the next lines of a text. There is no single right answer, so several samples are shown side by
# side.
#
# Name your own checkpoints and files in the first cell. `demo:image` and `demo:text` are models that come with the
# package. Where a checkpoint is `None`, a small model of the demo data is trained here in about a minute.

# %%
# %matplotlib inline
import os
from pathlib import Path

from megabyte_mm import continue_file, load_model
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.notebook import (
    sampling_sliders,
    show_pictures,
    show_players,
    show_texts,
    show_waveforms,
    small_checkpoint,
)

# The test suite sets this variable, so that the notebooks run quickly there.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "600"))
MEDIA, RUNS = Path("../media"), Path("../runs/notebooks")
make_demo_data(MEDIA)

IMAGE = "demo:image"  # or a path, such as "../runs/demo-image/best.ckpt" after `make demo`
AUDIO = None
TEXT = "demo:text"
PICTURE = MEDIA / "images" / "val" / "heart" / "0000.png"
SOUND = MEDIA / "audio" / "val" / "0000.wav"
MODULE = sorted((MEDIA / "text" / "val").glob("*.py"))[0]

# %% [markdown]
# ## A picture from its upper half

# %%
image = load_model(IMAGE or small_checkpoint("image", MEDIA, RUNS / "image", STEPS))
show_pictures(
    image.adapter,
    {f"T = {t}": continue_file(image, PICTURE, keep=0.5, count=5, temperature=t) for t in (0.3, 0.7, 1.0)},
)

# %% [markdown]
# **Temperature** divides the logits: below 1, likely bytes become likelier still; at 0, only the likeliest is chosen.
# **Top-p** samples only among the likeliest bytes that together have that probability. Move the sliders and press
# *sample*; they need a running notebook.


# %%
sampling_sliders(
    lambda temperature, top_p, seed: show_pictures(
        image.adapter,
        {"": continue_file(image, PICTURE, keep=0.5, count=5, temperature=temperature, top_p=top_p, seed=seed)},
    ),
    temperature=0.7,
)

# %% [markdown]
# ## A sound from its first second
#
# A melody of four seconds: the prefix is its first quarter, and the model generates another second. Below, the same in
# players.

# %%
audio = load_model(AUDIO or small_checkpoint("audio", MEDIA, RUNS / "audio", STEPS))
song = continue_file(audio, SOUND, keep=0.25, length=8000, count=3, temperature=0.3)
show_waveforms(audio.adapter, song)

# %%
show_players(audio.adapter, song)

# %%
sampling_sliders(
    lambda temperature, top_p, seed: show_players(
        audio.adapter,
        continue_file(audio, SOUND, 0.25, 8000, 2, temperature=temperature, top_p=top_p, seed=seed),
    ),
    temperature=0.3,
)

# %% [markdown]
# ## A text
#
# The end of the prefix is faint, the generated text bold.

# %%
text = load_model(TEXT or small_checkpoint("text", MEDIA, RUNS / "text", STEPS))
show_texts(text.adapter, continue_file(text, MODULE, keep=0.2, length=300, count=3, temperature=0.7))

# %%
sampling_sliders(
    lambda temperature, top_p, seed: show_texts(
        text.adapter,
        continue_file(text, MODULE, 0.2, 300, 3, temperature=temperature, top_p=top_p, seed=seed),
    ),
    temperature=0.7,
)
