"""The base of readers whose work units are files of numbered records; the key is ``path:number``."""

from typing import Any, Protocol

from mpqueue.readers.base import ReaderBase, Record

DEFAULT_MAX_RECORD_BYTES = 1 << 30


class RecordSource(Protocol):
    """One file under way. Called by one reader, under its lock; opened by its constructor."""

    def take(self, num_records: int) -> tuple[list[int], list[bytes]]:
        """Return numbers and contents of the next records, one to ``num_records``; none at the end.

        After an error the next call raises it again.
        """

    def close(self) -> None:
        """Close the file."""


class FileRecordReader(ReaderBase):
    """The base of readers of files; a subclass opens a file as a `RecordSource`."""

    def __init__(self) -> None:
        super().__init__()
        self._source: RecordSource | None = None
        self._key = b""  # of the file under way, with %d for the number

    def _open(self, name: bytes) -> RecordSource:
        raise NotImplementedError

    def _on_work_start(self, work: bytes) -> None:
        self._source = self._open(work)
        self._key = work.replace(b"%", b"%%") + b":%d"

    def _read(self) -> Record | None:
        records = self._read_some(1)
        return records[0] if records else None

    def _read_some(self, num_records: int) -> list[Record]:
        assert self._source is not None
        numbers, values = self._source.take(num_records)
        key = self._key
        return [(key % number, value) for number, value in zip(numbers, values, strict=True)]

    def _on_work_finish(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_source": None}


def positive_bytes(value: int, what: str) -> int:
    """Return ``value`` if it is a number of bytes above 0.

    Raises:
        ValueError: It is not.
    """
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, got {value}")
    return value
