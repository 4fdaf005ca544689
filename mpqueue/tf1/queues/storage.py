"""Storage of queue elements as Python objects: arrays are converted to tokens when enqueued, and back when dequeued.

The machine moves tokens without reading them; a storage creates and reads them. Arrays are copied when they are
enqueued, so the caller may modify them. Dequeued arrays belong to the caller.

`PlainStorage` is for queues that only threads of this process use. Each component has a column:

* `PackedColumn`, for numbers of a fixed shape. A token is a ``bytes`` object.
* `ArrayColumn`, for strings, varying shapes, and large elements, for which it saves a copy. A token is an array.

The token of an element is the token of its column, or a tuple if there are several columns.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from mpqueue.tf1.queues.machine import Token
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.values.shapes import is_fully_known
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape

# From the next size on, an element that another process enqueues may be returned as a view, see `block_pool`.
PACK_LIMIT_BYTES: Final = (64 << 10) - 1
# Larger rows become tokens at once: that saves a copy, and the cost of an object per row is small in comparison.
_EAGER_BYTES: Final = 1024
# Larger rows are copied separately. As views of one array, a single remaining row would retain all others.
_SHARED_BYTES: Final = 4096


class PlainStorage:
    """Elements as Python objects of this process. A queue calls it in any thread, without the queue's lock.

    Args:
        spec: The components of the elements.
    """

    def __init__(self, spec: ElementSpec) -> None:
        self.columns = [
            _column(dtype, shape if spec.has_shapes else None)
            for dtype, shape in zip(spec.dtypes, spec.shapes, strict=True)
        ]
        self._only = self.columns[0] if len(self.columns) == 1 else None

    def put(self, components: list[Array]) -> Token:
        """Copy the arrays of one element; return its token."""
        if self._only is not None:
            return self._only.put(components[0])
        return tuple(column.put(array) for column, array in zip(self.columns, components, strict=True))

    def put_many(self, components: list[Array], count: int) -> Sequence[Token]:
        """Copy ``count`` elements, which are the rows of the components; return their tokens, created when sliced."""
        rows = [column.put_rows(block) for column, block in zip(self.columns, components, strict=True)]
        return _TokensOfRows(rows, count)

    def get_one(self, tokens: list[Token]) -> list[Any]:
        """Return the components of the only token, for the caller alone: NumPy scalars, ``bytes`` or arrays.

        A token that remains in use is removed from the list. The caller may free the others.
        """
        if self._only is not None:
            return [self._only.get(tokens[0])]
        return [column.get(part) for column, part in zip(self.columns, tokens[0], strict=True)]

    def get_many(self, tokens: list[Token]) -> list[Array]:
        """Return the components of several elements, stacked in new arrays."""
        if self._only is not None:
            return [self._only.get_many(tokens)]
        parts: Any = zip(*tokens, strict=True) if tokens else [()] * len(self.columns)
        return [column.get_many(column_parts) for column, column_parts in zip(self.columns, parts, strict=True)]


def _column(dtype: DType, shape: Shape) -> "PackedColumn | ArrayColumn":
    if not isinstance(dtype, str) and shape is not None and None not in shape:
        fixed = tuple(size for size in shape if size is not None)
        if math.prod(fixed) * dtype.itemsize <= PACK_LIMIT_BYTES:
            return PackedColumn(dtype, fixed)
    return ArrayColumn(np.dtype(object) if isinstance(dtype, str) else dtype, shape)


class PackedColumn:
    """Numbers of one fixed shape. Each token is the array's bytes."""

    # Why bytes: an object has an overhead of 33 bytes, an array 112, and gathering small arrays into a batch takes 10
    # times as long as joining bytes. In addition, NumPy releases the interpreter lock for each copy of 500 items or
    # more. Gathering a batch of images would then cost a thread switch for each image, up to 5 ms next to a thread that
    # runs Python code. Two threads that fill a shuffled queue with images of 12 KB, and one that empties it, reached
    # 10,000 images/s with arrays and 45,000 with bytes. From 150 KB on, both are equally fast.

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape
        self._num_bytes = math.prod(shape) * dtype.itemsize

    def put(self, array: Array) -> bytes:
        """Return the bytes of the array in row-major order."""
        return array.tobytes()

    def put_rows(self, block: Array) -> "TokenRows":
        """Return the bytes of each row."""
        if self._num_bytes > _EAGER_BYTES:
            return _pieces(np.ascontiguousarray(block), self._num_bytes, 0, len(block))
        return _PackedRows(block.tobytes(), self._num_bytes)

    def get(self, token: bytes) -> Any:
        """Return a writable array over a copy of the bytes."""
        if not self._shape:
            return np.ndarray((), self._dtype, token)[()]
        return np.ndarray(self._shape, self._dtype, bytearray(token))

    def get_many(self, tokens: Sequence[bytes]) -> Array:
        """Return a writable array over the joined bytes."""
        # Joining into a `bytearray` is one copy, and makes the array writable.
        return np.ndarray((len(tokens), *self._shape), self._dtype, bytearray().join(tokens))

    def as_array(self, token: bytes) -> Array:
        """Return a view of the bytes."""
        return np.ndarray(self._shape, self._dtype, token)


