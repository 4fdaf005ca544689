"""Numbers at many places of one buffer, read at once with NumPy.

Two kinds: the eight bytes at a place as one ``uint64``, and protobuf's varints. A varint has seven bits of its number
in each byte, the lowest first, and the top bit of every byte but the last is set. A negative int64 takes ten bytes, of
whose last only one bit counts.
"""

import numpy as np
from numpy.typing import NDArray

MARGIN = b"\0" * 256
"""Must follow a buffer, so that a read a little beyond its end is no error."""

MAX_VARINT_BYTES = 10

Words = NDArray[np.uint64]
Places = NDArray[np.int64]  # of bytes in a buffer
Mask = NDArray[np.bool_]


def words_of(memory: bytes) -> Words:
    """View the eight bytes at every place of a buffer as numbers, the first byte lowest."""
    return np.ndarray((len(memory) - 7,), np.dtype("<u8"), memory, strides=(1,))


def decode_varints(
    memory: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Read the varints at some places.

    Args:
        memory: The bytes.
        starts: Place of the first byte of each.
        lengths: Bytes of each, 1 to `MAX_VARINT_BYTES`.
    """
    values = (memory[starts] & 0x7F).astype(np.uint64)
    # A round for each byte beyond the first, of those numbers only that have one: mostly there are one or two rounds.
    for byte in range(1, int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > byte)
        more = (memory[starts[longer] + byte] & 0x7F).astype(np.uint64)
        values[longer] |= more << np.uint64(7 * byte)
    return values.view(np.int64)


def split_varints(run: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Find starts and lengths of the varints that fill a run; None if the last is cut off or one is too long."""
    ends = np.flatnonzero(run < 0x80) + 1
    starts = np.concatenate(([0], ends[:-1]))[: len(ends)]
    lengths = ends - starts
    if len(run) and (not len(ends) or ends[-1] != len(run) or lengths.max() > MAX_VARINT_BYTES):
        return None
    return starts, lengths
