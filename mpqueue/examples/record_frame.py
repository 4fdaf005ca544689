"""The frame of a record in a TFRecord file.

::

    length   uint64, little endian
    check    uint32: masked crc32c of the eight bytes before
    payload  ``length`` bytes
    check    uint32: masked crc32c of the payload
"""

import functools
import struct
from collections.abc import Callable
from typing import Any, Final

from mpqueue.system.user_code.extras import import_extra

HEADER: Final = struct.Struct("<QI")
CHECK: Final = struct.Struct("<I")
_MASK_DELTA: Final = 0xA282EAD8


def masked(crc: Any) -> Any:
    """Return the masked form of a crc32c, or of an array of them of type uint64."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def crc32c(missing: str) -> Callable[[bytes], int]:
    """Return the function that computes a crc32c; ``missing`` is the message if google-crc32c is not installed."""
    value: Callable[[bytes], int] = import_extra("google_crc32c", missing).value
    return value
