"""The saved state of a reader: TensorFlow's ``ReaderBaseState`` message with four fields.

Field 1 is the number of started work units, 2 the number of finished ones, 3 the number of records, 4 the current work
unit. Fields that are 0 or empty are omitted. As in each protobuf parser, unknown fields are skipped, and the last value
of a repeated field counts. So TensorFlow can read these states, and vice versa. This module does not use the protobuf
library, because readers do not need it otherwise.
"""

from dataclasses import dataclass

from mpqueue.errors import InvalidArgumentError
from mpqueue.examples.protobuf_wire import to_int64, to_varint, varint

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True)
class ReaderState:
    """The counters of a reader between two work units, and its last work unit."""

    work_started: int = 0
    work_finished: int = 0
    num_records_produced: int = 0
    current_work: bytes = b""


def encode(state: ReaderState) -> bytes:
    """Serialize a state."""
    numbers = (state.work_started, state.work_finished, state.num_records_produced)
    fields = [bytes([place << 3]) + to_varint(number) for place, number in enumerate(numbers, 1) if number]
    if state.current_work:
        fields.append(b"\x22" + to_varint(len(state.current_work)) + state.current_work)
    return b"".join(fields)


def decode(data: bytes) -> ReaderState:
    """Parse a serialized state.

    Raises:
        TypeError: The data is not bytes.
        InvalidArgumentError: The data is not a state, a count is negative, or a work unit was unfinished.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"state must be the bytes of serialize_state, got {data!r}.")
    values: dict[int, int | bytes] = {}
    try:
        _read_fields(data, values)
    except (KeyError, ValueError):
        raise _invalid(data, "it is not a saved state") from None
    numbers = [values.get(field, 0) for field in (1, 2, 3)]
    work = values.get(4, b"")
    if not isinstance(work, bytes) or not all(isinstance(number, int) for number in numbers):
        raise _invalid(data, "a field has the wrong type")
    started, finished, produced = (int(number) for number in numbers)
    if min(started, finished, produced) < 0 or started > finished:
        raise _invalid(data, f"invalid counts: {started} work units started, {finished} finished, {produced} records")
    return ReaderState(started, finished, produced, work)


def _invalid(data: bytes, why: str) -> InvalidArgumentError:
    start = data[:40] + b"..." * (len(data) > 40)
    return InvalidArgumentError(None, None, f"Cannot restore a reader from {start!r}: {why}.")


def _read_fields(data: bytes, values: dict[int, int | bytes]) -> None:
    at = 0
    while at < len(data):
        tag, at = varint(data, at, len(data))
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise ValueError(tag)
        if kind == _VARINT:
            number, at = varint(data, at, len(data))
            values[field] = to_int64(number)
            continue
        if kind == _LENGTH:
            size, at = varint(data, at, len(data))
        else:
            size = _FIXED_BYTES[kind]
        if at + size > len(data):
            raise ValueError(size)
        values[field] = data[at : at + size]
        at += size
