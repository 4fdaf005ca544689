"""The timeline of one engine, as a file for Perfetto and Chrome; `mpqueue.telemetry.trace_events` defines the events.

*Content.* Only timed batches are drawn (see `mpqueue.telemetry.recorder`): all batches of more than 5 ms, and a sample
of faster ones, at most one per `_PAUSE_NS` and worker. Of the consumer's waits, only long ones are drawn. So a trace is
cheap even for fast batches: drawing a batch takes 15 to 20 µs in total.

*Memory and file.* Callers only append events to a queue. The events are formatted and written when `_MOST_WAITING` are
in the queue, every half second with events, and at the end. Each event is one line that is written as a whole: if the
program is killed, only the closing bracket is missing, which the format permits. After `_MOST_EVENTS` only marks
(epochs, crashes) are written.

*Threads.* All calls are made in the consumer's thread, under the pipeline's lock. Only the end of a lease and the parts
of an epoch's start may originate in any thread, and just append to the queue.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.paths.own_files import open_output
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.stage_rows import StageRows
from mpqueue.telemetry.trace_events import CONSUMER, FIRST_SERVED, FIRST_WORKER, TraceEvents, TraceKey

_REMEDY = "pass another path as trace="
_MOST_WAITING = 512
_MOST_EVENTS = 1_000_000  # about 120 MB
_FLUSH_NS = 500_000_000
_PAUSE_NS = 4 * EVERY_NS
_SHORTEST_WAIT_NS = 100_000
_STAGES_NS = 100_000_000


class Timeline:
    """A writer of the timeline of one engine, over all of its starts.

    Args:
        path: The file, which is overwritten.
        name: Name of the engine.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self._name, self._pid = name, os.getpid()
        self._waiting: deque[tuple[Callable[..., str], tuple[Any, ...]]] = deque()  # formatters and their arguments
        self._events = TraceEvents(self._pid)
        self._may_begin: dict[int, int] = {}  # by worker: the time after which a fast batch may be drawn again
        self._fd = -1
        self._size = self._num_events = self._flushed_ns = 0
        self._stages: StageRows = ()  # rows that are not drawn yet
        self._stages_at = 0

    def begin(self, num_workers: int) -> None:
        """Open the file, or continue it.

        Raises:
            OSError: The file cannot be written, or is a link.
        """
        is_new = not self._size
        # Truncated after the check: a link could lead to another file of this user.
        self._fd = descriptors.own(open_output(self.path, os.O_WRONLY | os.O_CREAT, _REMEDY, 0o644).dup())
        if is_new and os.fstat(self._fd).st_size:  # not a device
            os.ftruncate(self._fd, 0)
        os.lseek(self._fd, self._size, os.SEEK_SET)
        if is_new:
            self._write("[" + self._events.process(self._name).removeprefix(","))
        self._add(self._events.row, CONSUMER, "consumer")
        for worker_index in range(num_workers):
            self._add(self._events.row, FIRST_WORKER + worker_index, f"worker {worker_index}")

    def end(self) -> None:
        """Write the remaining events, and close the file; idempotent."""
        if self._fd < 0 or os.getpid() != self._pid:
            return
        self._draw_stages(clock_ns())
        self.flush()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # the disk is full; the format permits a missing closing bracket
                os.write(fd, b"\n]\n")  # after `_size`, so that the next start overwrites it
            descriptors.close(fd)

    # -- Events

    def batch(self, worker: int, key: TraceKey, began_ns: int, stages_ns: tuple[int, int, int, int, int]) -> bool:
        """Draw a batch in its worker's row, unless it was fast and the previous one was drawn just before.

        Args:
            worker: Index of the worker.
            key: Id of the work item, epoch and index.
            began_ns: Start time.
            stages_ns: Durations of computing, copying, the wait before, seeding, and collating.

        Returns: True if the batch is drawn, so that `take` and `held` may be called for it.
        """
        if began_ns < self._may_begin.get(worker, 0) and stages_ns[0] + stages_ns[1] < EVERY_NS:
            return False
        now = clock_ns()
        if not self._may_draw() or not 0 < began_ns <= now:
            return False
        self._may_begin[worker] = began_ns + _PAUSE_NS
        self._add(self._events.batch, worker, key, began_ns, stages_ns)
        self._flush_if_due(now)
        return True

    def wait(self, began_ns: int, ns: int) -> None:
        """Draw a wait of the consumer, if it is long enough to matter."""
        if ns >= _SHORTEST_WAIT_NS and self._may_draw():
            self._add(self._events.slice, "wait", CONSUMER, began_ns, ns)
            self._flush_if_due(began_ns + ns)

    def start_part(self, name: str, began_ns: int, ended_ns: int) -> None:
        """Draw a part of the start of an epoch, if it is long enough to matter; from any thread."""
        if ended_ns - began_ns >= _SHORTEST_WAIT_NS and self._fd >= 0:
            self._add(self._events.start_part, name, began_ns, ended_ns)

    def ahead(self, began_ns: int, ended_ns: int) -> None:
        """Draw the end of an epoch in a thread."""
        if self._fd >= 0:
            self._add(self._events.span, "epoch end ahead", began_ns, began_ns, ended_ns)

    def take(self, key: TraceKey, began_ns: int) -> None:
        """Draw that the consumer took a batch from ``began_ns`` until now."""
        if self._may_draw():
            self._add(self._events.take, key, began_ns, clock_ns())

    def held(self, work_id: int, began_ns: int, ended_ns: int) -> None:
        """Draw the time during which a batch had views."""
        if self._may_draw():
            self._add(self._events.span, "held", work_id, began_ns, ended_ns)

    def add_consumer(self, consumer: int, name: str) -> None:
        """Add a row for a consumer of a server."""
        self._add(self._events.row, FIRST_SERVED + consumer, name)

    def use(self, consumer: int | None, key: tuple[int, int], began_ns: int, ended_ns: int) -> None:
        """Draw that a consumer of a server (None for the only one here) used the batch of this epoch and position."""
        if self._may_draw():
            epoch, position = key
            args = f'{{"epoch":{epoch},"position":{position}}}'
            row = CONSUMER if consumer is None else FIRST_SERVED + consumer
            self._add(self._events.slice, f"batch {position}", row, began_ns, ended_ns - began_ns, args)
            self._flush_if_due(ended_ns)

    def stages(self, rows: StageRows) -> None:
        """Draw the sums of the work of stages, unless they were drawn just before."""
        now = clock_ns()
        self._stages = rows
        if now >= self._stages_at and self._may_draw():
            self._stages_at = now + _STAGES_NS
            self._draw_stages(now)
            self._flush_if_due(now)

    def _draw_stages(self, now: int) -> None:
        rows, self._stages = self._stages, ()
        for row in rows:
            self._add(self._events.stage, row, now)

    def mark(self, name: str, worker: int | None = None) -> None:
        """Draw an event at this moment, of all workers or of one worker."""
        row, scope = (CONSUMER, "p") if worker is None else (FIRST_WORKER + worker, "t")
        self._add(self._events.mark, name, row, scope, clock_ns())
        self.flush()

    def _add(self, make: Callable[..., str], *args: Any) -> None:
        self._waiting.append((make, args))

    # -- The file

    def _may_draw(self) -> bool:
        return self._fd >= 0 and self._num_events < _MOST_EVENTS

    def _flush_if_due(self, now: int) -> None:
        if len(self._waiting) >= _MOST_WAITING or now - self._flushed_ns >= _FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Write all queued events."""
        self._flushed_ns = clock_ns()
        lines: list[str] = []
        while self._waiting:
            make, args = self._waiting.popleft()
            lines.append(make(*args))
        text = "".join(lines)
        if not text or self._fd < 0 or os.getpid() != self._pid:
            return
        was_full, self._num_events = self._num_events >= _MOST_EVENTS, self._num_events + text.count("\n")
        self._write(text)
        if self._num_events >= _MOST_EVENTS and not was_full:
            warn(
                f"the trace {self.path} has {self._num_events:,} events: only epochs and crashes are added from here",
                "Monitor data loading",
                "Traces",
            )

    def _write(self, text: str) -> None:
        data = memoryview(text.encode())
        try:
            written = 0
            while written < len(data):  # a disk that is nearly full takes a part
                written += os.write(self._fd, data[written:])
            self._size += written
        except OSError as error:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # otherwise the file would end within an event, which readers reject
                os.ftruncate(fd, self._size)
            descriptors.close(fd)
            warn(f"writing the trace {self.path} failed and stops here: {error}", "Monitor data loading", "Traces")

    def __repr__(self) -> str:
        return f"<timeline in {self.path}, {self._num_events:,} events>"


_names_taken: set[str] = set()


def path_for(option: str | os.PathLike[str] | None, *, is_worker: bool) -> str | None:
    """Return the trace file of a new engine, or None for no trace.

    Args:
        option: The user's option; if None, ``MPQUEUE_TRACE`` applies to all engines of the process.
        is_worker: This process is a worker, with the same environment as its trainer.
    """
    if option is not None:
        return os.path.expanduser(option)
    pattern = os.environ.get("MPQUEUE_TRACE")
    if not pattern:
        return None
    stem, suffix = os.path.splitext(os.path.expanduser(pattern.replace("%p", str(os.getpid()))))
    stem += f".{os.getpid()}" if is_worker else ""
    path, number = stem + suffix, 1
    while path in _names_taken:
        number += 1
        path = f"{stem}.{number}{suffix}"
    _names_taken.add(path)
    return path
