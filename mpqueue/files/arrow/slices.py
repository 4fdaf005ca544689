"""Some rows of an uncompressed record batch, built from the bytes of these rows only.

The values in a record batch are addressable: a column of numbers is an array; a column of strings is an array of
offsets and the bytes between them; a column of lists has offsets and another column. A row therefore costs a read of
its own bytes, however large its batch. Reading whole batches, as pyarrow does, would read a hundred megabytes for one
photograph in a batch of a thousand. Mapping the file, as other libraries do, kills the process with SIGBUS if the file
shrinks.

Dictionaries, unions, views and run-end encoding are not addressed here. Such batches are read as a whole.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.files.arrow.messages import BatchLayout
from mpqueue.files.sources.rows import pyarrow

# Returns bytes of a buffer: (index of the buffer, offset in the buffer, length).
ReadBuffer = Callable[[int, int, int], bytes]


def num_parts(kind: Any) -> tuple[int, int]:
    """Return the numbers of nodes and buffers of a type.

    Raises:
        NotImplementedError: Rows of this type cannot be built from their own bytes.
    """
    pa = pyarrow()
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return num_parts(kind.storage_type)
    inner: list[Any] = []
    if types.is_null(kind):
        num_buffers = 0
    elif types.is_struct(kind):
        num_buffers, inner = 1, [field.type for field in kind]
    elif types.is_fixed_size_list(kind):
        num_buffers, inner = 1, [kind.value_type]
    elif types.is_list(kind) or types.is_large_list(kind):
        num_buffers, inner = 2, [kind.value_type]
    elif offset_type(kind) is not None:
        num_buffers = 3
    elif types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind):
        num_buffers = 2
    else:
        raise NotImplementedError(str(kind))
    parts = [num_parts(each) for each in inner]
    return 1 + sum(nodes for nodes, _ in parts), num_buffers + sum(buffers for _, buffers in parts)


def offset_type(kind: Any) -> str | None:
    """Return the type of the offsets of a column of bytes or strings; None for other columns."""
    types = pyarrow().types
    if types.is_string(kind) or types.is_binary(kind):
        return "<i4"
    return "<i8" if types.is_large_string(kind) or types.is_large_binary(kind) else None


class Slicer:
    """Builds arrays of some rows of one record batch.

    Args:
        layout: The positions of the parts of the batch.
        read: A function that reads from a buffer.
        node: The index of the node of the first array; it advances with each array.
        buffer: The index of the first buffer of that array, which advances as well.
    """

    def __init__(self, layout: BatchLayout, read: ReadBuffer, node: int, buffer: int) -> None:
        self._layout, self._read, self._node, self._buffer = layout, read, node, buffer

    def rows(self, kind: Any, start: int, stop: int) -> Any:
        """Return the array of the rows from ``start`` to ``stop``, exclusive.

        Raises:
            ValueError: The rows do not exist, or offsets are invalid.
        """
        pa = pyarrow()
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            return self.rows(kind.storage_type, start, stop)
        length, num_nulls = self._layout.nodes[self._node]
        self._node += 1
        if not 0 <= start <= stop <= length:
            raise ValueError(f"rows {start} to {stop} are outside of an array of {length}")
        count = stop - start
        if types.is_null(kind):
            return pa.nulls(count)
        valid = self._bits(start, stop) if num_nulls else None
        if not num_nulls:
            self._buffer += 1
        if types.is_struct(kind):
            children = [self.rows(field.type, start, stop) for field in kind]
            storage = pa.struct([field.with_type(child.type) for field, child in zip(kind, children, strict=True)])
            return pa.Array.from_buffers(storage, count, [valid], children=children)
        if types.is_fixed_size_list(kind):
            child = self.rows(kind.value_type, start * kind.list_size, stop * kind.list_size)
            storage = pa.list_(child.type, kind.list_size)
            return pa.Array.from_buffers(storage, count, [valid], children=[child])
        if types.is_list(kind) or types.is_large_list(kind):
            offsets = self._offsets("<i4" if types.is_list(kind) else "<i8", start, stop)
            child = self.rows(kind.value_type, int(offsets[0]), int(offsets[-1]))
            storage = pa.list_(child.type) if types.is_list(kind) else pa.large_list(child.type)
            return pa.Array.from_buffers(storage, count, [valid, _rebased(offsets)], children=[child])
        if (of_offsets := offset_type(kind)) is not None:
            offsets = self._offsets(of_offsets, start, stop)
            data = self._bytes(int(offsets[0]), int(offsets[-1]))
            return pa.Array.from_buffers(kind, count, [valid, _rebased(offsets), pa.py_buffer(data)])
        if types.is_boolean(kind):
            return pa.Array.from_buffers(kind, count, [valid, self._bits(start, stop)])
        width = kind.byte_width
        data = self._bytes(start * width, stop * width)
        return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(data)])

    def _bytes(self, start: int, stop: int) -> bytes:
        index = self._buffer
        self._buffer += 1
        length = self._layout.buffers[index][1]
        if not 0 <= start <= stop <= length:
            raise ValueError(f"bytes {start:,} to {stop:,} are outside of a buffer of {length:,}")
        return self._read(index, start, stop - start) if stop > start else b""

    def _bits(self, start: int, stop: int) -> Any:
        """Return a buffer with the bits of some rows, beginning with the first one."""
        first = start // 8
        data = np.frombuffer(self._bytes(first, (stop + 7) // 8), np.uint8)
        bits = np.unpackbits(data, bitorder="little")[start - first * 8 : stop - first * 8]
        return pyarrow().py_buffer(np.packbits(bits, bitorder="little").tobytes())

    def _offsets(self, kind: str, start: int, stop: int) -> Any:
        width = int(kind[-1])
        if (
            start == stop == 0 and self._layout.buffers[self._buffer][1] == 0
        ):  # without rows, the offsets may be omitted
            self._buffer += 1
            return np.zeros(1, kind)
        offsets = np.frombuffer(self._bytes(start * width, (stop + 1) * width), kind)
        if offsets[0] < 0 or (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets must not decrease")
        return offsets


def _rebased(offsets: Any) -> Any:
    return pyarrow().py_buffer((offsets - offsets[0]).tobytes())
