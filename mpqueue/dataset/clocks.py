"""The work of the stages of an indexed dataset, noted while a batch is timed.

Readers ask each other for elements: the work of a stage is the time of a call without that of the calls within it. One
batch is timed now and then (`mpqueue.telemetry.recorder`). For that batch each reader has a clock before it, so others
pay nothing::

    worker's thread   lays down a `StageTally` where it, and the threads that help it, find it
    each thread       has clocks before its readers while it computes, and adds what they say to the tally
    worker's thread   makes rows of the tally, which go to the trainer behind the batch

What a stage waits for is the time that its thread had no CPU. To ask for the CPU's time is a system call, of up to
25 us, so that is done in a batch now and then; the shares found there hold until the next one.
"""

import time
from typing import Any

from mpqueue.dataset.indexed import Drawing, JoinReader, LinkReader, Places, Reader
from mpqueue.dataset.nodes import BatchNode, StageNode
from mpqueue.system.locks import Lock
from mpqueue.telemetry.stage_rows import StageRow, StageRows, StageTallies

_BETWEEN_LOOKS_NS = 20_000_000  # of time that clocks have told
_clock = time.perf_counter_ns
_busy = time.thread_time_ns


class StageTally:
    """The work of the stages for one batch, from any of the threads that compute it.

    Args:
        batch: The last stage, if the worker joins samples by itself; None: it has a reader, or there is none.
    """

    def __init__(self, batch: BatchNode | None) -> None:
        self._batch, self._tallies, self._lock = batch, StageTallies(), Lock()

    def add(self, rows: StageRows) -> None:
        """Add what stages have done in this thread."""
        with self._lock:
            self._tallies.add(rows)

    def rows(self, collate_ns: int) -> list[StageRow]:
        """Return the sums, those of a stage behind those of its inputs; joining has taken so many nanoseconds."""
        rows = self._tallies.rows()
        if rows and self._batch is not None:
            rows.append((_name_of(self._batch), rows[-1][2], 1, collate_ns, 0))
        return rows


def _name_of(node: StageNode) -> str:
    return f"{node.number}: {node.line()}"


class ReaderClocks:
    """Clocks before the readers of a tree, in one thread.

    Args:
        root: The reader of the last stage.
    """

    def __init__(self, root: Reader) -> None:
        self.ns = self.busy_ns = 0  # of the calls within the one that is at work
        self.is_looking = False  # the CPU's time is asked for
        self._root = root
        self._clocks: list[_Clock] = []
        self._add(root)
        self._left_ns = 0  # until the next look

    def _add(self, reader: Reader) -> "_Clock":
        if isinstance(reader, JoinReader):
            inputs = [self._add(branch) for branch in reader.branches]
        else:
            inputs = [self._add(reader.input)] if isinstance(reader, LinkReader) else []
        clock = _Clock(self, reader, inputs)
        self._clocks.append(clock)
        return clock

    def at(self, places: Places, run: Drawing, tally: StageTally) -> list[Any]:
        """Return the elements at these places, as the reader does, and add its work to a tally.

        Raises:
            Exception: What the reader raises.
        """
        self.ns = self.busy_ns = 0
        self.is_looking = self._left_ns <= 0
        for clock in self._clocks:
            clock.begin()
        try:
            return self._root.at(places, run)
        finally:
            for clock in self._clocks:
                clock.end()
            self._left_ns = (_BETWEEN_LOOKS_NS if self.is_looking else self._left_ns) - self.ns
            tally.add([clock.row() for clock in self._clocks])


class _Clock:
    """The clock of one reader.

    Args:
        clocks: Those of the whole tree.
        reader: Whose it is.
        inputs: The clocks of what the reader reads.
    """

    def __init__(self, clocks: ReaderClocks, reader: Reader, inputs: "list[_Clock]") -> None:
        self._clocks, self._reader, self._inputs = clocks, reader, inputs
        self._name = _name_of(reader.node)
        self._num_out = self._ns = self._busy_ns = 0
        self._waits = 0.0  # share of its time

    def begin(self) -> None:
        """Stand before the reader: its own attribute hides the method of its class."""
        self._num_out = self._ns = self._busy_ns = 0
        vars(self._reader)["at"] = self._at

    def end(self) -> None:
        """Go away again."""
        vars(self._reader).pop("at", None)

    def row(self) -> StageRow:
        """Return what the stage has done since `begin`."""
        if self._clocks.is_looking and self._ns:
            self._waits = max(0.0, 1 - self._busy_ns / self._ns)
        num_in = sum(clock._num_out for clock in self._inputs)
        return self._name, num_in, self._num_out, self._ns, int(self._ns * self._waits)

    def _at(self, places: Places, run: Drawing) -> list[Any]:
        clocks, reader = self._clocks, self._reader
        outer_ns, outer_busy_ns = clocks.ns, clocks.busy_ns
        clocks.ns = clocks.busy_ns = 0
        is_looking = clocks.is_looking
        busy = _busy() if is_looking else 0
        started = _clock()
        try:
            found = type(reader).at(reader, places, run)
            self._num_out += len(found)
        finally:
            ns = _clock() - started
            busy = _busy() - busy if is_looking else 0
            self._ns += ns - clocks.ns
            self._busy_ns += busy - clocks.busy_ns
            clocks.ns, clocks.busy_ns = outer_ns + ns, outer_busy_ns + busy
        return found
