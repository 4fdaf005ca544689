"""The layout of an element in a block of shared memory, and a storage that reads both blocks and Python objects.

    every component of a fixed shape     [ numbers | numbers ]          at offsets that all elements of the queue share
    otherwise, for each component:
      numbers                            [ rank, sizes | numbers ]
      strings                            [ rank, sizes, lengths | bytes of all strings, joined ]
      short strings without 0xff         [ -1 - rank, sizes, total bytes | strings, joined by a 0xff separator ]

Each part is aligned to 16 bytes. The layout contains only numbers and bytes, never a pickle. Readers do not trust it,
because any process that uses the queue can write to the memory: contents that do not fit into the block raise
`DataLossError`.

Elements that threads of the owner enqueue remain Python objects, as in `PlainStorage`. Elements from other processes
are in blocks, and their tokens are integers. A queue can hold both kinds. `SharedStorage` reads a block as views and
copies it once, into the result; a single large array can be returned without a copy, see `block_pool`.
"""

import math
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mpqueue.errors import DataLossError
from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.memory.segment import Segment
from mpqueue.tf1.queues.arena import CLASS_SHIFT, class_bytes, class_for, first_token, offset_of
from mpqueue.tf1.queues.block_pool import LEAST_BYTES, Holds
from mpqueue.tf1.queues.description import MAX_COMPONENT_BYTES
from mpqueue.tf1.queues.machine import Token
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.storage import PackedColumn, PlainStorage
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape

_ALIGNMENT = 16
_MAX_RANK = 64  # NumPy's
# A byte that UTF-8 never contains. Splitting 1,000 short strings takes a fifth of the time of slicing them by lengths.
_SEPARATOR = b"\xff"
# Up to this size, copying twice is cheaper than writing through a NumPy array over the block.
_SMALL_BYTES = 4096
_Piece = tuple[int, Any]
"""An offset in a block, and the array or bytes to write there."""


class BlockField(NamedTuple):
    """A component of a fixed shape: its offset in each block, and an array over this field of all possible blocks."""

    offset: int
    nbytes: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: Array


