"""Enqueue operations over nodes for runs of records; `mpqueue.tf1.train.record_runs` describes these."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.readers import Units
from mpqueue.tf1.compat.graph import Tensor
from mpqueue.tf1.compat.graph.records import RecordPlan
from mpqueue.tf1.compat.graph.run import Run, Slots
from mpqueue.tf1.compat.graph.state import held
from mpqueue.tf1.readers.base import Record
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.runs.rows import Value
from mpqueue.tf1.train import record_runs


class RecordRuns:
    """An enqueue operation that is called repeatedly.

    Args:
        plan: The plan of the operation.
        values: The values fed to the plan.
        running: Returns the context of one run.
        should_stop: Returns whether the coordinator has stopped.
        one_by_one: The same operation for one record.
    """

    def __init__(
        self,
        plan: RecordPlan,
        values: Mapping[Tensor, np.ndarray],
        running: Callable[[], AbstractContextManager[Run]],
        should_stop: Callable[[], bool],
        one_by_one: Callable[[], Any],
    ) -> None:
        self._plan, self._values, self._running, self._one_by_one = plan, values, running, one_by_one
        self._runs = record_runs.RecordRuns(should_stop)
        self._shared: Slots | None = None

    def __call__(self) -> None:
        """Enqueue the examples of the next records, at least one.

        Raises:
            OpError: An operation failed.
        """
        if not self._runs.is_disabled:
            with self._running() as run, run.entered():
                # Computed once: constants and handles are the same in all runs of a session.
                if self._shared is None:
                    self._shared = self._plan.begin(run, self._values)
                pipeline = _Pipeline(run, self._plan, self._shared)
                if pipeline.is_for_many:
                    self._runs.next(pipeline)
                    return
        self._one_by_one()


class _Pipeline:
    """One run of a plan."""

    def __init__(self, run: Run, plan: RecordPlan, shared: Slots) -> None:
        self._run, self._plan, self._shared = run, plan, shared
        self.reader, self.queue = held(shared[plan.read.inputs[0]]), held(shared[plan.put.inputs[0]])

    @property
    def is_for_many(self) -> bool:
        return isinstance(self.reader, FileRecordReader) and len(self.queue.dtypes) == len(self._plan.put.inputs) - 1

    def read(self, num_records: int) -> list[Record]:
        units = Units(held(self._shared[self._plan.read.inputs[1]]))
        records: list[Record] = self._run.call(self._plan.read, self.reader.read_run, units, num_records)
        return records

    def examples(self, records: Sequence[Record]) -> list[Value]:
        return self._plan.examples(self._run, self._shared, records)

    def carry_out(self, record: Record) -> None:
        self._plan.carry_out(self._run, self._shared, record)

    def put(self, examples: list[Value], count: int) -> None:
        self._run.call(self._plan.put, record_runs.enqueue, self.queue, examples, count)
