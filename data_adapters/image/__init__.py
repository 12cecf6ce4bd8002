"""Images as the bytes of their pixels: adapter, decoding, scan orders, contact sheets."""

from data_adapters.image.adapter import ImageAdapter
from data_adapters.image.contact_sheet import contact_sheet

__all__ = ["ImageAdapter", "contact_sheet"]
