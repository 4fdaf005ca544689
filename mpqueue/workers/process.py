"""The backend of worker processes: deals tickets with their slots, takes in reports, survives deaths.

    pipeline --deal--> ticket --grant--> worker's pipe --report--> ready --open--> views of the slot --> consumer
                          ^                   |
                          +---- pending <-----+  taken back for an idle worker, or its worker died

Everything here happens in the consumer's own calls, under the pipeline's lock; workers run ahead on what they hold.

*Dealing.* A ticket goes out together with a slot, so the head of the line can never lack memory. All credit is dealt
at once, because nobody deals while the consumer computes. That binds tickets to workers early, so while the consumer
waits and one worker is idle beside a longer queue, unread grants are *taken back*: a record in a pipe goes to exactly
one reader, and the trainer can be that reader.

*Death.* The launcher tells of it. What the dead worker had reported stands; the grant that it was working on counts
against the `restarts` of its ticket; all its tickets are granted again to its replacement.

*Memory.* A worker that finds no memory for its batch keeps it, says so and waits; see `mpqueue.workers.pressure`.

*Interrupts.* Ctrl-C may strike between the read of a record and its entry in the books. The next call notices, and
replaces all workers: what was lost with the record is computed again.
"""

import contextlib
import os
import select
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from mpqueue.control import descriptors, queue_home
from mpqueue.control.backend import Failure
from mpqueue.control.interrupts import HeldBack
from mpqueue.control.pipeline import Pipeline
from mpqueue.control.records import GRANT, HELD, MAGIC, NEW_SPEC, REPORT, CorruptRecord, Down, Up
from mpqueue.control.schedule import Ticket
from mpqueue.memory.layout import UNNUMBERED, ReadSpec, load_spec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import SlotError
from mpqueue.workers.context import WorkerInfo
from mpqueue.workers.deaths import Deaths
from mpqueue.workers.hang import HangWatch
from mpqueue.workers.launcher import Forker, LauncherGone
from mpqueue.workers.loop import WorkerConfig
from mpqueue.workers.pressure import Pressure
from mpqueue.workers.roster import Link, Roster
from mpqueue.workers.state import SourceState
from mpqueue.workers.work import MovedOut, Work

MAX_CREDIT = 4096
_READ_BYTES = REPORT.size * 512
_STEAL_AFTER_NS = 300_000  # taking back costs about 5 µs: not worth it for work that is nearly done
_STEAL_WAIT_S = 0.001

# A grant or report to a process that sleeps costs some 5 to 20 µs to wake it. Cheap batches are dealt several in a row
# to one worker, and not before several can be dealt: 2 to 3 times the rate for the smallest ones.
_CHEAP_NS = 300_000

_MAX_RUN = 50  # and not more than fit into the smallest pipes, which unprivileged users with many get

_WORK, _BATCH = Down.WORK, Up.BATCH
_clock = time.perf_counter_ns


class Options(NamedTuple):
    """What the user chose for a pool of processes; see `mpqueue.enqueuers`."""

    num_workers: int
    seed: int
    is_stream: bool
    can_replay: bool
    restarts: int
    batch_timeout: float | None
    max_batch_bytes: int | None
    copy: bool
    skip: tuple[int, ...] = ()


