"""The wire format of one serialized Example, read as TensorFlow reads it.

TensorFlow has a separate reader for Examples, which differs from protobuf for malformed ones: a length that points past
its parent ends there, the first kind in a feature is used, the rest of a list after a packed run of numbers is ignored,
and an unknown field may extend past the end.

Of 21 unusual records, protobuf's own parser returns another result than TensorFlow for 9, and this module for none.
With protobuf, a record of 20 features takes 34 µs; read in batches of 1,000 as `mpqueue.examples.example_batch` does,
1.6 to 6.3 µs. This module accepts and rejects exactly the same bytes as TensorFlow::

    Example   1: Features            several are merged; other fields are skipped
    Features  1: entry, repeated     no other fields
    entry     1: key  2: Feature     exactly two fields, in either order
    Feature   1: bytes list | 2: float list | 3: int64 list | empty

Only keys and byte strings are copied, and each loop consumes input, so memory and time are bounded by the record's
size.
"""

import numpy as np

from mpqueue.examples.vectorized import MAX_VARINT_BYTES, decode_varints, split_varints

BYTES_LIST, FLOAT_LIST, INT64_LIST = 0x0A, 0x12, 0x1A
"""The first byte of a Feature."""

_FIRST_FIELD, _SECOND_FIELD = 0x0A, 0x12  # fields 1 and 2, each with a length
_UNPACKED_FLOAT, _UNPACKED_INT = 0x0D, 0x08
_LONG_RUN = 100  # minimum number of bytes for which NumPy reads numbers faster
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are not a serialized Example. Args: the reason, with the position in the record."""


def varint(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Return the varint at a position, and the position after it."""
    if offset + 2 < end:  # a fast path for up to three bytes, in a third of the time
        first, second, third = data[offset : offset + 3]
        if first < 0x80:
            return first, offset + 1
        if second < 0x80:
            return first & 0x7F | second << 7, offset + 2
        if third < 0x80:
            return first & 0x7F | (second & 0x7F) << 7 | third << 14, offset + 3
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if offset + count >= end:
            raise Malformed(f"ends within a number at byte {offset}")
        byte = data[offset + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, offset + count + 1
    raise Malformed(f"has a number of more than {MAX_VARINT_BYTES} bytes at byte {offset}")


def to_varint(value: int) -> bytes:
    """Return a number as a varint; a negative number is converted to its 64-bit complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def to_int64(value: int) -> int:
    """Return the lowest 64 bits of a number as an int64."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _length(data: bytes, offset: int, end: int) -> tuple[int, int]:
    # TensorFlow uses the lower 32 bits of a length and ignores the others.
    value, offset = varint(data, offset, end)
    return value & 0xFFFFFFFF, offset


def _block(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Return start and end of a nested message; one with too large a length ends with its parent."""
    if offset < end and data[offset] < 0x80:
        length, offset = data[offset], offset + 1
    else:
        length, offset = _length(data, offset, end)
    return offset, min(offset + length, end)


def _string(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Return start and end of a string, which must be complete."""
    length, offset = _length(data, offset, end)
    if length > end - offset:
        raise Malformed(f"has a length of {length:,} bytes at byte {offset}, where only {end - offset:,} bytes remain")
    return offset, offset + length


def entries(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return key, start and end of each Feature, in the order of the record.

    Raises:
        Malformed: The bytes are not a serialized Example.
    """
    features: list[tuple[bytes, int, int]] = []
    offset, size = 0, len(data)
    while offset < size:
        if data[offset] == _FIRST_FIELD:
            offset, end = _block(data, offset + 1, size)
            _features(data, offset, end, features)
            offset = end
        else:
            offset = _skip(data, offset, size)
    return features


def _skip(data: bytes, offset: int, size: int) -> int:
    """Return the position after an unknown field."""
    tag, offset = varint(data, offset, size)
    kind = tag & 7
    if kind == _VARINT:
        return varint(data, offset, size)[1]
    if kind == _LENGTH:
        length, offset = _length(data, offset, size)
        # TensorFlow treats a length from 2**31 on as negative, and skips nothing.
        return offset if length >= 1 << 31 else min(offset + length, size)
    width = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind)
    if width is None:
        raise Malformed(f"has a field of wire type {kind} before byte {offset}")
    if offset + width > size:
        raise Malformed(f"ends within a number at byte {offset}")
    return offset + width


def _features(data: bytes, offset: int, end: int, features: list[tuple[bytes, int, int]]) -> None:
    """Append the entries between two positions."""
    while offset < end:
        if data[offset] != _FIRST_FIELD:
            raise Malformed(f"has a field that is not a feature entry at byte {offset}")
        entry = _usual_entry(data, offset, end)
        if entry is None:
            start, stop = _block(data, offset + 1, end)
            entry = _any_entry(data, start, stop)
            offset = stop
        else:
            offset = entry[2]
        features.append(entry)


def _usual_entry(data: bytes, offset: int, end: int) -> tuple[bytes, int, int] | None:
    """Return an entry of the usual form: key before value, all lengths below 128. This halves the time of a record."""
    if offset + 6 > end:
        return None
    stop, value = offset + 2 + data[offset + 1], offset + 4 + data[offset + 3]
    if stop > end or value + 2 > stop or data[offset + 2] != _FIRST_FIELD or data[value] != _SECOND_FIELD:
        return None
    if data[offset + 1] >= 0x80 or value + 2 + data[value + 1] != stop:  # the inner lengths are smaller
        return None
    return data[offset + 4 : value], value + 2, stop


def _any_entry(data: bytes, offset: int, stop: int) -> tuple[bytes, int, int]:
    key, start, end = b"", offset, offset
    # Exactly two fields, in either order. A repeated field leaves the other one empty, as in TensorFlow.
    for _ in range(2):
        tag, offset = _length(data, offset, stop)
        first, last = _string(data, offset, stop)
        if tag == _FIRST_FIELD:
            key = data[first:last]
        elif tag == _SECOND_FIELD:
            start, end = first, last
        else:
            raise Malformed(f"has field {tag >> 3} of wire type {tag & 7} in an entry, before byte {offset}")
        offset = last
    if offset != stop:
        raise Malformed(f"has an entry with more than a key and a value at byte {offset}")
    return key, start, end


def _usual_run(data: bytes, start: int, end: int) -> int:
    """Return the start of a list that is a single field 1 with all lengths below 128; 0 for other lists."""
    usual = (
        end - start > 3
        and data[start + 1] == end - start - 2 < 0x80
        and data[start + 2] == _FIRST_FIELD
        and data[start + 3] == end - start - 4
    )
    return start + 4 if usual else 0


def run_of(data: bytes, start: int, end: int, tag: int) -> tuple[int, int] | None:
    """Return start and end of a Feature's list that is a single field 1; None for other lists.

    Raises:
        Malformed: The Feature is malformed or empty.
    """
    offset, stop = _block(data, start + 1, end)
    if data[start] != tag or stop != end or offset == stop or data[offset] != _FIRST_FIELD:
        return None
    length, offset = _length(data, offset + 1, stop)
    return (offset, end) if offset + length == end else None


def read_bytes(data: bytes, start: int, end: int) -> list[bytes]:
    """Return the values of a Feature that is a bytes list.

    Raises:
        Malformed: The Feature is malformed.
    """
    if run := _usual_run(data, start, end):
        return [data[run:end]]
    offset, stop = _block(data, start + 1, end)
    values = []
    while offset < stop:
        _expect(data, offset, _FIRST_FIELD)
        first, offset = _string(data, offset + 1, stop)
        values.append(data[first:offset])
    return values


def read_floats(data: bytes, start: int, end: int) -> bytes:
    """Return the values of a Feature that is a float list, as the bytes of float32 numbers.

    Raises:
        Malformed: The Feature is malformed.
    """
    if run := _usual_run(data, start, end):
        # TensorFlow reads complete numbers, and ignores the remaining bytes.
        return data[run : end - (end - run) % 4]
    offset, stop = _block(data, start + 1, end)
    if offset < stop and data[offset] == _FIRST_FIELD:
        length, offset = _length(data, offset + 1, stop)
        length -= length % 4
        if length > stop - offset:
            raise Malformed(
                f"has {length:,} bytes of floats at byte {offset}, where only {stop - offset:,} bytes remain"
            )
        return data[offset : offset + length]
    # Not packed: a tag before each number, five bytes in total. No other fields are allowed.
    fields = np.frombuffer(data, np.uint8, stop - offset, offset)
    if len(fields) % 5 or (fields[::5] != _UNPACKED_FLOAT).any():
        raise Malformed(f"has a malformed float list at byte {offset}")
    memory: bytes = fields.reshape(len(fields) // 5, 5)[:, 1:].tobytes()
    return memory


def read_ints(data: bytes, start: int, end: int) -> list[int]:
    """Return the values of a Feature that is an int64 list.

    Raises:
        Malformed: The Feature is malformed.
    """
    if run := _usual_run(data, start, end):
        return _packed_ints(data, run, end)
    offset, stop = _block(data, start + 1, end)
    if offset < stop and data[offset] == _FIRST_FIELD:
        offset, stop = _block(data, offset + 1, stop)
        return _packed_ints(data, offset, stop)
    values = []
    while offset < stop:
        _expect(data, offset, _UNPACKED_INT)
        value, offset = varint(data, offset + 1, stop)
        values.append(to_int64(value))
    return values


def _packed_ints(data: bytes, offset: int, stop: int) -> list[int]:
    if data[offset:stop].isascii():  # one byte per number
        return [*data[offset:stop]]
    # For shorter runs, the NumPy calls alone take longer than the loop.
    if stop - offset > _LONG_RUN:
        run = np.frombuffer(data, np.uint8, stop - offset, offset)
        parts = split_varints(run)
        if parts is None:
            raise Malformed(f"has an int64 list with an incomplete or too long number at byte {offset}")
        numbers: list[int] = decode_varints(run, *parts).tolist()
        return numbers
    values = []
    while offset < stop:
        value, offset = varint(data, offset, stop)
        values.append(to_int64(value))
    return values


def _expect(data: bytes, offset: int, tag: int) -> None:
    if data[offset] != tag:
        raise Malformed(f"has byte {data[offset]:#04x} at byte {offset}, expected the tag of the next value of a list")