class BlockCodec:
    """Writes elements of one queue to blocks, and reads them.

    Args:
        spec: The components of the elements.
        segment: The shared memory.

    Attributes:
        size_class: The size class of every element's block if all elements have the same size, otherwise -1.
        is_single: True if each element is one array of a fixed shape.
    """

    def __init__(self, spec: ElementSpec, segment: Segment) -> None:
        self._memory = segment.memory
        self.view = memoryview(segment.memory)
        self._dtypes = spec.dtypes
        self.size_class = -1
        self.is_single = False
        self._fields: list[BlockField] = []
        if spec.are_shapes_fixed and all(map(_is_item, spec.dtypes, spec.shapes)):
            self._lay_out(spec)
        else:
            # Each dequeue of strings allocates new memory for them; returning it to the system each time is slow.
            keep_freed_memory()
        # A block's parts have the same types as the parts of a plain element, so that both kinds can be stacked
        # together.
        self._is_packed = [isinstance(column, PackedColumn) for column in PlainStorage(spec).columns]

    def _lay_out(self, spec: ElementSpec) -> None:
        places, end = [], 0
        for dtype, known in zip(spec.dtypes, spec.shapes, strict=True):
            assert isinstance(dtype, np.dtype)
            shape = tuple(size or 0 for size in known or ())
            nbytes = math.prod(shape) * dtype.itemsize
            places.append((end, nbytes, dtype, shape))
            end = _align(end + nbytes)
        self.size_class = class_for(places[-1][0] + places[-1][1])
        self._first, self._stride = first_token(self.size_class), class_bytes(self.size_class)
        num_blocks = len(self._memory) // self._stride
        for offset, nbytes, dtype, shape in places:
            # A void dtype with the size of the component: one indexing operation copies the rows of many blocks.
            rows: Array = (
                np.ndarray((num_blocks,), np.dtype((np.void, nbytes)), self._memory, offset, (self._stride,))
                if nbytes
                else _NOTHING
            )
            self._fields.append(BlockField(offset, nbytes, dtype, shape, rows))
        self._first_place = np.array(self._first)
        self._nbytes = places[0][1]
        self.is_single = len(places) == 1

    # -- Writing

    def plan(self, components: Sequence[Array]) -> tuple[int, list[_Piece]]:
        """Return the size class for an element, and the pieces for `write`."""
        if self.size_class >= 0:
            return self.size_class, [
                (field.offset, array) for field, array in zip(self._fields, components, strict=True)
            ]
        end, pieces = 0, []
        for array in components:
            head, bodies, nbytes = _text(array) if array.dtype.kind == "O" else _numbers(array)
            pieces.append((end, head))
            start = end = _align(end + len(head))
            for body in bodies:
                pieces.append((end, body))
                end += len(body) if isinstance(body, bytes) else body.nbytes
            end = _align(start + nbytes)
        return class_for(end), pieces

    def write(self, token: int, pieces: list[_Piece]) -> None:
        """Write the pieces of an element to its block."""
        start, view = offset_of(token), self.view
        for offset, piece in pieces:
            at = start + offset
            if isinstance(piece, bytes):
                view[at : at + len(piece)] = piece
            elif piece.nbytes <= _SMALL_BYTES:
                view[at : at + piece.nbytes] = piece.tobytes()
            else:
                np.ndarray(piece.shape, piece.dtype, self._memory, at)[...] = piece

    def write_one(self, token: int, array: Array) -> None:
        """Write the only component, of a fixed shape. `plan` and `write` would take 1.2 times the CPU time."""
        at, nbytes = (token - self._first) * self._stride, self._nbytes
        if nbytes <= _SMALL_BYTES:
            self.view[at : at + nbytes] = array.tobytes()
        else:
            np.ndarray(array.shape, array.dtype, self._memory, at)[...] = array

    def write_rows(self, tokens: Sequence[int], components: Sequence[Array]) -> None:
        """Write rows of components of fixed shapes, each row to its block."""
        places = self._places(tokens)
        for (_offset, nbytes, _dtype, _shape, rows), block in zip(self._fields, components, strict=True):
            if nbytes:
                raw = np.ascontiguousarray(block).ravel().view(rows.dtype)
                rows[places] = raw

    def write_columns(self, tokens: Sequence[int], columns: Sequence[Sequence[Any]]) -> None:
        """Write elements of fixed shapes, grouped by component; each part is an array or its bytes."""
        places = self._places(tokens)
        for (offset, nbytes, dtype, shape, rows), packed, parts in zip(
            self._fields, self._is_packed, columns, strict=True
        ):
            # Small parts are joined and copied in one operation. Large parts are copied only once, directly.
            if packed and nbytes <= _SMALL_BYTES:
                if nbytes:
                    rows[places] = np.frombuffer(b"".join(parts), rows.dtype)
            elif packed:
                for token, part in zip(tokens, parts, strict=True):
                    at = offset_of(token) + offset
                    self.view[at : at + nbytes] = part
            elif nbytes:
                for token, part in zip(tokens, parts, strict=True):
                    np.ndarray(shape, dtype, self._memory, offset_of(token) + offset)[...] = part

    # -- Reading

    def parts(self, token: int, base: Array | None = None) -> list[Any]:
        """Return the components of the element in a block as views, in the types that `PlainStorage` columns accept.

        Args:
            token: The block.
            base: An array over the block, which the views reference. None: the views are over the whole segment.
        """
        start = offset_of(token)
        memory, origin = (self._memory, 0) if base is None else (base, start)
        if self.size_class >= 0:
            return [
                self.view[start + offset : start + offset + nbytes]
                if packed
                else np.ndarray(shape, dtype, memory, start + offset - origin)
                for (offset, nbytes, dtype, shape, _), packed in zip(self._fields, self._is_packed, strict=True)
            ]
        parts, end, bound = [], start, start + class_bytes(token >> CLASS_SHIFT)
        for dtype, packed in zip(self._dtypes, self._is_packed, strict=True):
            array, end = self._read(dtype, end, bound, memory, origin)
            parts.append(array.tobytes() if packed else array)
        return parts

    def read(self, token: int) -> list[Any]:
        """Return a copy of an element of fixed shapes: scalars as NumPy scalars, arrays as new arrays."""
        start, memory = (token - self._first) * self._stride, self._memory
        components: list[Any] = []
        for offset, _nbytes, dtype, shape, _rows in self._fields:
            array = np.ndarray(shape, dtype, memory, start + offset)
            components.append(array.copy() if shape else array[()])
        return components

    def gather(self, tokens: Sequence[int] | Array) -> list[Array]:
        """Return copies of elements of fixed shapes, stacked."""
        places = self._places(tokens)
        return [
            rows[places].view(dtype).reshape(len(tokens), *shape) if nbytes else np.empty((len(tokens), *shape), dtype)
            for _offset, nbytes, dtype, shape, rows in self._fields
        ]

    def _places(self, tokens: Sequence[int] | Array) -> Array:
        """Return the row indices of blocks in the array of a field."""
        # With explicit dtypes, 0.9 us for 32 tokens instead of 1.5 us: 5 % of the time of a `dequeue_many`.
        places: Array = np.asarray(tokens, np.int64) - self._first_place
        return places

    def _read(self, dtype: Any, at: int, bound: int, memory: Any, origin: int) -> tuple[Array, int]:
        # Another process wrote this. Check each number before it is used as an offset or a size.
        (rank,) = struct.unpack_from("<q", self.view, at) if at + 8 <= bound else (_MAX_RANK + 1,)
        is_separated = rank < 0 and isinstance(dtype, str)
        if is_separated:
            rank = -1 - rank
        # Check before unpacking the sizes: the number of sizes is itself untrusted.
        _require(0 <= rank <= _MAX_RANK and at + 8 + 8 * rank <= bound)
        shape = struct.unpack_from(f"<{rank}q", self.view, at + 8)
        at += 8 + 8 * rank
        _require(min(shape, default=0) >= 0)
        count = math.prod(shape)
        if not isinstance(dtype, str):
            at = _align(at)
            _require(at + count * dtype.itemsize <= bound)
            return np.ndarray(shape, dtype, memory, at - origin), _align(at + count * dtype.itemsize)
        if is_separated:
            return self._split(shape, at, bound)
        _require(at + 8 * count <= bound)
        ends = [0, *np.cumsum(np.ndarray(count, np.int64, self._memory, at)).tolist()]
        at = _align(at + 8 * count)
        # A negative length in between only yields wrong strings; all slices are within these bytes.
        _require(0 <= ends[-1] <= bound - at)
        body, out = self.view[at : at + ends[-1]], np.empty(count, object)
        if ends[-1] <= _SMALL_BYTES * count:  # slicing short strings from one copy is cheaper than copying each
            whole = body.tobytes()
            out[:] = [whole[start:end] for start, end in pairwise(ends)]
        else:
            out[:] = [body[start:end].tobytes() for start, end in pairwise(ends)]
        return out.reshape(shape), _align(at + ends[-1])

    def _split(self, shape: tuple[int, ...], at: int, bound: int) -> tuple[Array, int]:
        """Return strings that are joined by separators, and the offset after them."""
        (nbytes,) = struct.unpack_from("<q", self.view, at) if at + 8 <= bound else (-1,)
        at = _align(at + 8)
        _require(0 <= nbytes <= bound - at)
        texts = self.view[at : at + nbytes].tobytes().split(_SEPARATOR)
        # A string that contains the separator would change the number of parts, so a wrong block is noticed here.
        _require(len(texts) == math.prod(shape))
        out = np.empty(len(texts), object)
        out[:] = texts
        return out.reshape(shape), _align(at + nbytes)