class ArrayColumn:
    """Arrays as they are, copied once. When stacked, each dimension is padded to the longest array."""

    def __init__(self, dtype: np.dtype[Any], shape: Shape) -> None:
        self._dtype, self._shape = dtype, shape

    def put(self, array: Array) -> Array:
        """Return a copy."""
        return array.copy()

    def put_rows(self, block: Array) -> "TokenRows":
        """Return views of one copy; separate copies of large rows, so that one row does not retain all others."""
        if block.dtype != object and block.nbytes > _SHARED_BYTES * len(block):
            return [row.copy() for row in block]
        return _ArrayRows(block.copy())

    def get(self, token: Array) -> Any:
        """Return the array itself, which has no other owner."""
        if token.ndim == 0:
            return token[()]
        # A row of a larger array: a view would retain the whole array.
        return token if token.base is None else token.copy()

    def get_many(self, tokens: Sequence[Array]) -> Array:
        """Return a new array, padded with 0 or ``b""``."""
        shape = self._longest(tokens)
        if is_fully_known(self._shape):
            out = np.empty((len(tokens), *shape), self._dtype)
            for place, array in enumerate(tokens):
                out[place, ...] = array  # without the ellipsis, an object array would store the array as one object
            return out
        out = np.full((len(tokens), *shape), b"" if self._dtype.kind == "O" else 0, self._dtype)
        for place, array in enumerate(tokens):
            used: tuple[int | slice, ...] = (place, *(slice(size) for size in array.shape))
            out[used] = array if array.ndim else array[()]
        return out

    def as_array(self, token: Array) -> Array:
        """Return the token itself."""
        return token

    def _longest(self, tokens: Sequence[Array]) -> tuple[int, ...]:
        """Return the known dimensions, and the largest size of each unknown one (0 if there is no array)."""
        return tuple(
            max((array.shape[axis] for array in tokens), default=0) if size is None else size
            for axis, size in enumerate(self._shape or ())
        )


class _PackedRows:
    """Tokens of rows of numbers, sliced from the bytes of all rows on demand."""

    def __init__(self, raw: bytes, num_bytes: int) -> None:
        self._raw, self._num_bytes = raw, num_bytes

    def __getitem__(self, places: slice) -> list[Token]:
        step, count = self._num_bytes, places.stop - places.start
        if not step:
            return [b""] * count
        return _pieces(self._raw, step, places.start, count)


def _pieces(raw: bytes | Array, num_bytes: int, first: int, count: int) -> list[Token]:
    """Return bytes objects of equal length, copied out of a buffer. Slicing would take three times as long."""
    pieces: list[Token] = np.ndarray(count, f"V{num_bytes}", raw, first * num_bytes).tolist()
    return pieces


class _ArrayRows:
    """Tokens of the rows of an array: views, created when sliced."""

    def __init__(self, block: Array) -> None:
        self._block = block

    def __getitem__(self, places: slice) -> list[Token]:
        return [self._block[row, ...] for row in range(places.start, places.stop)]


TokenRows: TypeAlias = list[Token] | _PackedRows | _ArrayRows
"""Tokens of the rows of one column."""


class _TokensOfRows(Sequence[Token]):
    """The elements of one `put_many`. A million rows that wait for room are one array, not a million objects."""

    def __init__(self, columns: list[TokenRows], count: int) -> None:
        self._columns, self._count = columns, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: Any) -> Any:
        columns = [rows[places] for rows in self._columns]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
