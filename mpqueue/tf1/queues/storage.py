"""Storage of the elements of a queue: arrays go in, tokens stand for them, arrays come out.

The machine passes tokens on without looking at them; a storage makes them and follows them. What goes in is copied,
so that the caller may do with its arrays what it likes; what comes out belongs to whoever dequeued it.

`PlainStorage` is for a queue that only threads of this process use. Each component has a column:

* `PackedColumn`, for numbers of a fixed shape: a token is a ``bytes`` object, 33 bytes more than the numbers (an array
  object would be 112 more and a batch of small ones 10 times slower to gather: joining bytes is one call).
* `ArrayColumn`, for text, shapes that vary, and elements so large that a copy for each is to be spared: a token is an
  array.

Bytes are copied with the interpreter's lock held, up to a mebibyte. NumPy lets go of it for each copy of 500 elements
or more: a batch of images that is gathered one by one then costs a change of threads for each image, and each of these
takes as long as the image or, where the other thread runs Python code, up to 5 ms. Two threads that fill a shuffled
queue with images of 12 KB and one that empties it came to 10,000 images/s by arrays and to 45,000 by bytes; from 150
KB on there is no difference.

The token of an element is its column's token, or a tuple of them if there are several columns.
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

PACK_LIMIT_BYTES: Final = (64 << 10) - 1  # from there on, what another process enqueues may be a view, see `block_pool`
_EAGER_BYTES: Final = 1024  # larger rows are made tokens at once: a copy less, and an object for each weighs little
_SHARED_BYTES: Final = 4096  # larger rows are copied each: as views of one block they would keep all of it alive


class PlainStorage:
    """Elements as Python objects of this process. A queue calls it without its lock, from any thread.

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
        """A token for one element, whose arrays are copied: one of each column."""
        if self._only is not None:
            return self._only.put(components[0])
        return tuple(column.put(array) for column, array in zip(self.columns, components, strict=True))

    def put_many(self, components: list[Array], count: int) -> Sequence[Token]:
        """Tokens for ``count`` elements, the rows of the components: copied now, made when they are sliced."""
        rows = [column.put_rows(block) for column, block in zip(self.columns, components, strict=True)]
        return _TokensOfRows(rows, count)

    def get_one(self, tokens: list[Token]) -> list[Any]:
        """The components of the only element, for the caller alone: scalars as NumPy scalars, text scalars as bytes.

        A token that stays in use is taken out of the list; the others are free when they have been read.
        """
        if self._only is not None:
            return [self._only.get(tokens[0])]
        return [column.get(part) for column, part in zip(self.columns, tokens[0], strict=True)]

    def get_many(self, tokens: list[Token]) -> list[Array]:
        """The components of several elements, stacked; new arrays."""
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
    """Numbers of one fixed shape, each array as its bytes."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape
        self._num_bytes = math.prod(shape) * dtype.itemsize

    def put(self, array: Array) -> bytes:
        """Its bytes in row-major order."""
        return array.tobytes()

    def put_rows(self, block: Array) -> "TokenRows":
        """Pieces of its bytes."""
        if self._num_bytes > _EAGER_BYTES:
            return _pieces(np.ascontiguousarray(block), self._num_bytes, 0, len(block))
        return _PackedRows(block.tobytes(), self._num_bytes)

    def get(self, token: bytes) -> Any:
        """A writable array over a copy of the bytes."""
        if not self._shape:
            return np.ndarray((), self._dtype, token)[()]
        return np.ndarray(self._shape, self._dtype, bytearray(token))

    def get_many(self, tokens: Sequence[bytes]) -> Array:
        """A writable array over all bytes in one."""
        return np.ndarray((len(tokens), *self._shape), self._dtype, bytearray().join(tokens))

    def as_array(self, token: bytes) -> Array:
        """A view of the bytes."""
        return np.ndarray(self._shape, self._dtype, token)


class ArrayColumn:
    """Arrays as they are, copied once; stacked, they are padded at the end of every dimension to the longest."""

    def __init__(self, dtype: np.dtype[Any], shape: Shape) -> None:
        self._dtype, self._shape = dtype, shape

    def put(self, array: Array) -> Array:
        """A copy of it."""
        return array.copy()

    def put_rows(self, block: Array) -> "TokenRows":
        """Views of one copy; of large arrays copies, so that the last one to leave does not keep all others alive."""
        if block.dtype != object and block.nbytes > _SHARED_BYTES * len(block):
            return [row.copy() for row in block]
        return _ArrayRows(block.copy())

    def get(self, token: Array) -> Any:
        """The array itself, which nobody else has."""
        if token.ndim == 0:
            return token[()]
        # A row of a block: as a view it would keep the whole block alive.
        return token if token.base is None else token.copy()

    def get_many(self, tokens: Sequence[Array]) -> Array:
        """A new array, padded with 0 or ``b""``."""
        shape = self._longest(tokens)
        if is_fully_known(self._shape):
            out = np.empty((len(tokens), *shape), self._dtype)
            for place, array in enumerate(tokens):
                out[place, ...] = array  # without the dots, an object array would take the array as an object
            return out
        out = np.full((len(tokens), *shape), b"" if self._dtype.kind == "O" else 0, self._dtype)
        for place, array in enumerate(tokens):
            used: tuple[int | slice, ...] = (place, *(slice(size) for size in array.shape))
            out[used] = array if array.ndim else array[()]
        return out

    def as_array(self, token: Array) -> Array:
        """The token itself."""
        return token

    def _longest(self, tokens: Sequence[Array]) -> tuple[int, ...]:
        """The known dimensions, and the largest size of each unknown one (0 if there is no array)."""
        return tuple(
            max((array.shape[axis] for array in tokens), default=0) if size is None else size
            for axis, size in enumerate(self._shape or ())
        )


class _PackedRows:
    """Tokens of the rows of numbers, cut out of all bytes when they are sliced."""

    def __init__(self, raw: bytes, num_bytes: int) -> None:
        self._raw, self._num_bytes = raw, num_bytes

    def __getitem__(self, places: slice) -> list[Token]:
        step, count = self._num_bytes, places.stop - places.start
        if not step:
            return [b""] * count
        return _pieces(self._raw, step, places.start, count)


def _pieces(raw: bytes | Array, num_bytes: int, first: int, count: int) -> list[Token]:
    """Bytes objects of equal length, copied out of a buffer; slices would take three times as long."""
    pieces: list[Token] = np.ndarray(count, f"V{num_bytes}", raw, first * num_bytes).tolist()
    return pieces


class _ArrayRows:
    """Tokens of the rows of an array: views of it, made when they are sliced."""

    def __init__(self, block: Array) -> None:
        self._block = block

    def __getitem__(self, places: slice) -> list[Token]:
        return [self._block[row, ...] for row in range(places.start, places.stop)]


TokenRows: TypeAlias = list[Token] | _PackedRows | _ArrayRows
"""Tokens of the rows of one column."""


class _TokensOfRows(Sequence[Token]):
    """The elements of one `put_many`: a million rows that wait for room are one block, not a million objects."""

    def __init__(self, columns: list[TokenRows], count: int) -> None:
        self._columns, self._count = columns, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: Any) -> Any:
        columns = [rows[places] for rows in self._columns]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
