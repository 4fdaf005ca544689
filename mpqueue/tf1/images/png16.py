"""PNG files with several channels of 16 bits; Pillow only returns the upper 8 bits.

Pillow's *raw mode* names the layout of the bytes of a pixel for the decoder. Such a file is read twice, once for the
upper and once for the lower bytes. Gray with alpha has four bytes per pixel, and is read as four 8-bit channels.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEEP = ("RGB;16B", "RGBA;16B", "LA;16B")
_COLOUR_TYPES = (0, 4, 2, 6)  # color type in the header for 1 to 4 channels


def is_deep(image: Any) -> bool:
    """Return whether this module is needed to read all bits of a file that Pillow has opened."""
    return bool(image.tile) and image.tile[0][3] in _DEEP


def read(opened: Callable[[], Any]) -> np.ndarray:
    """Read such a file as uint16 of shape (height, width, channels).

    Args:
        opened: Opens the file with Pillow; called several times.
    """
    raw_mode: str = opened().tile[0][3]
    if raw_mode == "LA;16B":
        return _loaded(opened(), "RGBA").view(">u2").astype(np.uint16)
    upper, lower = (_loaded(opened(), raw_mode[:-1] + order) for order in "BL")
    return np.asarray(upper.astype(np.uint16) << 8 | lower)


def _loaded(image: Any, raw_mode: str) -> np.ndarray:
    image.tile = [(*image.tile[0][:3], raw_mode)]
    image.load()
    return np.ascontiguousarray(image)


def write(pixels: np.ndarray, compression: int) -> bytes:
    """Encode uint16 pixels of shape (height, width, 1 to 4 channels) as a 16-bit file."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels - 1], 0, 0, 0)
    lines = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    data = np.pad(lines, ((0, 0), (1, 0))).tobytes()  # each line starts with its filter type: none
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(data, compression)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
