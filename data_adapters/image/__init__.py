"""Images as the bytes of their pixels: adapter, decoding, scan orders, contact sheets."""

from data_adapters.image.adapter import ImageAdapter
from data_adapters.image.scan import patch_scan, patch_unscan, raster_scan, raster_unscan

__all__ = ["ImageAdapter", "patch_scan", "patch_unscan", "raster_scan", "raster_unscan"]
