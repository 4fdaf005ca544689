"""Numbers of seven bits a byte, many at once.

The lowest seven bits come first, and the top bit of every byte but the last is set. An int64 below zero takes ten
bytes, of whose last only one bit counts.
"""

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 10


def decode_varints(
    memory: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The numbers at some places.

    Args:
        memory: The bytes.
        starts: Place of the first byte of each.
        lengths: Bytes of each, 1 to `MAX_BYTES`.
    """
    values = (memory[starts] & 0x7F).astype(np.uint64)
    for byte in range(1, int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > byte)
        more = (memory[starts[longer] + byte] & 0x7F).astype(np.uint64)
        values[longer] |= more << np.uint64(7 * byte)
    return values.view(np.int64)


def split_varints(run: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Starts and lengths of the numbers that fill a run of bytes; None if the last is cut or one is too long."""
    ends = np.flatnonzero(run < 0x80) + 1
    starts = np.concatenate(([0], ends[:-1]))[: len(ends)]
    lengths = ends - starts
    if len(run) and (not len(ends) or ends[-1] != len(run) or lengths.max() > MAX_BYTES):
        return None
    return starts, lengths