def _is_item(dtype: DType, shape: Shape) -> bool:
    """Return whether a component of a fixed shape can be one item of a NumPy array."""
    return (
        not isinstance(dtype, str)
        and math.prod(size or 0 for size in shape or ()) * dtype.itemsize <= MAX_COMPONENT_BYTES
    )


_NOTHING: Array = np.empty(0, np.uint8)


def _is_large(part: Any) -> bool:
    return type(part) is np.ndarray and part.nbytes >= LEAST_BYTES and part.dtype.kind != "O"


def _require(fits: bool) -> None:
    if not fits:
        raise DataLossError(
            None,
            None,
            "A queue element is corrupt: a process that uses the queue has overwritten its shared memory.",
        )


def _align(offset: int) -> int:
    return (offset + _ALIGNMENT - 1) & -_ALIGNMENT


def _numbers(array: Array) -> tuple[bytes, Sequence[Any], int]:
    return struct.pack(f"<{array.ndim + 1}q", array.ndim, *array.shape), (array,), array.nbytes


def _text(array: Array) -> tuple[bytes, Sequence[Any], int]:
    texts = array.ravel().tolist()
    nbytes = sum(map(len, texts))
    # Joining short strings is cheaper than writing each. Long strings are copied only once, directly.
    is_short = nbytes <= _SMALL_BYTES * len(texts)
    if is_short and texts:
        joined = _SEPARATOR.join(texts)
        if joined.count(_SEPARATOR) == len(texts) - 1:
            head = struct.pack(f"<{array.ndim + 2}q", -1 - array.ndim, *array.shape, len(joined))
            return head, (joined,), len(joined)
    head = struct.pack(f"<{array.ndim + 1 + len(texts)}q", array.ndim, *array.shape, *map(len, texts))
    return head, (b"".join(texts),) if is_short else texts, nbytes


