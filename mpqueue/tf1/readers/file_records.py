"""The base of readers whose work units are files of numbered records; the key is ``path:number``.

Many records may be taken at once, and the last of them given back: the next reads return those first.
"""

from typing import Any, Protocol

from mpqueue.tf1.readers.base import ReaderBase, Record, Turn, WorkQueue

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
        self._returned: list[Record] = []

    def _open(self, name: bytes) -> RecordSource:
        raise NotImplementedError

    def _on_work_start(self, work: bytes) -> None:
        self._source = self._open(work)
        self._key = work.replace(b"%", b"%%") + b":%d"

    def _read(self) -> Record | None:
        records = self._read_some(1)
        return records[0] if records else None

    def read_run(self, queue: WorkQueue, num_records: int) -> list[Record]:
        """Return one to ``num_records`` next records, as so many calls of `read` would; for the library itself.

        The end of a file is not looked for behind them, as `read` does not look for it.

        Args:
            queue: A queue of one string component.
            num_records: The most records wanted.

        Raises:
            OpError: Not even one can be read; `read` would raise the same.
        """
        with Turn(self._lock, None) as turn:
            while True:
                self._start_work(queue, turn)
                some = self._read_some(num_records)
                self._count(len(some), is_end=not some)
                if some:
                    return some

    def unread(self, records: list[Record]) -> None:
        """Take back the last records of a `read_run`, as if they had not been read; for the library itself.

        Args:
            records: The last ones, in their order.
        """
        with Turn(self._lock, None):
            self._returned[:0] = records
            self._count(-len(records), is_end=False)

    def _read_some(self, num_records: int) -> list[Record]:
        if self._returned:
            some, self._returned = self._returned[:num_records], self._returned[num_records:]
            return some
        assert self._source is not None
        numbers, values = self._source.take(num_records)
        key = self._key
        return [(key % number, value) for number, value in zip(numbers, values, strict=True)]

    def _on_work_finish(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _reset(self) -> None:
        self._returned = []
        super()._reset()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_source": None, "_returned": []}


def positive_bytes(value: int, what: str) -> int:
    """Return ``value`` if it is a number of bytes above 0.

    Raises:
        ValueError: It is not.
    """
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, got {value}")
    return value
