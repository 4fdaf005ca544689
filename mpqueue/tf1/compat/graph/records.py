"""A plan for a pipeline of examples, divided into parts that can process many records at once.

    constants, handles of queues and readers ── before ──┐      once
    reader.read ──► key, value ── read ──────────────────┤      a run of records
    decoders, functions of arrays ── after ──────────────┤      once for all records of the run, by their rules
    queue.enqueue ── put ────────────────────────────────┘      all examples of the run

Not every plan can be divided. Plans with state, random numbers, Python functions, a second queue in the middle, or any
other operation without a rule are executed record by record.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from mpqueue.tf1.compat.graph.make import array_of
from mpqueue.tf1.compat.graph.nodes import Operation, Tensor
from mpqueue.tf1.compat.graph.plan import Plan, Step
from mpqueue.tf1.compat.graph.run import Run, Slots, lent, store
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.runs.rows import Rows, Value
from mpqueue.tf1.runs.rules import Call, has_rows, per_row
from mpqueue.values.conversion import text_array

_READ: Final = "ReaderReadV2"
_ENQUEUE: Final = "QueueEnqueueV2"


class RecordPlan:
    """A plan that reads a record, computes an example from it, and enqueues the example.

    Args:
        plan: The complete plan.
        read: The step that reads a record.
        after: The steps that compute an example.
        put: The step that enqueues the example.

    Attributes:
        read: The step that reads a record.
        put: The step that enqueues the example.
    """

    def __init__(self, plan: Plan, read: Step, after: Sequence[Step], put: Step) -> None:
        self.read, self.put = read, put
        self._plan, self._after = plan, after
        self._before = [step for step in plan.steps if step not in (read, put, *after)]

    def begin(self, run: Run, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Return the slots with the values that all records share."""
        slots: Slots = [None] * len(self._plan.slot_of)
        for tensor in self._plan.fed:
            slots[self._plan.slot_of[tensor]] = lent(values[tensor])
        for step in self._before:
            store(step, run.compute(step, slots), slots)
        return slots

    def examples(self, run: Run, shared: Slots, records: Sequence[tuple[bytes, bytes]]) -> list[Value]:
        """Return the components of the examples of a run of records.

        Raises:
            Exception: The records cannot be computed together.
        """
        # A shallow copy: values shared by all records are computed once and reused by every run.
        slots = list(shared)
        for place, column in zip(self.read.outputs, zip(*records, strict=True), strict=True):
            if place is not None:
                slots[place] = Rows(text_array(column))
        for step in self._after:
            store(step, self._compute(run, step, slots, len(records)), slots)
        return [slots[place] for place in self.put.inputs[1:]]

    def carry_out(self, run: Run, shared: Slots, record: tuple[bytes, bytes]) -> None:
        """Compute the example of one record and enqueue it."""
        slots = list(shared)
        store(self.read, [array_of(part) for part in record], slots)
        for step in (*self._after, self.put):
            store(step, run.compute(step, slots), slots)

    @staticmethod
    def _compute(run: Run, step: Step, slots: Slots, count: int) -> Sequence[Value]:
        op, inputs = step.op, [slots[place] for place in step.inputs]
        if not has_rows(inputs):
            return op.kernel(run, inputs)
        assert op.rule is not None
        call = Call(partial(op.kernel, run), inputs, op.attributes, count)
        # A rule raises if it does not apply. Only this operation is then computed per record. If that also fails, the
        # error belongs to one record, and processing record by record will report it.
        try:
            return op.rule(call)
        except Exception:
            return per_row(call)


def record_plan(plan: Plan) -> RecordPlan | None:
    """Divide a plan into parts; return None if it must be executed record by record."""
    of_record: set[int] = set()  # steps
    slots: set[int | None] = set()
    for number, step in enumerate(plan.steps):
        is_read = step.op.type == _READ
        # A step that depends on the record only by a control dependency must also run once per record.
        if is_read or slots.intersection(step.inputs) or of_record.intersection(step.needs):
            of_record.add(number)
            slots.update(step.outputs)
    steps = [plan.steps[number] for number in sorted(of_record)]
    # The read must be the first step and the enqueue the last, to keep the order of records within a run.
    if len(steps) < 2 or steps[0].op.type != _READ or steps[-1].op.type != _ENQUEUE or plan.steps[-1] is not steps[-1]:
        return None
    read, *after, put = steps
    # Steps before the read run once for all records, so they must return the same value each time. The queue must not
    # depend on the record: each example could go to another queue.
    if any(not _is_function(step.op) for step in plan.steps if step not in (read, put)) or put.inputs[0] in slots:
        return None
    return RecordPlan(plan, read, after, put)


def _is_function(op: Operation) -> bool:
    """Return whether an operation always returns the same outputs for the same inputs; handles count as such."""
    if op.blocking or op.bound:
        return False
    return op.rule is not None or is_handle(op)


def is_handle(op: Operation) -> bool:
    """Return whether an operation returns the handle of a queue or reader, which the session creates."""
    return not op.inputs and any(each.dtype is dtypes.resource for each in op.outputs)
