"""Score files and streams with a model, in bits per byte, and compare it with other codecs.

methods.py   plain, sliding, strided, sliding+strided
scoring.py   streams to the nats of each symbol
curves.py    mean bits by position in the patch and in the window
files.py     files to scores, from Python
table.py     the scores of many files as a table and as JSON
heatmaps.py  bits over pixels, samples and characters
completion/  how good completed files are against their originals
codecs.py    PNG, WebP, JPEG XL, FLAC, xz, zstd and brotli on the same bytes
costs.py     parameters, operations, attention and generation of a model, from its config
memory.py    memory of a training step
"""

from megabyte_mm.evaluation.codecs import CODECS, Codec, Content, LossyError, PcmSound, UnsupportedError, content_of
from megabyte_mm.evaluation.curves import Curves
from megabyte_mm.evaluation.files import ScoredFile, bits_by_position, score_files
from megabyte_mm.evaluation.heatmaps import heatmap, heatmap_files, write_heatmap
from megabyte_mm.evaluation.methods import METHODS, Method, check_method, is_sliding, method_nll
from megabyte_mm.evaluation.scoring import Score, bits_per_byte, check_finite, score_streams
from megabyte_mm.evaluation.table import FileResult, format_table, to_json

__all__ = [
    "CODECS",
    "METHODS",
    "Codec",
    "Content",
    "Curves",
    "FileResult",
    "LossyError",
    "Method",
    "PcmSound",
    "Score",
    "ScoredFile",
    "UnsupportedError",
    "bits_by_position",
    "bits_per_byte",
    "check_finite",
    "check_method",
    "content_of",
    "format_table",
    "heatmap",
    "heatmap_files",
    "is_sliding",
    "method_nll",
    "score_files",
    "score_streams",
    "to_json",
    "write_heatmap",
]
