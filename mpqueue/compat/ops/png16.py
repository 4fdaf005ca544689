"""PNG files with 16 bits per channel, of more than one channel: the ones that Pillow cuts to 8 bits.

Follows the PNG specification (chunks, and the five filters of a row); interlaced files are not read.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_COLOUR_TYPES: Final = {channels: kind for kind, channels in _CHANNELS.items()}


class Header(NamedTuple):
    """The contents of a file's first chunk."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool


def header_of(contents: bytes) -> Header | None:
    """The header of a PNG file, None if it is none."""
    if not contents.startswith(_SIGNATURE) or len(contents) < 33:
        return None
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", contents[16:29])
    return Header(width, height, depth, kind, bool(interlaced))


def is_deep(contents: bytes) -> bool:
    """Tell if this module is needed to read all bits of a file."""
    header = header_of(contents)
    return header is not None and header.bit_depth == 16 and header.colour_type in (2, 4, 6) and not header.interlaced


def read(contents: bytes) -> np.ndarray:
    """The pixels of a 16-bit file that is not interlaced: uint16 of shape (height, width, channels).

    Raises:
        ValueError: The file is broken.
    """
    header = header_of(contents)
    if header is None or header.bit_depth != 16 or header.colour_type not in _CHANNELS or header.interlaced:
        raise ValueError("no 16-bit PNG file")
    channels = _CHANNELS[header.colour_type]
    line = header.width * channels * 2
    most = (line + 1) * header.height
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(b"".join(body for kind, body in _chunks(contents) if kind == b"IDAT"), most)
    except zlib.error as error:
        raise ValueError(f"broken PNG data: {error}") from error
    if len(data) < most:
        raise ValueError(f"the PNG file has {len(data)} of {most} bytes of pixels")
    rows = np.frombuffer(data, np.uint8).reshape(header.height, line + 1)
    plain = _unfiltered(rows, channels * 2)
    return plain.view(">u2").astype(np.uint16).reshape(header.height, header.width, channels)


def _chunks(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 12 <= len(contents):
        length, kind = struct.unpack(">I4s", contents[place : place + 8])
        body = contents[place + 8 : place + 8 + length]
        check = contents[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(kind + body) != int.from_bytes(check, "big"):
            raise ValueError(f"broken PNG chunk {kind!r}")
        yield kind, body
        place += 12 + length


def _unfiltered(rows: np.ndarray, step: int) -> np.ndarray:
    out = np.zeros((len(rows), rows.shape[1] - 1), np.uint8)
    above = np.zeros(rows.shape[1] - 1, np.uint8)
    for number, row in enumerate(rows):
        above = out[number] = _row(int(row[0]), row[1:], above, step)
    return out


def _row(kind: int, row: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    if kind == 0:
        return row
    if kind == 2:
        return row + above  # type: ignore[no-any-return]
    if kind == 1:
        return np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
    if kind not in (3, 4):
        raise ValueError(f"PNG filter {kind} does not exist")
    out = bytearray(len(row))
    pixels, over = row.tolist(), above.tolist()
    for n, value in enumerate(pixels):
        left, corner = (out[n - step], over[n - step]) if n >= step else (0, 0)
        guess = (left + over[n]) // 2 if kind == 3 else _paeth(left, over[n], corner)
        out[n] = (value + guess) & 0xFF
    return np.frombuffer(out, np.uint8)


def _paeth(left: int, above: int, corner: int) -> int:
    """Of the three neighbours the one nearest to left + above - corner."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda each: abs(guess - each))


def write(pixels: np.ndarray, compression: int) -> bytes:
    """A 16-bit file of uint16 pixels of shape (height, width, 1 to 4 channels)."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    lines = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    data = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(data, compression)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
