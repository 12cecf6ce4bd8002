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
# A model of this project sees nothing but bytes: numbers from 0 to 255, one after the other. This notebook shows what
# pictures, sounds and texts look like as such streams, and what the choices of an adapter change.
#
# It runs on made-up media, which the first cell makes beside this folder; put files of your own in their place.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np
from IPython.display import Audio

from data_adapters import AudioAdapter, ByteStream, ImageAdapter, TextAdapter
from data_adapters.audio.encoding import decode, encode
from data_adapters.image.scan import patch_scan, raster_scan
from megabyte_mm.alphabet import END, to_ids
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.plots.continuations import picture_rows
from megabyte_mm.plots.media import byte_counts, byte_grid, scan_distances, scan_orders, text_bytes
from megabyte_mm.plots.sound import coding_errors, levels, sound_bytes

MEDIA = Path("../media")
make_demo_data(MEDIA)

# %% [markdown]
# ## A picture
#
# 32 × 32 pixels of three bytes each are 3,072 numbers. But in which order? A **raster scan** goes row by row. A **patch
# scan** goes square by square, so that the 48 bytes which MEGABYTE's global model reads as one patch are a square of
# 4 × 4 pixels, with all its neighbours in it.

# %%
PICTURE = MEDIA / "images" / "val" / "face" / "0000.png"
PATCH = 27  # the one that is looked at closely

image = ImageAdapter(mode="RGB", size=(32, 32), scan="patch", patch=4)
picture = image.read(PICTURE)
pixels = image.pixels(picture)
print(picture.format)
print(picture.data[PATCH * 48 : (PATCH + 1) * 48])

# %% [markdown]
# On the left the path of each scan over the picture, on the right the stream, a line for each patch of the model, every
# byte tinted by its channel. One patch is marked in red.

# %%
numbers = np.arange(32 * 32).reshape(32, 32, 1)
orders = {"raster": raster_scan(numbers), "patch": patch_scan(numbers, 4)}
scan_orders(pixels, orders, patch=16, marked=PATCH)

# %% [markdown]
# What lies close together in the picture should lie close together in the stream: then a local model of 48 bytes sees
# what it needs. In a raster scan the pixel above is 32 pixels back, out of a patch's sight.

# %%
scan_distances(orders, width=32, pixels_back=64)

# %% [markdown]
# The numbers of one patch, as the local model meets them: red, green, blue, red, ...

# %%
byte_grid(picture.data[PATCH * 48 : (PATCH + 1) * 48], columns=12, labels="RGB" * 16)

# %% [markdown]
# Any prefix of a stream is a picture that is not finished yet. Half of the bytes are the upper half with both scans,
# but a tenth more of a patch scan is a row of squares that grows to the right.

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
# A second of sound is thousands of samples, each a number from -32,768 to 32,767. The coding decides how many bytes
# a sample takes, and what is lost:
#
# - `pcm16`: two bytes, the low one first. Nothing is lost, but the stream is twice as long, and every other byte is
#   noise.
# - `pcm8`: one byte, 256 levels at equal distances.
# - `mulaw`: one byte, 256 levels that stand close together where the sound is soft.

# %%
SOUND = MEDIA / "audio" / "val" / "0000.wav"

sound = AudioAdapter(rate=8000, channels=1, encoding="pcm16").read(SOUND)
samples = decode(sound.data, "pcm16")
Audio(samples / 2**15, rate=8000, normalize=False)

# %% [markdown]
# 30 milliseconds, a little softer than in the file, whose samples are all multiples of 256 and leave the low byte at 0:

# %%
STRETCH = slice(4300, 4540)
codings = ("pcm16", "pcm8", "mulaw")
softer = (samples * 0.6).astype(np.int16)
sound_bytes(softer[STRETCH], {name: encode(softer[STRETCH], name) for name in codings}, rate=8000)

# %% [markdown]
# The levels of the two codings of one byte: equal steps, and steps that grow with loudness.

# %%
every_byte = np.arange(256, dtype=np.uint8)
levels({name: decode(every_byte, name) for name in ("pcm8", "mulaw")})

# %% [markdown]
# Played very softly, the melody shows the difference: of 256 equal steps hardly any are left, and the mu-law still has
# many.

# %%
soft = (samples[STRETCH] * 0.017).astype(np.int16)
coding_errors(soft, {name: decode(encode(soft, name), name) for name in codings}, rate=8000)

# %%
byte_counts({name: encode(softer, name) for name in codings})

# %% [markdown]
# ## A text
#
# Text is its UTF-8 bytes, untouched. Plain Latin letters take one byte, others two, three or four. A model has to learn
# which bytes go together, and a beginning must not be cut inside a character: the adapter knows where that is.

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
# ## What the model reads
#
# The bytes become numbers from 0 to 255, and one more, END = 256, tells that a stream ends. That alphabet of 257 is all
# that a model knows: what the bytes mean, it has to find out. The next notebook lets it try.

# %%
print(to_ids(data).tolist(), "then", END)
