"""The timeline of one engine, as a file that Perfetto and Chrome open: the Trace Event Format, a JSON array.

    worker 0    [wait for work][ compute [seed]   [collate] ][copy]
                                                               |  a flow: from the batch's copy to where it is taken
    consumer    [   wait   ]                                   [take]
    in ring                                                   [=====]
    held                                                             [==========]
    consumer 1 of a server                                                [ batch ]

Only timed batches are drawn (see `mpqueue.telemetry.recorder`): each one that takes longer than 5 ms, and of faster
ones a sample; and only waits of the consumer that matter. So a trace costs little however fast the batches come.

*Memory and file.* Events wait in a queue, which is written when it has `_MOST_WAITING` of them, or every half second in
which something happens, and at the end. An event is one line and is written wholly: a program that is killed leaves a
file that lacks its last bracket, which the format allows. After `_MOST_EVENTS` only marks (epochs, deaths) are written.

*Who calls.* The consumer's thread, under the lock of the pipeline; but the end of a lease comes in any thread, inside
the garbage collector, and only appends to the queue.
"""

import contextlib
import json
import os
from collections import deque
from typing import Any

from mpqueue.system import descriptors
from mpqueue.system.log import warn
from mpqueue.telemetry.clock import clock_ns

_MOST_WAITING = 512
_MOST_EVENTS = 1_000_000  # some 120 MB
_FLUSH_NS = 500_000_000
_SHORTEST_WAIT_NS = 100_000
_MOST_KNOWN = 4096
_CONSUMER, _FIRST_WORKER, _FIRST_SERVED = 1, 10, 1 << 20  # rows


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
        self._waiting: deque[str] = deque()
        self._copied: dict[int, int] = {}  # by ticket: when a batch that is drawn was in the ring
        self._drawn_until: dict[int, int] = {}  # by worker
        self._fd = -1
        self._size = self._num_events = self._flushed_ns = 0

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
            self._write("[\n" + _meta("process_name", self._pid, 0, self._name))
        self._name_row(_CONSUMER, "consumer")
        for number in range(num_workers):
            self._name_row(_FIRST_WORKER + number, f"worker {number}")

    def end(self) -> None:
        """Write what is left, and close the file; idempotent."""
        if self._fd < 0 or os.getpid() != self._pid:
            return
        self.flush()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # the disk is full; the format allows a list without its last bracket
                os.write(fd, b"\n]\n")  # behind the place where the next start goes on
            descriptors.close(fd)

    # -- What happens

    def batch(
        self, worker: int, ticket: tuple[int, int, int], began_ns: int, stages_ns: tuple[int, int, int, int, int]
    ) -> None:
        """Draw a batch at its worker.

        Args:
            worker: Number of the worker.
            ticket: Number of the ticket, epoch and index.
            began_ns: When it was begun.
            stages_ns: What computing and copying it, the wait before it, seeding and collating have taken.
        """
        number, epoch, index = ticket
        compute, copy, wait, seed, collate = stages_ns
        if not self._may_draw() or not 0 < began_ns <= clock_ns():
            return
        row, free_ns = _FIRST_WORKER + worker, self._drawn_until.get(worker, 0)
        began_ns = max(began_ns, free_ns)  # where a worker lost its CPU between two looks at the clock
        computed = began_ns + compute
        self._drawn_until[worker] = computed + copy
        if wait:
            self._slice("wait for work", row, max(began_ns - wait, free_ns), min(wait, began_ns - free_ns))
        self._slice(f"compute {index}", row, began_ns, compute, f'{{"epoch":{epoch},"index":{index}}}')
        if seed:
            self._slice("seed", row, began_ns, min(seed, compute))
        if collate:
            self._slice("collate", row, computed - min(collate, compute), min(collate, compute))
        self._slice(f"copy {index}", row, computed, copy)
        self._flow("s", row, computed + copy // 2, number)
        if len(self._copied) >= _MOST_KNOWN:
            self._copied.clear()  # of batches that were dropped
        self._copied[number] = computed + copy
        self._flush_if_due()

    def wait(self, began_ns: int, ns: int) -> None:
        """Draw a wait of the consumer, if it is long enough to matter."""
        if ns >= _SHORTEST_WAIT_NS and self._may_draw():
            self._slice("wait", _CONSUMER, began_ns, ns)
            self._flush_if_due()

    def take(self, ticket: tuple[int, int, int], began_ns: int) -> None:
        """Draw that the consumer has taken a batch since then."""
        number, epoch, index = ticket
        copied = self._copied.pop(number, None)
        if copied is None:
            return
        now = clock_ns()
        self._slice(f"take {index}", _CONSUMER, began_ns, now - began_ns, f'{{"epoch":{epoch},"index":{index}}}')
        self._flow("f", _CONSUMER, began_ns + (now - began_ns) // 2, number)
        self._span("in ring", number, copied, began_ns)

    def held(self, number: int, began_ns: int, ended_ns: int) -> None:
        """Draw the time for which there were views of a batch."""
        if self._fd >= 0:
            self._span("held", number, began_ns, ended_ns)

    def add_consumer(self, number: int, name: str) -> None:
        """Have a row for a consumer of a server."""
        self._name_row(_FIRST_SERVED + number, name)

    def use(self, consumer: int | None, place: tuple[int, int], began_ns: int, ended_ns: int) -> None:
        """Draw that a consumer of a server (None: the only one here) had the batch of this epoch and position."""
        if self._may_draw():
            epoch, position = place
            args = f'{{"epoch":{epoch},"position":{position}}}'
            row = _CONSUMER if consumer is None else _FIRST_SERVED + consumer
            self._slice(f"batch {position}", row, began_ns, ended_ns - began_ns, args)
            self._flush_if_due()

    def mark(self, name: str, worker: int | None = None) -> None:
        """Draw what has happened at this moment: to all, or to one worker."""
        row, scope = (_CONSUMER, "p") if worker is None else (_FIRST_WORKER + worker, "t")
        self._add(f'"ph":"i","name":{json.dumps(name)},"ts":{clock_ns() / 1e3:.3f},"tid":{row},"s":"{scope}"')
        self.flush()

    # -- Events

    def _slice(self, name: str, row: int, began_ns: int, ns: int, args: str = "{}") -> None:
        self._add(f'"ph":"X","name":"{name}","ts":{began_ns / 1e3:.3f},"dur":{ns / 1e3:.3f},"tid":{row},"args":{args}')

    def _flow(self, phase: str, row: int, at_ns: int, number: int) -> None:
        binding = ',"bp":"e"' if phase == "f" else ""
        self._add(
            f'"ph":"{phase}","name":"batch","cat":"batch","ts":{at_ns / 1e3:.3f},"tid":{row},"id":{number}{binding}'
        )

    def _span(self, name: str, number: int, began_ns: int, ended_ns: int) -> None:
        for phase, at_ns in (("b", began_ns), ("e", max(began_ns, ended_ns))):
            self._add(
                f'"ph":"{phase}","name":"{name}","cat":"{name}","ts":{at_ns / 1e3:.3f},"tid":{_CONSUMER},'
                f'"id":"{name} {number}"'
            )

    def _add(self, fields: str) -> None:
        self._waiting.append(f'{{"pid":{self._pid},{fields}}}')

    def _name_row(self, row: int, name: str) -> None:
        self._waiting.append(_meta("thread_name", self._pid, row, name))
        self._waiting.append(f'{{"ph":"M","pid":{self._pid},"tid":{row},"name":"thread_sort_index",'
                             f'"args":{{"sort_index":{row}}}}}')  # fmt: skip

    # -- The file

    def _may_draw(self) -> bool:
        return self._fd >= 0 and self._num_events < _MOST_EVENTS

    def _flush_if_due(self) -> None:
        if len(self._waiting) >= _MOST_WAITING or clock_ns() - self._flushed_ns >= _FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._flushed_ns = clock_ns()
        lines: list[str] = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if not lines or self._fd < 0 or os.getpid() != self._pid:
            return
        was_full, self._num_events = self._num_events >= _MOST_EVENTS, self._num_events + len(lines)
        self._write("".join(f",\n{line}" for line in lines))
        if self._num_events >= _MOST_EVENTS and not was_full:
            warn(
                f"the trace {self.path} has {self._num_events:,} events: from now on it gets epochs and deaths only",
                "docs/seeing.md, Traces",
            )

    def _write(self, text: str) -> None:
        try:
            self._size += os.write(self._fd, text.encode())
        except OSError as error:
            fd, self._fd = self._fd, -1
            descriptors.close(fd)
            warn(f"the trace {self.path} ends here: {error}", "docs/seeing.md, Traces")

    def __repr__(self) -> str:
        return f"<timeline in {self.path}, {self._num_events:,} events>"


def _meta(name: str, pid: int, row: int, value: str) -> str:
    event: dict[str, Any] = {"ph": "M", "pid": pid, "tid": row, "name": name, "args": {"name": value}}
    return json.dumps(event)


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
