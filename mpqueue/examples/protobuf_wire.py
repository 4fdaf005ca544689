"""The wire format of one serialized Example, read as TensorFlow reads it.

TensorFlow has a reader of its own for Examples, and reads malformed ones otherwise than protobuf does: a length that
points beyond its parent ends there, a feature has the kind that comes first in it, after a packed run of numbers the
rest of a list is ignored, an unknown field may run over the end. This module reads what TensorFlow reads and refuses
what it refuses, byte by byte::

    Example   1: Features            several are merged; other fields are skipped
    Features  1: entry, repeated     nothing else
    entry     1: key  2: Feature     exactly two fields, in either order
    Feature   1: bytes list | 2: float list | 3: int64 list | nothing

Only keys and byte strings are copied, and every loop consumes input: memory and time are bounded by the record's size.
"""

import numpy as np

from mpqueue.examples.vectorized import MAX_VARINT_BYTES, decode_varints, split_varints

BYTES_LIST, FLOAT_LIST, INT64_LIST = 0x0A, 0x12, 0x1A
"""The first byte of a Feature."""

_FIRST_FIELD, _SECOND_FIELD = 0x0A, 0x12  # field 1 and 2, each with a length
_UNPACKED_FLOAT, _UNPACKED_INT = 0x0D, 0x08
_LONG_RUN = 100  # bytes from which NumPy reads numbers faster
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are no Example. Args: the reason, with the place in the record."""


def varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Read the varint at a place; return it, and the place after it."""
    if place + 2 < end:  # most have three bytes at most, and this takes a third of the time
        first, second, third = data[place : place + 3]
        if first < 0x80:
            return first, place + 1
        if second < 0x80:
            return first & 0x7F | second << 7, place + 2
        if third < 0x80:
            return first & 0x7F | (second & 0x7F) << 7 | third << 14, place + 3
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if place + count >= end:
            raise Malformed(f"ends within a number at byte {place}")
        byte = data[place + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise Malformed(f"has a number of more than {MAX_VARINT_BYTES} bytes at byte {place}")


def to_varint(value: int) -> bytes:
    """Write a number as a varint; a negative one as the 64 bits of its complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def to_int64(value: int) -> int:
    """Return the int64 whose bits are the lowest 64 of a number."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _length(data: bytes, place: int, end: int) -> tuple[int, int]:
    # TensorFlow keeps the lower 32 bits of a length, whatever is above them.
    value, place = varint(data, place, end)
    return value & 0xFFFFFFFF, place


def _block(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Find start and end of a nested message; one that claims too many bytes ends with its parent."""
    if place < end and data[place] < 0x80:
        length, place = data[place], place + 1
    else:
        length, place = _length(data, place, end)
    return place, min(place + length, end)


def _string(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Find start and end of a string, which must be there in full."""
    length, place = _length(data, place, end)
    if length > end - place:
        raise Malformed(f"claims {length:,} bytes at byte {place}, where {end - place:,} are left")
    return place, place + length


def entries(data: bytes) -> list[tuple[bytes, int, int]]:
    """Find key, start and end of each Feature, in the order of the record.

    Raises:
        Malformed: It is no Example.
    """
    found: list[tuple[bytes, int, int]] = []
    place, size = 0, len(data)
    while place < size:
        if data[place] == _FIRST_FIELD:
            place, end = _block(data, place + 1, size)
            _features(data, place, end, found)
            place = end
        else:
            place = _skip(data, place, size)
    return found


def _skip(data: bytes, place: int, size: int) -> int:
    """Return the place after a field that no Example has."""
    tag, place = varint(data, place, size)
    kind = tag & 7
    if kind == _VARINT:
        return varint(data, place, size)[1]
    if kind == _LENGTH:
        length, place = _length(data, place, size)
        # TensorFlow takes a length from 2**31 on for a negative one, and skips nothing.
        return place if length >= 1 << 31 else min(place + length, size)
    width = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind)
    if width is None:
        raise Malformed(f"has a field of wire type {kind} before byte {place}")
    if place + width > size:
        raise Malformed(f"ends within a number at byte {place}")
    return place + width


def _features(data: bytes, place: int, end: int, found: list[tuple[bytes, int, int]]) -> None:
    """Add the entries between two places."""
    while place < end:
        if data[place] != _FIRST_FIELD:
            raise Malformed(f"has no entry of a feature at byte {place}")
        usual = _usual_entry(data, place, end)
        if usual is None:
            start, stop = _block(data, place + 1, end)
            usual = _any_entry(data, start, stop)
            place = stop
        else:
            place = usual[2]
        found.append(usual)


def _usual_entry(data: bytes, place: int, end: int) -> tuple[bytes, int, int] | None:
    """Read an entry of the usual form, key before value and all lengths below 128: this halves the time of a record."""
    if place + 6 > end:
        return None
    stop, value = place + 2 + data[place + 1], place + 4 + data[place + 3]
    if stop > end or value + 2 > stop or data[place + 2] != _FIRST_FIELD or data[value] != _SECOND_FIELD:
        return None
    if data[place + 1] >= 0x80 or value + 2 + data[value + 1] != stop:  # the lengths inside are smaller
        return None
    return data[place + 4 : value], value + 2, stop


def _any_entry(data: bytes, place: int, stop: int) -> tuple[bytes, int, int]:
    key, start, end = b"", place, place
    # Just two fields, in either order; the same one twice leaves the other empty, as in TensorFlow.
    for _ in range(2):
        tag, place = _length(data, place, stop)
        first, last = _string(data, place, stop)
        if tag == _FIRST_FIELD:
            key = data[first:last]
        elif tag == _SECOND_FIELD:
            start, end = first, last
        else:
            raise Malformed(f"has field {tag >> 3} of wire type {tag & 7} in an entry, before byte {place}")
        place = last
    if place != stop:
        raise Malformed(f"has an entry of more than a key and a value at byte {place}")
    return key, start, end


def _usual_run(data: bytes, start: int, end: int) -> int:
    """Find the bytes of a list that is one field 1 to its end, with all lengths below 128; 0 if it is another."""
    usual = (
        end - start > 3
        and data[start + 1] == end - start - 2 < 0x80
        and data[start + 2] == _FIRST_FIELD
        and data[start + 3] == end - start - 4
    )
    return start + 4 if usual else 0


def run_of(data: bytes, start: int, end: int, tag: int) -> tuple[int, int] | None:
    """Find the bytes of a Feature that is a list of one field 1 to its end; None if it is another.

    Raises:
        Malformed: It is malformed, or empty.
    """
    place, stop = _block(data, start + 1, end)
    if data[start] != tag or stop != end or place == stop or data[place] != _FIRST_FIELD:
        return None
    length, place = _length(data, place + 1, stop)
    return (place, end) if place + length == end else None


def read_bytes(data: bytes, start: int, end: int) -> list[bytes]:
    """Read the values of a Feature that is a bytes list.

    Raises:
        Malformed: It is malformed.
    """
    if run := _usual_run(data, start, end):
        return [data[run:end]]
    place, stop = _block(data, start + 1, end)
    values = []
    while place < stop:
        _expect(data, place, _FIRST_FIELD)
        first, place = _string(data, place + 1, stop)
        values.append(data[first:place])
    return values


def read_floats(data: bytes, start: int, end: int) -> bytes:
    """Read the values of a Feature that is a float list, as the memory of float32 numbers.

    Raises:
        Malformed: It is malformed.
    """
    if run := _usual_run(data, start, end):
        # TensorFlow reads whole numbers, and ignores what is left.
        return data[run : end - (end - run) % 4]
    place, stop = _block(data, start + 1, end)
    if place < stop and data[place] == _FIRST_FIELD:
        length, place = _length(data, place + 1, stop)
        length -= length % 4
        if length > stop - place:
            raise Malformed(f"claims {length:,} bytes of floats at byte {place}, where {stop - place:,} are left")
        return data[place : place + length]
    # Not packed: a tag before each number, five bytes in all. Nothing else may stand between them.
    fields = np.frombuffer(data, np.uint8, stop - place, place)
    if len(fields) % 5 or (fields[::5] != _UNPACKED_FLOAT).any():
        raise Malformed(f"has a float list that is no list of floats at byte {place}")
    memory: bytes = fields.reshape(len(fields) // 5, 5)[:, 1:].tobytes()
    return memory


def read_ints(data: bytes, start: int, end: int) -> list[int]:
    """Read the values of a Feature that is an int64 list.

    Raises:
        Malformed: It is malformed.
    """
    if run := _usual_run(data, start, end):
        return _packed_ints(data, run, end)
    place, stop = _block(data, start + 1, end)
    if place < stop and data[place] == _FIRST_FIELD:
        place, stop = _block(data, place + 1, stop)
        return _packed_ints(data, place, stop)
    values = []
    while place < stop:
        _expect(data, place, _UNPACKED_INT)
        value, place = varint(data, place + 1, stop)
        values.append(to_int64(value))
    return values


def _packed_ints(data: bytes, place: int, stop: int) -> list[int]:
    if data[place:stop].isascii():  # a byte each
        return [*data[place:stop]]
    # Below, the calls of NumPy alone take longer than the loop.
    if stop - place > _LONG_RUN:
        run = np.frombuffer(data, np.uint8, stop - place, place)
        parts = split_varints(run)
        if parts is None:
            raise Malformed(f"has an int64 list whose numbers do not fill it at byte {place}")
        numbers: list[int] = decode_varints(run, *parts).tolist()
        return numbers
    values = []
    while place < stop:
        value, place = varint(data, place, stop)
        values.append(to_int64(value))
    return values


def _expect(data: bytes, place: int, tag: int) -> None:
    if data[place] != tag:
        raise Malformed(f"has byte {data[place]:#04x} where the next value of a list was expected, at byte {place}")
