"""Enqueue operations of pipelines of examples, carried out for many records at once.

    the queue has room for n ──► read 1 to n records ──► one example of each, together ──► enqueue them together

What can be seen of it is what can be seen record by record:

* There are never more examples under way than the queue has room for, and one if it has none: so the reader is as far
  ahead as before, and a full queue makes its thread wait with one example in hand.
* Where a record is wrong, or the examples cannot be computed together, the run is carried out record by record. The
  examples before the wrong one go in, its error is raised, and the records behind it are given back to the reader.
* A run ends where the reader ends a file, or a block of it, at the latest.
* Before the examples go in, the coordinator is asked once more. If it has stopped, just the first of them goes in, as
  the one that would have been under way; the other records are given back.

How long runs are is `mpqueue.runs.length`'s matter. Where runs fail again and again, although no record is wrong, the
operation is carried out record by record from then on.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np

from mpqueue.compat.functions.readers import Units
from mpqueue.compat.graph import Tensor
from mpqueue.compat.graph.records import RecordPlan
from mpqueue.compat.graph.run import Run, Slots
from mpqueue.compat.graph.state import held
from mpqueue.queues.core import QueueCore
from mpqueue.queues.remote import RemoteQueue
from mpqueue.readers.base import Record
from mpqueue.readers.file_records import FileRecordReader
from mpqueue.runs.length import RunLength
from mpqueue.runs.rows import Value, spread

_MAX_FAILURES: Final = 3  # in a row

Queue = QueueCore | RemoteQueue


Running = Callable[[], AbstractContextManager[Run]]


class RecordRuns:
    """An enqueue operation that is called again and again.

    Args:
        plan: Its plan.
        values: What is fed to the plan.
        running: Makes the context of one run.
        should_stop: Whether the coordinator has stopped.
        one_by_one: The same operation for one record.
    """

    def __init__(
        self,
        plan: RecordPlan,
        values: Mapping[Tensor, np.ndarray],
        running: Running,
        should_stop: Callable[[], bool],
        one_by_one: Callable[[], Any],
    ) -> None:
        self._plan, self._values, self._running = plan, values, running
        self._should_stop, self._one_by_one = should_stop, one_by_one
        self._length = RunLength()
        self._shared: Slots | None = None
        self._num_failures = 0

    def __call__(self) -> None:
        """Enqueue the examples of the next records, of one at least.

        Raises:
            OpError: An operation raised it.
        """
        if self._num_failures >= _MAX_FAILURES:
            self._one_by_one()
            return
        with self._running() as run, run.entered():
            if self._shared is None:
                self._shared = self._plan.begin(run, self._values)
            reader = held(self._shared[self._plan.read.inputs[0]])
            queue: Queue = held(self._shared[self._plan.put.inputs[0]])
            is_many = isinstance(reader, FileRecordReader) and len(queue.dtypes) == len(self._plan.put.inputs) - 1
            if is_many:
                self._run(run, reader, queue)
        if not is_many:
            self._num_failures = _MAX_FAILURES
            self._one_by_one()

    def _run(self, run: Run, reader: FileRecordReader, queue: Queue) -> None:
        shared = self._shared
        assert shared is not None
        units = Units(held(shared[self._plan.read.inputs[1]]))
        room = queue.set_aside(self._length.wanted)
        queue.release(room)  # reading may wait for a file, and others need the room meanwhile
        records = run.call(self._plan.read, reader.read_run, units, max(1, room))
        began = time.thread_time()
        kept = queue.set_aside(len(records))
        try:
            if len(records) > max(1, kept):  # another thread was faster
                reader.unread(records[max(1, kept) :])
                del records[max(1, kept) :]
            if len(records) == 1:
                self._plan.carry_out(run, shared, records[0])
            else:
                self._together(run, reader, queue, records)
        finally:
            queue.release(kept)
        self._length.note(len(records), sum(len(value) for _, value in records), time.thread_time() - began)

    def _together(self, run: Run, reader: FileRecordReader, queue: Queue, records: list[Record]) -> None:
        shared = self._shared
        assert shared is not None
        try:
            examples = self._plan.examples(run, shared, records)
            _check(queue, examples, len(records))
        except Exception:
            self._apart(run, reader, records)
            self._num_failures += 1
            return
        self._num_failures = 0
        if self._should_stop():
            reader.unread(records[1:])
            self._plan.carry_out(run, shared, records[0])
            return
        run.call(self._plan.put, _enqueue, queue, examples, len(records))

    def _apart(self, run: Run, reader: FileRecordReader, records: list[Record]) -> None:
        """Carry the operation out for each record."""
        assert self._shared is not None
        for place, record in enumerate(records):
            try:
                if not place or not self._should_stop():
                    self._plan.carry_out(run, self._shared, record)
                    continue
            except BaseException:
                reader.unread(records[place + 1 :])
                raise
            reader.unread(records[place:])
            return


def _check(queue: Queue, examples: list[Value], count: int) -> None:
    """Raise an error unless the queue takes all examples."""
    rows = [spread(each, count) for each in examples]
    if all(each.stacked is not None for each in rows):
        queue.spec.check_many([each.stacked for each in rows])  # type: ignore[misc]
        return
    for example in zip(*rows, strict=True):
        queue.spec.check(example)


def _enqueue(queue: Queue, examples: list[Value], count: int) -> None:
    rows = [spread(each, count) for each in examples]
    stacked = [each.stacked for each in rows if each.stacked is not None]
    if len(stacked) == len(rows):
        queue.enqueue_many(stacked, None)
        return
    for example in zip(*rows, strict=True):
        queue.enqueue(list(example), None)
