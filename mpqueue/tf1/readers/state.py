"""The saved state of a reader: TensorFlow's ``ReaderBaseState`` message of four fields.

Field 1 counts work units that were started, 2 those that were finished, 3 records; 4 is the current work unit. Numbers
that are 0 and an empty text are left out. Unknown fields are skipped, and of a repeated one the last counts, as in
every reader of protobuf. So TensorFlow reads these states, and the other way round. The protobuf library is not needed:
readers do not need it for anything else.
"""

from dataclasses import dataclass

from mpqueue.errors import InvalidArgumentError
from mpqueue.examples.protobuf_wire import to_int64, to_varint, varint

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True)
class ReaderState:
    """The counters of a reader between two work units, and its last one."""

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
        InvalidArgumentError: They are no state, a count is negative, or a work unit was under way.
    """
    values: dict[int, int | bytes] = {}
    try:
        _read_fields(data, values)
    except (KeyError, ValueError):
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