class SharedStorage(PlainStorage):
    """A storage that reads elements in blocks and Python objects. Elements of this process's threads remain objects.

    Args:
        spec: The components of the elements.
        codec: Reads blocks.
        has_plain: True if the queue may hold plain elements.
        holds: Makes views of large arrays. None: arrays are always copied.

    Attributes:
        codec: Reads blocks.
        has_plain: True from the first plain element on.
    """

    def __init__(self, spec: ElementSpec, codec: BlockCodec, *, has_plain: bool, holds: Holds | None = None) -> None:
        super().__init__(spec)
        self.codec, self.has_plain = codec, has_plain
        # Decided once per queue. Strings become objects and small arrays are copied, so most queues never need views.
        has_numbers = any(isinstance(dtype, np.dtype) for dtype in spec.dtypes)
        may_be_large = codec.size_class < 0 or class_bytes(codec.size_class) >= LEAST_BYTES
        self._holds = holds if has_numbers and may_be_large else None

    def get_one(self, tokens: list[Token]) -> list[Any]:
        """Return the components of the only token; a token is removed from the list if views hold its block."""
        token = tokens[0]
        # An integer is a block; any other token is an element that a thread of the owner enqueued.
        if self._holds is not None and type(token) is int:
            base = self._holds.base(token)
            if base is not None:
                return self._hold(tokens, base, self._holds)
        if type(token) is int and self.codec.size_class >= 0:
            return self.codec.read(token)
        return super().get_one([self._plain(token)])

    def _hold(self, tokens: list[Token], base: Array, holds: Holds) -> list[Any]:
        """Return the components of the only token, the large ones as views of the array over its block."""
        try:
            parts = self.codec.parts(tokens[0], base)
            components = [
                part if _is_large(part) else column.get(part) for part, column in zip(parts, self.columns, strict=True)
            ]
            # From here on the views own the block: the request must not free it.
            del tokens[:]
        except BaseException:
            if tokens:
                holds.forget(tokens[0])  # the element returns to the queue
            raise
        return components

    def get_many(self, tokens: list[Token]) -> list[Array]:
        """Return the components of several elements, stacked. Each element is copied once."""
        # Only blocks of one layout: gather each component in one operation.
        if self.codec.size_class >= 0 and tokens and not self.has_plain:
            return self.codec.gather(tokens)
        return super().get_many([self._plain(token) for token in tokens])

    def _plain(self, token: Token) -> Token:
        if type(token) is not int:
            return token
        parts = self.codec.parts(token)
        return parts[0] if self._only is not None else tuple(parts)

    def to_block(self, token: Token) -> tuple[int, list[_Piece]]:
        """Return the size class for a plain element, and the pieces to write to its block."""
        parts = (token,) if self._only is not None else token
        arrays = [column.as_array(part) for column, part in zip(self.columns, parts, strict=True)]
        return self.codec.plan(arrays)

    def write_alike(self, blocks: Sequence[int], tokens: Sequence[Token]) -> None:
        """Write plain elements of fixed shapes to blocks."""
        columns = (tokens,) if self._only is not None else tuple(zip(*tokens, strict=True))
        self.codec.write_columns(blocks, columns)

    def blocks_of(self, tokens: list[Token]) -> list[int]:
        """Return the tokens that are blocks."""
        return [token for token in tokens if type(token) is int] if self.has_plain else tokens
