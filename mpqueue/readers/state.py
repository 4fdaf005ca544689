"""The saved state of a reader: TensorFlow's ``ReaderBaseState`` message, four fields, written by hand.

Field 1 counts work units that were started, 2 those that were finished, 3 records; 4 is the current work unit. Numbers
that are 0 and an empty text are left out. Unknown fields are skipped, and of a repeated one the last holds, as in
every protobuf reader; so states travel between TensorFlow and here, and the reader that needs none of the protobuf
library for its files needs none for its state.
"""

from dataclasses import dataclass

from mpqueue.errors import InvalidArgumentError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True)
class ReaderState:
    """Where a reader was between two work units."""

    work_started: int = 0
    work_finished: int = 0
    num_records_produced: int = 0
    current_work: bytes = b""


def encode(state: ReaderState) -> bytes:
    """The bytes of a state."""
    numbers = (state.work_started, state.work_finished, state.num_records_produced)
    fields = [bytes([place << 3]) + _varint(number) for place, number in enumerate(numbers, 1) if number]
    if state.current_work:
        fields.append(b"\x22" + _varint(len(state.current_work)) + state.current_work)
    return b"".join(fields)


def decode(data: bytes) -> ReaderState:
    """The state in some bytes.

    Raises:
        InvalidArgumentError: They are no state, a count is negative, or a work unit was under way.
    """
    values: dict[int, int | bytes] = {}
    try:
        _read_fields(data, values)
    except (IndexError, ValueError):
        raise _invalid(data, "they are no saved state") from None
    numbers = [values.get(field, 0) for field in (1, 2, 3)]
    work = values.get(4, b"")
    if not isinstance(work, bytes) or not all(isinstance(number, int) for number in numbers):
        raise _invalid(data, "a field has the wrong type")
    started, finished, produced = (int(number) for number in numbers)
    if min(started, finished, produced) < 0 or started > finished:
        raise _invalid(data, f"{started} work units started, {finished} finished, {produced} records cannot be")
    return ReaderState(started, finished, produced, work)


def _invalid(data: bytes, why: str) -> InvalidArgumentError:
    start = data[:40] + b"..." * (len(data) > 40)
    return InvalidArgumentError(None, None, f"cannot restore a reader from {start!r}: {why}")


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def _read_fields(data: bytes, values: dict[int, int | bytes]) -> None:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise ValueError(tag)
        if kind == _VARINT:
            number, at = _read_varint(data, at)
            values[field] = number - (1 << 64) if number >> 63 else number
        else:
            size, at = (_FIXED_BYTES[kind], at) if kind in _FIXED_BYTES else _read_size(data, at, kind)
            if at + size > len(data):
                raise ValueError(size)
            values[field] = data[at : at + size]
            at += size


def _read_size(data: bytes, at: int, kind: int) -> tuple[int, int]:
    if kind != _LENGTH:
        raise ValueError(kind)
    return _read_varint(data, at)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        number |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return number & (1 << 64) - 1, at + place + 1
    raise ValueError(data[at])
