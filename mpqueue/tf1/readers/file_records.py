"""The base of readers whose work units are files of numbered records; the key is ``path:number``.

Many records may be taken at once, as a *run*, and the last of them given back: the next reads return those first.

    read_run ──► the run is open: some of its records may come back ──► end_run(rest)

A thread holds the reader's lock while it waits for a file, and nobody can tell for how long. So a run ends without that
lock: its rest lies in ``_rest``, from where the next run of any thread takes it at once, also while another thread
waits for a file. Whoever reads with the lock moves it to ``_next`` first.

The end of the input is one only when no run is open, since what comes back is to be read by those that are still there:
a thread that meets the end before waits until the runs of the others have ended. That takes as long as the decoding of
a run: whoever has one open waits for nobody.
"""

import contextlib
import threading
from typing import Any, Protocol

from mpqueue.errors import DeadlineExceededError, OutOfRangeError
from mpqueue.system.locks import Lock
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

    def _clear(self) -> None:
        super()._clear()
        self._next: list[Record] = []  # were given back, and not read again
        self._hand = Lock()  # for what follows, for a few steps at a time
        self._rest: list[Record] = []  # were given back since
        self._running: set[threading.Thread] = set()  # have a run open
        self._gates: list[threading.Lock] = []  # of threads that wait for the end of a run

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

        The end of a file is not looked for behind them, as `read` does not look for it. The thread calls `end_run` as
        soon as it knows whether it keeps them all, and before it waits for anything.

        Args:
            queue: A queue of one string component.
            num_records: The most records wanted.

        Raises:
            OpError: Not even one can be read; `read` would raise the same.
        """
        with self._hand:
            # What came back comes first, and without the reader's lock, which another thread may hold for a whole file.
            if self._rest:
                some, self._rest = self._rest[:num_records], self._rest[num_records:]
                self._running.add(threading.current_thread())
                return some
        with self._lock.waking, Turn(self._lock, None) as turn:
            while True:
                self._start_work(queue, turn)
                some = self._read_some(num_records)
                self._count(len(some), is_end=not some)
                if some:
                    with self._hand:
                        self._running.add(threading.current_thread())
                    return some

    def end_run(self, rest: list[Record]) -> None:
        """End the run of this thread: some of its records count as not read; for the library itself.

        Args:
            rest: The last ones, in their order.
        """
        with self._hand:
            self._rest[:0] = rest
            self._running.discard(threading.current_thread())
            gates, self._gates = self._gates, []
        for gate in gates:  # those that met the end of the input look again
            gate.release()
        if rest:  # so that the counts of another process are right if it reads no more
            with contextlib.suppress(DeadlineExceededError), self._lock.waking, Turn(self._lock, 0.0):
                self._take_back()

    def num_records_produced(self, name: str | None = None) -> int:
        """Return how many records were read since the reader was made, reset or restored, by copies as well."""
        return super().num_records_produced(name) - len(self._rest)

    def _start_work(self, queue: WorkQueue, turn: Turn) -> None:
        self._take_back()
        while not self._next:
            try:
                super()._start_work(queue, turn)
            except OutOfRangeError:
                if not self._awaits_run(turn):
                    raise
                self._take_back()
            else:
                return

    def _take_back(self) -> None:
        if self._rest:
            with self._hand:
                rest, self._rest = self._rest, []
            self._next[:0] = rest
            self._count(-len(rest), is_end=False)

    def _awaits_run(self, turn: Turn) -> bool:
        """Wait until another thread ends its run, if one has a run open; False if no record can come back any more."""
        with self._hand:
            # A thread that has forked has left the others behind: they do not live here.
            others = [each for each in self._running if each is not threading.current_thread() and each.is_alive()]
            if self._rest or not others:
                return bool(self._rest)
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        if not gate.acquire(timeout=turn.left() if turn.has_deadline else -1):
            raise DeadlineExceededError(None, None, "another thread had not decoded its records before the timeout")
        return True

    def _read_some(self, num_records: int) -> list[Record]:
        if self._next:
            some, self._next = self._next[:num_records], self._next[num_records:]
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
        self._take_back()
        self._next = []
        super()._reset()

    def __getstate__(self) -> dict[str, Any]:
        transient = {"_next", "_hand", "_rest", "_running", "_gates"}
        state = super().__getstate__() | {"_source": None}
        return {key: value for key, value in state.items() if key not in transient}


def positive_bytes(value: int, what: str) -> int:
    """Return ``value`` if it is a number of bytes above 0.

    Raises:
        ValueError: It is not.
    """
    if value < 1:
        raise ValueError(f"{what} must be 1 or more, got {value}")
    return value
