"""Time measurements of the stages of an indexed dataset.

Readers call each other to get elements. The work of a stage is the time of a call without the calls within it. Only an
occasional batch is timed (`mpqueue.telemetry.recorder`). For that batch, a clock wraps each reader; all other
batches are read without clocks::

    worker's thread   provides a `StageTally` for itself and for the threads that help it
    each thread       wraps its readers in clocks while it computes, and adds their times to the tally
    worker's thread   makes rows of the tally, which are sent to the trainer with the batch

The waiting time of a stage is the time that its thread spent without a CPU. Reading the CPU time is a system call of up
to 25 us, so only an occasional timed batch reads it. The shares measured there are used until the next reading.
"""

import time
from typing import Any

from mpqueue.dataset.description.nodes import StageNode
from mpqueue.dataset.indexed.readers import IndexedRun, LinkReader, Positions, Reader, ReaderMaker
from mpqueue.dataset.transformations.batch import BatchNode
from mpqueue.system.signals.locks import Lock
from mpqueue.telemetry.stage_rows import StageRow, StageRows, StageTallies

_BETWEEN_LOOKS_NS = 20_000_000  # measured time between readings of the CPU time
_clock = time.perf_counter_ns
_busy = time.thread_time_ns


class StageTally:
    """The work of the stages for one batch, summed over all threads that compute it.

    Args:
        batch: The last stage, if the worker itself joins the samples; otherwise None.
    """

    def __init__(self, batch: BatchNode | None) -> None:
        self._batch, self._tallies, self._lock = batch, StageTallies(), Lock()

    def add(self, rows: StageRows) -> None:
        """Add the work of the stages in this thread."""
        with self._lock:
            self._tallies.add(rows)

    def rows(self, collate_ns: int) -> list[StageRow]:
        """Return the sums, with each stage after its inputs; ``collate_ns`` is the time spent joining."""
        rows = self._tallies.rows()
        if rows and self._batch is not None:
            rows.append((_name_of(self._batch), rows[-1][2], 1, collate_ns, 0))
        return rows


def _name_of(node: StageNode, base: int = 0) -> str:
    return f"{base + node.stage_index}: {node.line()}"


class ReaderClocks:
    """Clocks around the readers of a tree, in one thread.

    Args:
        maker: The maker of the readers.
        root: The last stage.
    """

    def __init__(self, maker: ReaderMaker, root: StageNode) -> None:
        self.ns = self.busy_ns = self.num_in = 0  # of the calls within the current one
        self.is_looking = False  # whether the CPU time is read
        self._maker, self._root = maker, maker.make(root)
        self._clocks: dict[int, _Clock] = {}  # by the `id` of the readers
        self._begun: dict[int, _Clock] = {}  # the clocks of the readers that this batch uses
        self._left_ns = 0  # until the CPU time is read again

    def _begin(self, reader: Reader) -> None:
        """Wrap a reader and the readers before it, up to a source or a stage that reads several others."""
        while id(reader) not in self._begun:
            clock = self._clocks.get(id(reader))
            if clock is None:
                clock = self._clocks[id(reader)] = _Clock(self, reader)
            self._begun[id(reader)] = clock
            clock.begin()
            if not isinstance(reader, LinkReader):
                break
            reader = reader.input

    def at(self, positions: Positions, run: IndexedRun, tally: StageTally) -> list[Any]:
        """Return the elements at these indices, as the reader does, and add its work to a tally.

        Raises:
            Exception: The reader raised.
        """
        self.ns = self.busy_ns = self.num_in = 0
        self.is_looking = self._left_ns <= 0
        self._begin(self._root)
        self._maker.on_read = self._begin  # of 10,000 parts, a batch reads only a few
        try:
            return self._root.at(positions, run)
        finally:
            self._maker.on_read = None
            clocks, self._begun = list(self._begun.values()), {}
            for clock in clocks:
                clock.end()
            self._left_ns = (_BETWEEN_LOOKS_NS if self.is_looking else self._left_ns) - self.ns
            rows = sorted([row for clock in clocks for row in clock.rows()])
            tally.add([row for _, row in rows])


class _Work:
    """The work of a reader as one stage of the tree. A reader used by several others counts as several stages.

    Args:
        name: The name of the stage.
    """

    __slots__ = ("busy_ns", "name", "ns", "num_in", "num_out", "waits")

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_in = self.num_out = self.ns = self.busy_ns = 0
        self.waits = 0.0  # share of its time spent waiting


class _Clock:
    """The clock of one reader.

    Args:
        clocks: The clocks of the tree.
        reader: The reader.
    """

    def __init__(self, clocks: ReaderClocks, reader: Reader) -> None:
        self._clocks, self._reader = clocks, reader
        self._works: dict[int, _Work] = {}  # by the number of stages before the reader's tree

    def begin(self) -> None:
        """Wrap the reader: an instance attribute hides the method of its class."""
        for work in self._works.values():
            work.num_in = work.num_out = work.ns = work.busy_ns = 0
        vars(self._reader)["at"] = self._at

    def end(self) -> None:
        """Unwrap the reader."""
        vars(self._reader).pop("at", None)

    def rows(self) -> list[tuple[int, StageRow]]:
        """Return the work of the reader since `begin`, with the indices of the stages."""
        rows = []
        for base, work in self._works.items():
            if self._clocks.is_looking and work.ns:
                work.waits = max(0.0, 1 - work.busy_ns / work.ns)
            row = work.name, work.num_in, work.num_out, work.ns, int(work.ns * work.waits)
            stage_index = base + self._reader.stage_index
            rows.append((stage_index, row))
        return rows

    def _at(self, positions: Positions, run: IndexedRun) -> list[Any]:
        clocks, reader = self._clocks, self._reader
        work = self._works.get(run.base)
        if work is None:
            work = self._works[run.base] = _Work(_name_of(reader.node, run.base))
        outer_ns, outer_busy_ns, outer_in = clocks.ns, clocks.busy_ns, clocks.num_in
        clocks.ns = clocks.busy_ns = clocks.num_in = 0
        is_looking = clocks.is_looking
        busy = _busy() if is_looking else 0
        num_out = reader.beside_ns = reader.beside_busy_ns = 0
        started = _clock()
        try:
            elements = type(reader).at(reader, positions, run)
            num_out = len(elements)
        finally:
            ns = _clock() - started
            busy = _busy() - busy if is_looking else 0
            work.num_in += clocks.num_in
            work.num_out += num_out
            # A stage with threads takes more time than its own thread does.
            work.ns += ns - clocks.ns + reader.beside_ns
            work.busy_ns += busy - clocks.busy_ns + reader.beside_busy_ns
            clocks.ns, clocks.busy_ns, clocks.num_in = outer_ns + ns, outer_busy_ns + busy, outer_in + num_out
        return elements
