"""Enqueue ops for pipelines of examples that process many records at once.

    the queue has room for n ──► read 1 to n records ──► compute their examples together ──► enqueue them together

The observable behaviour is the same as record by record:

* There are never more examples in flight than the queue has room for, and one if it has no room. The reader is
  therefore not further ahead than record by record, and a full queue blocks its thread with one example computed.
* If a record is invalid, or the examples cannot be computed together, the first record is enqueued alone. The other
  records are returned to the reader and read one by one. The examples before the invalid record are enqueued, and then
  its error is raised.
* A run ends at the latest where the reader ends a file, or a block of a file.
* Before the examples are enqueued, the coordinator is checked once more. If it has stopped, only the first example is
  enqueued, as the one that would have been in flight. The other records are returned to the reader.
* Records are returned before the op waits for room. Until then, the input does not end for other threads of the reader
  (see `mpqueue.tf1.readers.file_records`), so that no record is returned to a reader that all threads have left.

`mpqueue.tf1.runs.length` determines the length of runs. If runs fail repeatedly although no record is invalid, the op
processes record by record from then on.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.remote import RemoteQueue
from mpqueue.tf1.readers.base import Record
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.runs.length import RunLength
from mpqueue.tf1.runs.rows import Array, Rows, Value, spread

_MAX_FAILURES: Final = 3  # in a row

Queue: TypeAlias = QueueCore | RemoteQueue


class RecordPipeline(Protocol):
    """The operations on records that a `RecordRuns` calls, in one thread."""

    @property
    def reader(self) -> FileRecordReader:
        """The reader."""

    @property
    def queue(self) -> Queue:
        """The queue for the examples."""

    def read(self, num_records: int) -> list[Record]:
        """Return the next records: at least one, at most ``num_records``."""

    def examples(self, records: Sequence[Record]) -> list[Value]:
        """Return the components of the examples of some records; raise an error if they cannot be computed together."""

    def carry_out(self, record: Record) -> None:
        """Compute the example of one record, and enqueue it."""

    def put(self, examples: list[Value], count: int) -> None:
        """Enqueue the examples of ``count`` records with `enqueue`."""


class RecordRuns:
    """The runs of one op.

    Args:
        should_stop: Returns whether the coordinator has stopped.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._length = RunLength()
        self._num_alone = 0  # number of next records to process one by one
        self._num_failures = 0

    @property
    def is_disabled(self) -> bool:
        """True if the op should process all further records one by one."""
        return self._num_failures >= _MAX_FAILURES

    def next(self, pipeline: RecordPipeline) -> None:
        """Enqueue the examples of the next records, at least one.

        Raises:
            Exception: An error of a method of the pipeline.
        """
        queue, is_alone = pipeline.queue, self._num_alone > 0
        self._num_alone -= is_alone
        room = queue.set_aside(1 if is_alone else self._length.wanted)
        queue.release(room)  # reading may block on a file, and other threads need the room in the meantime
        records = pipeline.read(max(1, room))
        began = time.thread_time()
        num_kept = kept = 0
        try:
            kept = queue.set_aside(len(records))  # less than before if another thread was faster
            examples, num_kept = self._examples(pipeline, records[: max(1, kept)])
        finally:
            pipeline.reader.end_run(records[num_kept:])
        try:
            if examples is None:
                pipeline.carry_out(records[0])
            else:
                pipeline.put(examples, num_kept)
        finally:
            queue.release(kept)
        if not is_alone and not self._num_alone:
            self._length.note(num_kept, sum(len(value) for _, value in records[:num_kept]), time.thread_time() - began)

    def _examples(self, pipeline: RecordPipeline, records: list[Record]) -> tuple[list[Value] | None, int]:
        """Return the examples to enqueue together and their number; None and 1 if the first record goes alone."""
        if len(records) == 1:
            return None, 1
        try:
            examples = pipeline.examples(records)
            _check(pipeline.queue, examples, len(records))
        except Exception:
            self._num_failures += 1
            self._num_alone = len(records) - 1
            return None, 1
        self._num_failures = 0
        return (None, 1) if self._should_stop() else (examples, len(records))


def _check(queue: Queue, examples: list[Value], count: int) -> None:
    """Raise an error unless the queue accepts all examples."""
    stacked, rows = _columns(examples, count)
    if stacked is not None:
        queue.spec.check_many(stacked)
        return
    for example in zip(*rows, strict=True):
        queue.spec.check(example)


def _columns(examples: list[Value], count: int) -> tuple[list[Array] | None, list[Rows]]:
    """Return the components as rows, and as one array each; None instead of the arrays if one is a list."""
    rows = [spread(each, count) for each in examples]
    stacked = [each.stacked for each in rows if each.stacked is not None]
    return stacked if len(stacked) == len(rows) else None, rows


def enqueue(queue: Queue, examples: list[Value], count: int) -> None:
    """Enqueue the examples of ``count`` records."""
    stacked, rows = _columns(examples, count)
    if stacked is not None:
        queue.enqueue_many(stacked, None)
        return
    for example in zip(*rows, strict=True):
        queue.enqueue(list(example), None)