class ProcessBackend:
    """A pool of worker processes and its ring.

    Args:
        pipeline: Whose tickets it runs.
        state: The source, and the launcher of workers that have it.
        options: The user's choices.

    Raises:
        OSError: The ring, a pipe or a process could not be made; nothing is left behind.
        Exception: What unpickling the source raised.
    """

    def __init__(self, pipeline: Pipeline, state: SourceState, options: Options) -> None:
        self.ready: dict[int, Work | MovedOut | Failure] = {}
        self.chunk = self._run = 1  # tickets per `pump`, and in a row to one worker
        self.low_water = 2 * options.num_workers
        self._max_chunk = max(1, min(pipeline.credit // 2, _MAX_RUN))
        self._item_ns = _CHEAP_NS
        self.compute_ns = self.copy_ns = self.credit_wait_ns = self.num_bytes = 0
        self.num_retries = 0
        self.pipeline, self.state, self.options = pipeline, state, options
        self.pressure, self.deaths = Pressure(self), Deaths(self)
        self.pending: deque[Ticket] = deque()
        self._rotation = 0
        self._hang = HangWatch(options.batch_timeout) if options.batch_timeout is not None else None
        with HeldBack(), contextlib.ExitStack() as undo:
            self._open(undo)
            self._start_workers(options.skip)
            undo.pop_all()

    def _open(self, undo: contextlib.ExitStack) -> None:
        """Make all but the workers; ``undo`` unmakes it."""
        options = self.options
        self.ring = Ring(self.pipeline.credit, options.num_workers, copy=options.copy)
        undo.callback(self.ring.close)
        self._config = WorkerConfig(
            WorkerInfo(0, options.num_workers, options.seed), options.is_stream, self.ring.segment.size,
            self.ring.segment.kind, self.ring.stride, options.max_batch_bytes,
            queue_home=queue_home.address_for_workers(),
        )  # fmt: skip
        self.roster = Roster(self.ring.segment.fd, self._config_of, with_stacks=self._hang is not None)
        undo.callback(self.roster.close, reusable=False)
        self._wake_read, self._wake_write = descriptors.pipe()
        undo.callback(self._close_wakeup)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.roster.epoll.register(self._wake_read, select.EPOLLIN)

    def _start_workers(self, skip: tuple[int, ...] = ()) -> None:
        """Fill the pool, and wait until all its workers run."""
        for worker in range(self.options.num_workers):
            self.deaths.vacate(worker, skip=skip[worker] if skip else 0)
        with contextlib.suppress(LauncherGone):  # which `fill` notices
            if self.roster.launcher is None:
                self.roster.set_launcher(self.state.launch())
            else:
                self.state.equip(self.roster.launcher)
        self.deaths.fill()
        while not self.roster.all_run:
            self.deaths.take(None)

    def _config_of(self, worker: int, skip: int) -> WorkerConfig:
        info = self._config.info._replace(id=worker)
        return self._config._replace(info=info, epoch=self.pipeline.schedule.epoch, skip=skip)

    # -- Dealing

    def pump(self) -> None:
        """Deal what credit and slots allow, tickets that came back first."""
        deal, pending, roster, ring = self.pipeline.deal, self.pending, self.roster, self.ring
        links, pack = roster.links, GRANT.pack
        ring.collect()
        touched: set[Link] = set()
        link: Link | None = None
        in_a_row = 0
        while not self.pressure.is_high:
            ticket = pending.popleft() if pending else deal()
            if ticket is None:
                break
            if link is None or in_a_row == self._run or ticket.lane >= 0:
                link, in_a_row = self._choose(ticket), 0
            in_a_row += 1
            slot = ring.grant(link.worker) if link is not None else None
            if link is None or slot is None:
                pending.appendleft(ticket)
                break
            if not link.in_flight:
                link.busy_since = _clock()
            link.in_flight[slot.turn] = Work(ticket, slot, ring)
            link.outbox += pack(MAGIC, _WORK, slot.number, slot.turn, ticket.unit, ticket.epoch, slot.high_water)
            touched.add(link)
        for link in touched:
            if links.get(link.worker) is link:
                link.flush()

    def _choose(self, ticket: Ticket) -> Link | None:
        """The ticket's own worker, or the less busy of the next two; None if it has enough, or is being replaced."""
        links = self.roster.links
        if ticket.lane >= 0:
            link = links.get(ticket.lane)
            return None if link is None or len(link.in_flight) >= link.room else link
        count = self.options.num_workers
        self._rotation = first = (self._rotation + 1) % count
        one, two = links.get(first), links.get((first + 1) % count)
        if one is None or (two is not None and len(two.in_flight) < len(one.in_flight)):
            one = two
        if one is None:
            one = next(iter(links.values()), None)
        return None if one is None or len(one.in_flight) + self._run > one.room else one

    def _take_back(self) -> float | None:
        """Give idle workers what the busiest have not begun; seconds to wait until that is worth trying again."""
        links = self.roster.links.values()
        idle = sum(not link.in_flight for link in links)
        if not idle or self.options.is_stream:
            return None
        victim = max(links, key=lambda link: len(link.in_flight) if link.is_stealable else 0)
        if not victim.is_stealable:
            return None
        if _clock() - victim.busy_since + len(victim.in_flight) * self._item_ns < _STEAL_AFTER_NS:
            return _STEAL_WAIT_S
        count = -(-(len(victim.in_flight) - 1) // (idle + 1))
        taken = [work.ticket for work in self.take_unread(victim, count)]
        self.pending.extendleft(reversed(taken))
        if taken:
            self.pump()
        return None

    def take_unread(self, link: Link, count: int = MAX_CREDIT) -> list[Work]:
        """Take grants of work that the worker has not read out of its pipe; their slots are free again."""
        taken: list[Work] = []
        if link.take_back < 0:
            return taken
        try:
            data = os.read(link.take_back, count * GRANT.size)
        except BlockingIOError:
            return taken
        for grant in GRANT.iter_unpack(data):
            if grant[1] == Down.WORK:
                work = link.in_flight.pop(grant[3])
                self.ring.release(work.slot)
                if not work.cancelled:
                    taken.append(work)
            else:
                link.outbox += GRANT.pack(*grant)  # a new state, or the answer that a starved worker waits for
        return taken

    # -- Taking in

    def wait(self, head: int, *, block: bool = True) -> None:
        """Take in reports and exits; with ``block``, wait for one if there is none."""
        if self.deaths.vacant and not self._take_exits():
            return
        if self.pending:
            self.pump()
        self.pressure.relieve(head)
        events = self._poll(self._timeout_s() if block else 0)
        if not events and self._hang is not None:
            self._hang.end_hanging(self.roster)
        has_exits = False
        for fd, _ in events:
            link = self.roster.by_reports.get(fd)
            if link is not None:
                self.drain(link)
            elif fd == self._wake_read:
                os.read(fd, 4096)
            elif fd == self.roster.launcher_fd:
                has_exits = True
        if has_exits:
            self._take_exits()

    def _poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        pipeline = self.pipeline
        pipeline.is_waiting = True  # an interrupt here tears nothing: what has come is still there
        events = self.roster.epoll.poll(timeout_s)
        pipeline.is_waiting = False
        return events

    def _take_exits(self) -> bool:
        """Take in exits and fill the vacant places; False if that failed, which the consumer is told."""
        try:
            self.deaths.take()
        except Exception as error:
            self.pipeline.fail(error)
            return False
        self.pump()
        return True

    def _timeout_s(self) -> float | None:
        waits = [self._take_back(), self._hang.time_left_s(self.roster) if self._hang is not None else None]
        return min((wait for wait in waits if wait is not None), default=None)

    def drain(self, link: Link) -> bool:
        """Enter what a worker has reported; False at the end of its pipe, or if there is nothing now."""
        if link.is_silenced:
            return False
        try:
            data = os.read(link.reports, _READ_BYTES)
        except BlockingIOError:
            return False
        try:
            if not data:  # it has ended, or user code closed the pipe, which comes to the same
                raise CorruptRecord("the end of the pipe")
            self._enter(link, data)
        except (CorruptRecord, SlotError, KeyError):
            # Nothing that this worker says can be trusted any more; the launcher will tell of its end.
            self.roster.silence(link)
            return False
        return True

    def _enter(self, link: Link, data: bytes) -> None:
        if len(data) % REPORT.size:
            raise CorruptRecord(f"{len(data)} bytes are no whole number of reports")
        publish, in_flight, ready, specs = self.ring.slots.publish, link.in_flight, self.ready, link.specs
        num_bytes = compute_ns = copy_ns = wait_ns = 0
        for (
            magic,
            kind,
            flags,
            number,
            turn,
            spec,
            header,
            nbytes,
            high_water,
            compute,
            copy,
            wait,
        ) in REPORT.iter_unpack(data):
            if magic != MAGIC:
                raise CorruptRecord("a report without its magic number")
            if kind <= Up.END:
                work = in_flight[turn]
                slot = work.slot
                if slot.number != number or not header <= nbytes <= high_water:
                    raise CorruptRecord(f"a batch of {nbytes} bytes in slot {number}, which has {high_water}")
                publish(slot, high_water, flags & HELD)
                work.header_offset, work.nbytes = header, nbytes
                if kind != _BATCH:
                    work.is_plain = False
                    work.is_end = kind == Up.END
                    link.has_ended = link.has_ended or work.is_end
                elif flags & NEW_SPEC:
                    self._learn_spec(link, spec, work)
                else:
                    work.read = specs[spec]
                num_bytes += header
                compute_ns += compute
                copy_ns += copy
                wait_ns += wait
                if work.is_end or work.cancelled:
                    self.ring.release(slot)
                if not work.cancelled:
                    link.published += 1
                    ready[work.ticket.number] = work
                del in_flight[turn]  # last: an interrupt in between leaves it to be computed again
            elif kind == Up.FULL:
                self.pressure.note(link, turn)
            elif kind == Up.LOADED:
                link.states.remove(turn)
                self.state.loaded(self, turn)
            elif kind == Up.LET_GO:
                self.ring.slots.let_go(number)
            else:
                raise CorruptRecord(f"a report of kind {kind}")
        self.num_bytes += num_bytes
        self.compute_ns += compute_ns
        self.copy_ns += copy_ns
        self.credit_wait_ns += wait_ns
        count = len(data) // REPORT.size
        self._item_ns += ((compute_ns + copy_ns) // count - self._item_ns) >> 4
        link.busy_since = _clock()
        self.deaths.silent = 0
        self.chunk = self._run = min(self._max_chunk, max(1, _CHEAP_NS // (self._item_ns + 1)))

    def _learn_spec(self, link: Link, number: int, work: Work) -> None:
        """Read the spec that lies in the slot of its first batch; the batch's own header follows its place."""
        memory, start, header = self.ring.memory, work.slot.offset, work.header_offset
        if work.nbytes - header < 16:
            raise CorruptRecord("a batch without the place of its spec")
        at, length = (int(word) for word in np.frombuffer(memory, "<i8", 2, start + header))
        if not 0 <= at <= at + length <= header:
            raise CorruptRecord("a spec outside of its batch")
        work.read = ReadSpec(load_spec(memory[start + at : start + at + length]))
        work.header_offset += 16
        if number != UNNUMBERED:
            link.specs[number] = work.read

    # -- Epochs and the end

    def cancel(self) -> None:
        """Forget all tickets; what is at work is dropped when it is done."""
        for work in self.ready.values():
            if isinstance(work, Work) and not work.is_end:
                self.ring.release(work.slot)
        self.ready.clear()
        self.pending.clear()
        for link in self.roster.links.values():
            self.take_unread(link)
            link.flush()
            link.published = 0
            for work in link.in_flight.values():
                work.cancelled = True

    def is_stale(self) -> bool:
        """Whether the workers have an older state of the source, or nobody knows."""
        return self.state.is_stale()

    def refresh(self) -> None:
        """Make the workers compute from the source's present state."""
        self.state.refresh(self)

    def restart_workers(self) -> None:
        """End all workers and start others, from the launcher's present image; nothing that counts is in flight."""
        self.roster.end_workers(None)
        while self.roster.gone:
            self.deaths.bury(self.roster.gone.pop())
        if isinstance(self.roster.launcher, Forker):
            self.roster.drop_launcher()
        self._start_workers()

    def reset(self) -> None:
        """End all workers, forget all tickets, and begin anew: an interrupt has left the books in an unknown state.

        Raises:
            RuntimeError: The source is a generator object, which cannot give again what is lost.
        """
        self.roster.end_workers(None, is_urgent=True)
        while self.roster.gone:
            self.roster.gone.pop().close()
        self.ready.clear()
        self.pending.clear()
        self.state.forget_loading()
        self.pressure.reset()
        self.ring.reset()
        if not self.options.can_replay:
            raise RuntimeError(
                "an interrupt fell between two elements of a generator object, which gives them only once"
            )
        self._start_workers(tuple(self.pipeline.counts))

    def evict(self, *, beyond: int) -> bool:
        """Move the finished batch that is furthest from its turn out of the ring; False if there is none."""
        later = [
            number
            for number, work in self.ready.items()
            if number > beyond and isinstance(work, Work) and not work.is_end
        ]
        if not later:
            return False
        work = self.ready[max(later)]
        assert isinstance(work, Work)
        self.ready[max(later)] = work.move_out()
        return True

    def give_up(self, ticket: Ticket, error: Exception) -> None:
        """A ticket that no worker can answer: it is an error at its place in the order."""
        self.ready[ticket.number] = Failure(error)

    def wake(self) -> None:
        """Make a blocked `wait` return."""
        try:
            os.write(self._wake_write, b"!")
        except (BlockingIOError, OSError):
            return  # full: it wakes as it is; closed: nobody waits

    def stop(self, timeout_s: float | None) -> None:
        """End the workers, park the nursery, let go of the ring.

        Raises:
            StopTimeout: Some workers did not end in time.
        """
        reusable = False
        with HeldBack():
            try:
                self.roster.end_workers(timeout_s)
                reusable = True
            finally:
                self.roster.close(reusable=reusable)
                self._close_wakeup()
                self.ready.clear()
                self.ring.close()

    def _close_wakeup(self) -> None:
        ends = self._wake_read, self._wake_write
        self._wake_read = self._wake_write = -1  # a `wake` that comes late must not write to a stranger
        for fd in ends:
            descriptors.close(fd)
