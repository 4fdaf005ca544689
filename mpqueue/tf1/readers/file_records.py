"""Base class of readers whose work units are files with numbered records; the key is ``path:number``.

A thread can take many records at once, as a *run*, and return the last ones unread. The next reads return them first.

    read_run ──► the run is open: the thread may return some of its records ──► end_run(rest)

A thread holds the reader's lock while it waits for a file, for an unlimited time. So a run ends without this lock: its
rest is stored in ``_rest``. The next run takes it from there at once, even while another thread waits for a file. A
read that holds the reader's lock first moves it to ``_next``.

The end of the input is only final when no run is open, because returned records must still be read. A thread that
reaches the end waits for the other threads' runs. This takes as long as the decoding of a run, since a thread with an
open run does not wait.
"""

import contextlib
import threading
from typing import Any, Protocol

from mpqueue.errors import DeadlineExceededError, OutOfRangeError
from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.readers.base import ReaderBase, Record, Turn, WorkQueue

DEFAULT_MAX_RECORD_BYTES = 1 << 30


class RecordSource(Protocol):
    """One open file. One reader calls it, under the reader's lock. The constructor opens the file."""

    def take(self, num_records: int) -> tuple[list[int], list[bytes]]:
        """Return the numbers and contents of 1 to ``num_records`` next records; empty lists at the end.

        After an error, the next call raises the error again.
        """

    def close(self) -> None:
        """Close the file."""


class FileRecordReader(ReaderBase):
    """Base class of readers of files. A subclass opens a file as a `RecordSource`."""

    def __init__(self) -> None:
        super().__init__()
        self._source: RecordSource | None = None
        self._key = b""  # of the current file, with %d for the number

    def _clear(self) -> None:
        super()._clear()
        self._next: list[Record] = []  # returned by runs, to be read next
        self._hand = Lock()  # protects the following attributes, for a few operations at a time
        self._rest: list[Record] = []  # returned by runs, and not yet moved to `_next`
        self._running: set[threading.Thread] = set()  # threads with an open run
        self._gates: list[threading.Lock] = []  # locks of threads that wait for the end of a run

    def _open(self, name: bytes) -> RecordSource:
        raise NotImplementedError

    def _on_work_start(self, work: bytes) -> None:
        self._source = self._open(work)
        self._key = work.replace(b"%", b"%%") + b":%d"

    def _read(self) -> Record | None:
        records = self._read_some(1)
        return records[0] if records else None

    def read_run(self, queue: WorkQueue, num_records: int) -> list[Record]:
        """Return 1 to ``num_records`` next records, like as many calls of `read`; for internal use.

        Like `read`, it does not check for the end of the file after the last record. The thread must call `end_run`
        when it knows whether it uses all records, and before it waits.

        Args:
            queue: A queue with one string component.
            num_records: Maximum number of records.

        Raises:
            OpError: No record can be read. `read` would raise the same error.
        """
        with self._hand:
            # Returned records first, without the reader's lock, which another thread may hold for a whole file.
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
        """End this thread's run and return its unused records; for internal use.

        Args:
            rest: The last records of the run, in order.
        """
        with self._hand:
            self._rest[:0] = rest
            self._running.discard(threading.current_thread())
            gates, self._gates = self._gates, []
        for gate in gates:  # threads that have reached the end of the input must check again
            gate.release()
        # Another process's counts must also be correct if it reads no more.
        if rest:
            with contextlib.suppress(DeadlineExceededError), self._lock.waking, Turn(self._lock, 0.0):
                self._take_back()

    def num_records_produced(self, name: str | None = None) -> int:
        """Return the number of records read since the creation, reset or restore of the reader, including copies."""
        return super().num_records_produced(name) - len(self._rest)

    def _start_work(self, queue: WorkQueue, turn: Turn) -> None:
        self._take_back()
        while not self._next:
            if not self._is_working:
                self._work = b""
            try:
                super()._start_work(queue, turn)
            except OutOfRangeError:
                # With a unit, it is an error of its file, such as a missing header. Otherwise the queue is exhausted.
                if self._work or not self._awaits_run(turn):
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
        """Wait until another thread ends its run; return False if no record can be returned any longer."""
        with self._hand:
            # After a fork, the parent's threads do not exist in the child.
            others = [each for each in self._running if each is not threading.current_thread() and each.is_alive()]
            if self._rest or not others:
                return bool(self._rest)
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        if not gate.acquire(timeout=turn.left() if turn.has_deadline else -1):
            raise DeadlineExceededError(None, None, "Another thread was decoding its records until the timeout.")
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
    """Return ``value`` if it is at least 1.

    Raises:
        TypeError: ``value`` is not an integer.
        ValueError: ``value`` is less than 1.
    """
    if as_integer(value, what) < 1:
        raise ValueError(f"{what} must be at least 1, got {value}.")
    return value
