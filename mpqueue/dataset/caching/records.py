"""Serialization of values to bytes in a file. Arrays of a loaded value are views of these bytes.

::

    without arrays   the pickle
    with n arrays    n + 1 uint64: the sizes of the pickle and of each array; the pickle; then the arrays, each at a
                     multiple of 64 bytes

A pickle (protocol 5) does not include the contents of arrays. Arrays built on read-only bytes are read-only.
"""

import pickle
import struct
from typing import Any

from mpqueue.memory.serialize import collector, dumps_object, is_loadable_elsewhere

ALIGNED = 64
_LENGTH_BYTES = 8


def pack(value: Any) -> tuple[bytes, int]:
    """Return the bytes of a value, and the number of arrays in them.

    Raises:
        Exception: Pickling the value raised.
    """
    buffers: list[memoryview] = []
    try:
        pickled = pickle.dumps(value, 5, buffer_callback=collector(buffers, 0))
        by_name = is_loadable_elsewhere(pickled)
    except Exception:  # `pickle` cannot pickle it by name
        by_name = False
    if not by_name:
        buffers.clear()
        pickled = dumps_object(value, collector(buffers, 0))
    if not buffers:
        return pickled, 0
    head = struct.pack(f"<{len(buffers) + 1}Q", len(pickled), *(buffer.nbytes for buffer in buffers))
    parts: list[bytes | memoryview] = [head, pickled]
    end = len(head) + len(pickled)
    for buffer in buffers:
        parts += (bytes(-end % ALIGNED), buffer)
        end += -end % ALIGNED + buffer.nbytes
    return b"".join(parts), len(buffers)


def unpack(record: memoryview, num_buffers: int) -> Any:
    """Return the value that `pack` has serialized; its arrays are views of the record.

    Raises:
        Exception: Unpickling the value raised.
    """
    if not num_buffers:
        return pickle.loads(record)
    lengths = struct.unpack_from(f"<{num_buffers + 1}Q", record)
    end = _LENGTH_BYTES * len(lengths) + lengths[0]
    buffers = []
    for length in lengths[1:]:
        start = end + -end % ALIGNED
        end = start + length
        buffers.append(record[start:end])
    return pickle.loads(record[_LENGTH_BYTES * len(lengths) :][: lengths[0]], buffers=buffers)


def copied(value: Any, *, is_writable: bool = False) -> Any:
    """Return a value as it is read from a file.

    Args:
        value: The value.
        is_writable: Return writable arrays.

    Raises:
        Exception: Pickling or unpickling the value raised.
    """
    record, num_buffers = pack(value)
    return unpack(memoryview(bytearray(record) if is_writable else record), num_buffers)
