"""Eight bytes at any place of a buffer as one number, for as many places at once as there are."""

import numpy as np
from numpy.typing import NDArray

MARGIN = b"\0" * 256
"""What must follow a buffer, so that reading a little beyond its end is no error."""

Words = NDArray[np.uint64]
Places = NDArray[np.int64]


def words_of(memory: bytes) -> Words:
    """The eight bytes at every place of a buffer, the first one lowest; a view."""
    return np.ndarray((len(memory) - 7,), np.dtype("<u8"), memory, strides=(1,))
