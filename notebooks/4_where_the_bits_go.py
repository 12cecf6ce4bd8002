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
# A byte that a model predicts well costs it few bits. Painted over the file, this surprise shows what the model has
# understood and what it has not: flat ground is cheap, an edge that nobody could foresee is dear.
#
# Name checkpoints and files of your own in the first cell. Where a checkpoint is `None`, the small model of the made-up
# media is taken: one that is there from the notebooks before, or one that is trained here, in about a minute.

# %%
# %matplotlib inline
import os
from pathlib import Path

from IPython.display import display

from megabyte_mm import load_model
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.evaluation.files import bits_by_position, score_files
from megabyte_mm.evaluation.heatmaps import heatmap
from megabyte_mm.notebook.show import framed
from megabyte_mm.notebook.small_models import small_checkpoint
from megabyte_mm.plots.heatmaps.text_page import text_page
from megabyte_mm.plots.scores import position_curves

# The variable makes the notebooks short where they are only checked.
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
# The model reads patches of 4 × 4 pixels. *Plain* reads each byte in its own patch. *Strided* reads the window twice,
# the second time half a patch later, and takes for each byte the pass in which it stands in the first half of a patch.
# Whether that helps depends on the model: the page on evaluation says how.

# %%
image = load_model(IMAGE or small_checkpoint("image", MEDIA, RUNS / "image", STEPS))
faces = {method: score_files(image, [FACE], method)[0] for method in METHODS}
display(*(heatmap(image.adapter, face.stream, face.bits, method) for method, face in faces.items()))

# %% [markdown]
# ## A sound
#
# A melody of four seconds: the waveform in the colours of its bits, and the spectrogram under their mean over time.

# %%
audio = load_model(AUDIO or small_checkpoint("audio", MEDIA, RUNS / "audio", STEPS))
(song,) = score_files(audio, [SOUND])
heatmap(audio.adapter, song.stream, song.bits, SOUND.name)

# %% [markdown]
# ## A text
#
# The redder a character, the more bits it cost; hold the pointer over one to read how many. Words begin dear and end
# cheap.

# %%
text = load_model(TEXT or small_checkpoint("text", MEDIA, RUNS / "text", STEPS))
(module,) = score_files(text, MODULES[:1])
framed(text_page(module.stream.data[:3000].tobytes(), module.bits[:3000], MODULES[0].name))

# %% [markdown]
# ## By position
#
# The mean over many files, by place in the patch and in the window. Where a patch begins, the local model has nothing
# of it to go by, so the first bytes are dear. Strided reading takes no byte from the second half of a patch.

# %%
position_curves({method: bits_by_position(image, score_files(image, PICTURES, method)) for method in METHODS})

# %%
position_curves({method: bits_by_position(text, score_files(text, MODULES[:2], method)) for method in METHODS})
