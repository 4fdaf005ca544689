"""Numbers at many positions of one buffer, read together with NumPy.

There are two kinds: the eight bytes at a position as one ``uint64``, and protobuf's varints. Each byte of a varint has
seven bits of the number, the lowest first. The top bit of every byte but the last is set. A negative int64 takes ten
bytes, and only one bit of the last byte is used.
"""

import numpy as np
from numpy.typing import NDArray

MARGIN = b"\0" * 256
"""Must follow a buffer, so that a read slightly past its end is valid."""

MAX_VARINT_BYTES = 10

Words = NDArray[np.uint64]
Offsets = NDArray[np.int64]  # positions of bytes in a buffer
Mask = NDArray[np.bool_]


def words_of(memory: bytes) -> Words:
    """Return a view of the eight bytes at each position of a buffer as little-endian numbers."""
    return np.ndarray((len(memory) - 7,), np.dtype("<u8"), memory, strides=(1,))


def decode_varints(
    memory: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the varints at some positions.

    Args:
        memory: The bytes.
        starts: The position of the first byte of each.
        lengths: The size of each in bytes, 1 to `MAX_VARINT_BYTES`.
    """
    values = (memory[starts] & 0x7F).astype(np.uint64)
    # A round for each byte after the first, only for numbers that have it. Usually there are one or two rounds.
    for byte in range(1, int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > byte)
        more = (memory[starts[longer] + byte] & 0x7F).astype(np.uint64)
        values[longer] |= more << np.uint64(7 * byte)
    return values.view(np.int64)


def split_varints(run: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return starts and lengths of the varints that fill a run; None if the last is incomplete or one is too long."""
    ends = np.flatnonzero(run < 0x80) + 1
    starts = np.concatenate(([0], ends[:-1]))[: len(ends)]
    lengths = ends - starts
    if len(run) and (not len(ends) or ends[-1] != len(run) or lengths.max() > MAX_VARINT_BYTES):
        return None
    return starts, lengths
