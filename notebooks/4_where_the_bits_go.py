# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 Where the bits go
#
# A byte that a model predicts well costs few bits. Drawn over the file, these costs show what the model has learned and
# what it has not: plain areas are cheap, unpredictable edges are expensive.
#
# Name your own checkpoints and files in the first cell. Where a checkpoint is `None`, a small model of the demo data is
# used: one of the earlier notebooks, or one that is trained here in about a minute.

# %%
# %matplotlib inline
import os
from pathlib import Path

from IPython.display import display

from megabyte_mm import load_model, score_files
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.evaluation import bits_by_position, heatmap
from megabyte_mm.notebook import embed_page, small_checkpoint
from megabyte_mm.plots import position_curves, text_page

# The test suite sets this variable, so that the notebooks run quickly there.
STEPS = int(os.environ.get("MEGABYTE_MM_NOTEBOOK_STEPS", "600"))
MEDIA, RUNS = Path("../media"), Path("../runs/notebooks")
make_demo_data(MEDIA)

IMAGE = None  # or a path, such as "../runs/demo-image/best.ckpt" after `make demo`
AUDIO = None
TEXT = None
PICTURES = sorted((MEDIA / "images" / "val").rglob("*.png"))
FACE = MEDIA / "images" / "val" / "face" / "0000.png"
SOUND = MEDIA / "audio" / "val" / "0000.wav"
MODULES = sorted((MEDIA / "text" / "val").glob("*.py"))
METHODS = ("plain", "strided")

# %% [markdown]
# ## A picture, plain and strided
#
# The model reads patches of 4 × 4 pixels. *Plain* scoring predicts each byte in its own patch. *Strided* scoring reads
# the window twice, the second time shifted by half a patch, and scores each byte in the pass that has it in the first
# half of a patch. Whether that helps depends on the model; the documentation's page on evaluation explains it.

# %%
image = load_model(IMAGE or small_checkpoint("image", MEDIA, RUNS / "image", STEPS))
faces = {method: score_files(image, [FACE], method)[0] for method in METHODS}
display(*(heatmap(image.adapter, face.stream, face.bits, method) for method, face in faces.items()))

# %% [markdown]
# ## A sound
#
# A melody of four seconds: the waveform coloured by bits, and the spectrogram with their mean over time.

# %%
audio = load_model(AUDIO or small_checkpoint("audio", MEDIA, RUNS / "audio", STEPS))
(song,) = score_files(audio, [SOUND])
heatmap(audio.adapter, song.stream, song.bits, SOUND.name)

# %% [markdown]
# ## A text
#
# The redder a character, the more bits it cost; point at one to see how many. Words start expensive and end cheap.

# %%
text = load_model(TEXT or small_checkpoint("text", MEDIA, RUNS / "text", STEPS))
(module,) = score_files(text, MODULES[:1])
embed_page(text_page(module.stream.data[:3000].tobytes(), module.bits[:3000], MODULES[0].name))

# %% [markdown]
# ## By position
#
# The mean over many files, by position in the patch and in the window. The first bytes of a patch are expensive,
# because the local model has seen nothing of the patch yet. Strided scoring uses no byte from the second half of a
# patch.

# %%
position_curves({method: bits_by_position(image, score_files(image, PICTURES, method)) for method in METHODS})

# %%
position_curves({method: bits_by_position(text, score_files(text, MODULES[:2], method)) for method in METHODS})
