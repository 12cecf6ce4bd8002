# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 Media as bytes
#
# The models of this project see only bytes: numbers from 0 to 255, one after the other. This notebook shows pictures,
# sounds and texts as such streams, and the effect of the adapters' settings.
#
# It runs on demo data, which the first cell generates beside this folder; use your own files instead if you like.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np
from IPython.display import Audio

from data_adapters import AudioAdapter, ByteStream, ImageAdapter, TextAdapter
from data_adapters.audio import decode, encode
from data_adapters.image import patch_scan, raster_scan
from megabyte_mm.alphabet import END, to_ids
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.plots import (
    byte_counts,
    byte_grid,
    coding_errors,
    coding_levels,
    picture_rows,
    scan_distances,
    scan_orders,
    sound_bytes,
    text_bytes,
)

MEDIA = Path("../media")
make_demo_data(MEDIA)

# %% [markdown]
# ## A picture
#
# 32 × 32 pixels of three bytes each are 3,072 numbers. But in which order? A **raster scan** goes row by row. A **patch
# scan** goes square by square: the 48 bytes that MEGABYTE's global model reads as one patch are then a square of 4 × 4
# pixels.

# %%
PICTURE = MEDIA / "images" / "val" / "face" / "0000.png"
PATCH = 27  # the one to look at closely

image = ImageAdapter(mode="RGB", size=(32, 32), scan="patch", patch=4)
picture = image.read(PICTURE)
pixels = image.pixels(picture)
print(picture.format)
print(picture.data[PATCH * 48 : (PATCH + 1) * 48])

# %% [markdown]
# On the left the path of each scan over the picture; on the right the stream, a line for each patch of the model, each
# byte tinted by its channel. One patch is marked in red.

# %%
numbers = np.arange(32 * 32).reshape(32, 32, 1)
orders = {"raster": raster_scan(numbers), "patch": patch_scan(numbers, 4)}
scan_orders(pixels, orders, patch=16, marked=PATCH)

# %% [markdown]
# Pixels that are close in the picture should be close in the stream: then the local model, which sees 48 bytes, sees
# the pixels that matter. In a raster scan the pixel above is 32 pixels back, outside the patch.

# %%
scan_distances(orders, width=32, pixels_back=64)

# %% [markdown]
# The bytes of one patch in the order in which the local model reads them: red, green, blue, red, ...

# %%
byte_grid(picture.data[PATCH * 48 : (PATCH + 1) * 48], columns=12, labels="RGB" * 16)

# %% [markdown]
# Any prefix of a stream is an unfinished picture. Half of the bytes are the upper half with both scans; beyond that, a
# patch scan adds squares from left to right, a raster scan rows.

# %%
raster = ImageAdapter(mode="RGB", size=(32, 32), scan="raster", patch=4)
streams = {"raster": raster.read(PICTURE), "patch": picture}
shares = (0.1, 0.3, 0.5, 0.7, 1.0)
picture_rows(
    {
        name: [image.pixels(ByteStream(s.data[: int(share * 3072)], s.format), fill=128) for share in shares]
        for name, s in streams.items()
    },
    [f"{share:.0%} of the bytes" for share in shares],
)

# %% [markdown]
# ## A sound
#
# A second of sound is thousands of samples, each a number from -32,768 to 32,767. The encoding decides how many bytes
# a sample takes, and how exact it is:
#
# - `pcm16`: two bytes, the low one first. Lossless, but the stream is twice as long, and every other byte looks like
#   noise.
# - `pcm8`: one byte, 256 levels at equal distances.
# - `mulaw`: one byte, 256 levels that are closer together for soft sounds.

# %%
SOUND = MEDIA / "audio" / "val" / "0000.wav"

sound = AudioAdapter(rate=8000, channels=1, encoding="pcm16").read(SOUND)
samples = decode(sound.data, "pcm16")
Audio(samples / 2**15, rate=8000, normalize=False)

# %% [markdown]
# 30 milliseconds, slightly softer than in the file, whose samples are all multiples of 256 and leave the low byte at 0:

# %%
EXCERPT = slice(4300, 4540)
encodings = ("pcm16", "pcm8", "mulaw")
softer = (samples * 0.6).astype(np.int16)
sound_bytes(softer[EXCERPT], {name: encode(softer[EXCERPT], name) for name in encodings}, rate=8000)

# %% [markdown]
# The levels of the two one-byte encodings: equal steps, and steps that grow with loudness.

# %%
every_byte = np.arange(256, dtype=np.uint8)
coding_levels({name: decode(every_byte, name) for name in ("pcm8", "mulaw")})

# %% [markdown]
# A very soft melody shows the difference: it uses hardly any of the 256 equal steps, but still many of the mu-law's.

# %%
soft = (samples[EXCERPT] * 0.017).astype(np.int16)
coding_errors(soft, {name: decode(encode(soft, name), name) for name in encodings}, rate=8000)

# %%
byte_counts({name: encode(softer, name) for name in encodings})

# %% [markdown]
# ## A text
#
# Text is its UTF-8 bytes, unchanged. Plain Latin letters take one byte, others two, three or four. A model has to learn
# which bytes belong together, and a prefix must not end inside a character: the adapter finds the last boundary.

# %%
text_bytes(list("Größe: 3 €, naïve π ≈ 3.14 ♪ Привет 😀\n"))

# %%
text = TextAdapter()
data = np.frombuffer("3 € 😀".encode(), np.uint8)
[(length, text.decode(data[: text.last_boundary(data, length)])) for length in range(len(data) + 1)]

# %%
module = sorted((MEDIA / "text" / "val").glob("*.py"))[0]
byte_counts({module.name: text.read(module).data, PICTURE.name: picture.data, SOUND.name: sound.data})

# %% [markdown]
# ## The model's input
#
# The bytes become symbols from 0 to 255, and one more, END = 256, marks the end of a stream. The model knows nothing
# but this alphabet of 257 symbols and has to learn what they mean. The next notebook trains one.

# %%
print(to_ids(data).tolist(), "then", END)
