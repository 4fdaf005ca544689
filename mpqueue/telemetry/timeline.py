"""The timeline of one engine, as a file that Perfetto and Chrome open; `mpqueue.telemetry.trace_events` shows it.

Only timed batches are drawn (see `mpqueue.telemetry.recorder`): each one that takes longer than 5 ms, and of faster
ones a sample, a worker's next one after `_PAUSE_NS`; and only waits of the consumer that matter. So a trace costs
little however fast the batches come: to draw a batch costs 15 to 20 µs in all.

*Memory and file.* What has happened waits in a queue as it came: who calls appends, and that is all. Lines are made of
it, and written, when `_MOST_WAITING` wait, or every half second in which something happens, and at the end. A line is
one event and is written wholly: a program that is killed leaves a file that lacks its last bracket, which the format
allows. After `_MOST_EVENTS` only marks (epochs, deaths) are written.

*Who calls.* The consumer's thread, under the lock of the pipeline; but the end of a lease comes in any thread, and only
appends to the queue.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from mpqueue.system import descriptors
from mpqueue.system.log import warn
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.stage_rows import StageRows
from mpqueue.telemetry.trace_events import CONSUMER, FIRST_SERVED, FIRST_WORKER, Place, TraceEvents

_MOST_WAITING = 512
_MOST_EVENTS = 1_000_000  # some 120 MB
_FLUSH_NS = 500_000_000
_PAUSE_NS = 4 * EVERY_NS
_SHORTEST_WAIT_NS = 100_000
_STAGES_NS = 100_000_000


class Timeline:
    """Writes the timeline of one engine, over all of its starts.

    Args:
        path: Of the file, which is overwritten.
        name: Of the engine.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self._name, self._pid = name, os.getpid()
        self._waiting: deque[tuple[Callable[..., str], tuple[Any, ...]]] = deque()  # what makes lines, and of what
        self._events = TraceEvents(self._pid)
        self._may_begin: dict[int, int] = {}  # by worker: from when on a fast batch is drawn again
        self._fd = -1
        self._size = self._num_events = self._flushed_ns = 0
        self._stages: StageRows = ()  # that were not drawn
        self._stages_at = 0

    def begin(self, num_workers: int) -> None:
        """Open the file, or go on in it.

        Raises:
            OSError: It cannot be written.
        """
        is_new = not self._size
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if is_new else 0)
        self._fd = descriptors.own(os.open(self.path, flags, 0o644))
        os.lseek(self._fd, self._size, os.SEEK_SET)
        if is_new:
            self._write("[" + self._events.process(self._name).removeprefix(","))
        self._add(self._events.row, CONSUMER, "consumer")
        for number in range(num_workers):
            self._add(self._events.row, FIRST_WORKER + number, f"worker {number}")

    def end(self) -> None:
        """Write what is left, and close the file; idempotent."""
        if self._fd < 0 or os.getpid() != self._pid:
            return
        self._draw_stages(clock_ns())
        self.flush()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # the disk is full; the format allows a list without its last bracket
                os.write(fd, b"\n]\n")  # behind the place where the next start goes on
            descriptors.close(fd)

    # -- What happens

    def batch(self, worker: int, place: Place, began_ns: int, stages_ns: tuple[int, int, int, int, int]) -> bool:
        """Draw a batch at its worker, unless it was fast and another one was drawn just now.

        Args:
            worker: Number of the worker.
            place: Number of the work item, epoch and index.
            began_ns: When it was begun.
            stages_ns: What computing and copying it, the wait before it, seeding and collating have taken.

        Returns: It is drawn; so `take` and `held` may be called for it.
        """
        if began_ns < self._may_begin.get(worker, 0) and stages_ns[0] + stages_ns[1] < EVERY_NS:
            return False
        now = clock_ns()
        if not self._may_draw() or not 0 < began_ns <= now:
            return False
        self._may_begin[worker] = began_ns + _PAUSE_NS
        self._add(self._events.batch, worker, place, began_ns, stages_ns)
        self._flush_if_due(now)
        return True

    def wait(self, began_ns: int, ns: int) -> None:
        """Draw a wait of the consumer, if it is long enough to matter."""
        if ns >= _SHORTEST_WAIT_NS and self._may_draw():
            self._add(self._events.slice, "wait", CONSUMER, began_ns, ns)
            self._flush_if_due(began_ns + ns)

    def take(self, place: Place, began_ns: int) -> None:
        """Draw that the consumer has taken a batch since then."""
        if self._may_draw():
            self._add(self._events.take, place, began_ns, clock_ns())

    def held(self, number: int, began_ns: int, ended_ns: int) -> None:
        """Draw the time for which there were views of a batch."""
        if self._may_draw():
            self._add(self._events.span, "held", number, began_ns, ended_ns)

    def add_consumer(self, number: int, name: str) -> None:
        """Have a row for a consumer of a server."""
        self._add(self._events.row, FIRST_SERVED + number, name)

    def use(self, consumer: int | None, place: tuple[int, int], began_ns: int, ended_ns: int) -> None:
        """Draw that a consumer of a server (None: the only one here) had the batch of this epoch and position."""
        if self._may_draw():
            epoch, position = place
            args = f'{{"epoch":{epoch},"position":{position}}}'
            row = CONSUMER if consumer is None else FIRST_SERVED + consumer
            self._add(self._events.slice, f"batch {position}", row, began_ns, ended_ns - began_ns, args)
            self._flush_if_due(ended_ns)

    def stages(self, rows: StageRows) -> None:
        """Draw the sums of the work of stages, if they were not drawn just now."""
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
        """Draw what has happened at this moment: to all, or to one worker."""
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
        """Write what waits."""
        self._flushed_ns = clock_ns()
        texts: list[str] = []
        while self._waiting:
            make, args = self._waiting.popleft()
            texts.append(make(*args))
        text = "".join(texts)
        if not text or self._fd < 0 or os.getpid() != self._pid:
            return
        was_full, self._num_events = self._num_events >= _MOST_EVENTS, self._num_events + text.count("\n")
        self._write(text)
        if self._num_events >= _MOST_EVENTS and not was_full:
            warn(
                f"the trace {self.path} has {self._num_events:,} events: from now on it gets epochs and deaths only",
                "Seeing what happens",
                "Traces",
            )

    def _write(self, text: str) -> None:
        try:
            self._size += os.write(self._fd, text.encode())
        except OSError as error:
            fd, self._fd = self._fd, -1
            descriptors.close(fd)
            warn(f"the trace {self.path} ends here: {error}", "Seeing what happens", "Traces")

    def __repr__(self) -> str:
        return f"<timeline in {self.path}, {self._num_events:,} events>"


_names_taken: set[str] = set()


def path_for(option: str | os.PathLike[str] | None, *, is_worker: bool) -> str | None:
    """Return the file of an engine that is made now; None: it has no timeline.

    Args:
        option: What the user has asked for; None: ``MPQUEUE_TRACE`` says it for all engines of the process.
        is_worker: This process is a worker of another one, which has the same environment.
    """
    if option is not None:
        return os.fspath(option)
    asked = os.environ.get("MPQUEUE_TRACE")
    if not asked:
        return None
    stem, suffix = os.path.splitext(asked.replace("%p", str(os.getpid())))
    stem += f".{os.getpid()}" if is_worker else ""
    path, number = stem + suffix, 1
    while path in _names_taken:
        number += 1
        path = f"{stem}.{number}{suffix}"
    _names_taken.add(path)
    return path
