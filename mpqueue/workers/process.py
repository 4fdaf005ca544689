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

import os
import select
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from mpqueue.control import descriptors
from mpqueue.control.pipeline import Pipeline
from mpqueue.control.records import GRANT, HELD, MAGIC, NEW_SPEC, REPORT, CorruptRecord, Down, Up
from mpqueue.control.schedule import Ticket
from mpqueue.errors import BatchTimeout, WorkerDied
from mpqueue.memory.layout import UNNUMBERED, ReadSpec, load_spec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import SlotError
from mpqueue.workers.context import WorkerInfo
from mpqueue.workers.hang import HangWatch
from mpqueue.workers.launcher import Forker, LauncherGone
from mpqueue.workers.loop import WorkerConfig
from mpqueue.workers.pressure import Pressure
from mpqueue.workers.roster import Exit, Link, Roster
from mpqueue.workers.state import SourceState
from mpqueue.workers.work import FailedWork, Work

MAX_CREDIT = 4096
_READ_BYTES = REPORT.size * 512
_STEAL_AFTER_NS = 300_000  # taking back costs about 5 µs: not worth it for work that is nearly done
_STEAL_WAIT_S = 0.001

# A grant or report to a process that sleeps costs some 5 to 20 µs to wake it. Cheap batches are dealt several in a row
# to one worker, and not before several can be dealt: 2 to 3 times the rate for the smallest ones.
_CHEAP_NS = 300_000

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
        self.ready: dict[int, Work | FailedWork] = {}
        self.chunk = self._run = 1  # tickets per `pump`, and in a row to one worker
        self.low_water = 2 * options.num_workers
        self._max_chunk = max(1, pipeline.credit // 2)
        self._item_ns = _CHEAP_NS
        self.compute_ns = self.copy_ns = self.credit_wait_ns = self.num_bytes = 0
        self.num_retries = self.num_deaths = self.num_restarts = 0
        self.pipeline, self.state, self.options = pipeline, state, options
        self.ring = Ring(pipeline.credit, options.num_workers, copy=options.copy)
        self._config = WorkerConfig(
            WorkerInfo(0, options.num_workers, options.seed), options.is_stream, self.ring.segment.size,
            self.ring.segment.kind, self.ring.stride, options.max_batch_bytes,
        )  # fmt: skip
        self._hang = HangWatch(options.batch_timeout) if options.batch_timeout is not None else None
        self.roster = Roster(state.launch(), self.ring.segment.fd, self._config_of, with_stacks=self._hang is not None)
        self.pressure = Pressure(self)
        self.pending: deque[Ticket] = deque()
        self._rotation = 0
        self._deaths: dict[int, int] = {}  # of workers, by the number of the ticket that they were working on
        self._silent_deaths = 0  # of workers with nothing to do, since the last report
        self._is_working = False  # inside the books; still set at the next call after an interrupt
        self._wake_read, self._wake_write = descriptors.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.roster.epoll.register(self._wake_read, select.EPOLLIN)
        try:
            for worker in range(options.num_workers):
                self.roster.start(worker, skip=options.skip[worker] if options.skip else 0)
            self._bury_all(self.roster.await_starts())
        except LauncherGone:
            self.stop(0)
            raise WorkerDied(-1, None, remedy="The process that starts workers died while it started them") from None
        except BaseException:
            self.stop(0)
            raise

    def _config_of(self, worker: int, skip: int) -> WorkerConfig:
        info = self._config.info._replace(id=worker)
        return self._config._replace(info=info, epoch=self.pipeline.schedule.epoch, skip=skip)

    # -- Dealing

    def pump(self) -> None:
        """Deal what credit and slots allow, tickets that came back first."""
        deal, pending, roster, ring = self.pipeline.deal, self.pending, self.roster, self.ring
        links = roster.links
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
            link.outbox += GRANT.pack(
                MAGIC, Down.WORK, slot.number, slot.turn, ticket.unit, ticket.epoch, slot.high_water
            )
            touched.add(link)
        for link in touched:
            if links.get(link.worker) is link:
                link.flush()

    def _choose(self, ticket: Ticket) -> Link | None:
        """The ticket's own worker, or the less busy one of the next two in turn; None if it is being replaced."""
        links = self.roster.links
        if ticket.lane >= 0:
            return links.get(ticket.lane)
        count = self.options.num_workers
        self._rotation = first = (self._rotation + 1) % count
        one, two = links.get(first), links.get((first + 1) % count)
        if one is None or (two is not None and len(two.in_flight) < len(one.in_flight)):
            one = two
        return one if one is not None else next(iter(links.values()), None)

    def _take_back(self) -> float | None:
        """Give idle workers what the busiest have not begun; seconds to wait until that is worth trying again."""
        links = self.roster.links.values()
        idle = sum(not link.in_flight for link in links)
        if not idle or self.options.is_stream:
            return None
        victim = max(links, key=lambda link: len(link.in_flight) if link.is_stealable else 0)
        if not victim.is_stealable:
            return None
        if _clock() - victim.busy_since < _STEAL_AFTER_NS:
            return _STEAL_WAIT_S
        count = -(-(len(victim.in_flight) - 1) // (idle + 1))
        taken = [work.ticket for work in self._unread(victim, count)]
        self.pending.extendleft(reversed(taken))
        if taken:
            self.pump()
        return None

    def _unread(self, link: Link, count: int) -> list[Work]:
        """Take grants of work that the worker has not read out of its pipe; their slots are free again.

        Other grants go back into the pipe: the worker has to load that state all the same.
        """
        taken: list[Work] = []
        if link.take_back < 0:
            return taken
        try:
            data = os.read(link.take_back, count * GRANT.size)
        except BlockingIOError:
            return taken
        for fields in GRANT.iter_unpack(data):
            _magic, kind, _slot, turn, *_ = fields
            if kind == Down.WORK:
                work = link.in_flight.pop(turn)
                self.ring.slots.release(work.slot)
                if not work.cancelled:
                    taken.append(work)
            else:
                link.outbox += GRANT.pack(*fields)
        link.flush()
        return taken

    # -- Taking in

    def wait(self, head: int, *, block: bool = True) -> None:
        """Take in reports and exits; with ``block``, wait for one if there is none."""
        if self._is_working:
            self._recover_from_interrupt()
        self.pressure.relieve(head)
        timeout_s = self._timeout_s() if block else 0
        events = self.roster.epoll.poll(timeout_s)
        self._is_working = True
        if not events and self._hang is not None:
            self._hang.end_hanging(self.roster)
        launcher_fd = self.roster.launcher.fileno()
        has_exits = False
        for fd, _ in events:
            link = self.roster.by_reports.get(fd)
            if link is not None:
                self._drain(link)
            elif fd == self._wake_read:
                os.read(fd, 4096)
            elif fd == launcher_fd:
                has_exits = True
        if has_exits:
            self._take_exits()
        self._is_working = False

    def _timeout_s(self) -> float | None:
        waits = [self._take_back(), self._hang.time_left_s(self.roster) if self._hang is not None else None]
        return min((wait for wait in waits if wait is not None), default=None)

    def _drain(self, link: Link) -> bool:
        """Enter what a worker has reported; False at the end of its pipe, or if there is nothing now."""
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
        publish, in_flight, ready = self.ring.slots.publish, link.in_flight, self.ready
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
                publish(slot, high_water, held=flags & HELD)
                work.header_offset, work.nbytes = header, nbytes
                if kind == Up.BATCH:
                    if flags & NEW_SPEC:
                        self._learn_spec(link, spec, work)
                    else:
                        work.read = link.specs[spec]
                    self.num_bytes += header
                self.compute_ns += compute
                self.copy_ns += copy
                self.credit_wait_ns += wait
                self._item_ns += (compute + copy - self._item_ns) >> 4
                if kind == Up.END:
                    work.is_end = True
                    self.ring.release(slot)
                elif work.cancelled:
                    self.ring.release(slot)
                if not work.cancelled:
                    link.published += 1
                    ready[work.ticket.number] = work
                del in_flight[turn]  # last: an interrupt in between leaves it to be computed again
            elif kind == Up.FULL:
                self.pressure.note(link, turn, nbytes)
            elif kind == Up.LOADED:
                link.states.remove(turn)
                self.state.loaded(self, turn)
            elif kind == Up.LET_GO:
                self.ring.slots.let_go(number)
            else:
                raise CorruptRecord(f"a report of kind {kind}")
        link.busy_since = _clock()
        self._silent_deaths = 0
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

    # -- Deaths

    def _take_exits(self) -> None:
        try:
            exits = self.roster.events()
        except LauncherGone:
            self._replace_launcher()
            return
        except Exception as error:
            self.pipeline.fail(error)
            return
        self._bury_all(exits)

    def _bury_all(self, exits: list[Exit]) -> None:
        for leaving in exits:
            culprit = self._bury(leaving.link)
            self.num_deaths += 1
            self._blame(leaving, culprit)
            self._replace(leaving.link)
        if exits:
            self.pump()

    def _bury(self, link: Link) -> Ticket | None:
        """Enter the last reports of a worker that is gone, and free its grants; the ticket that it was working on."""
        while self._drain(link):
            pass
        unread = self._unread(link, MAX_CREDIT)
        begun = self._write_off(link)
        self.ring.slots.forget_worker(link.worker)
        again = [work.ticket for work in (*begun, *unread) if not work.cancelled]
        self.num_retries += len(again)
        self.pending = deque(sorted((*again, *self.pending)))
        link.close()
        return begun[0].ticket if begun and not begun[0].cancelled else None

    def _write_off(self, link: Link) -> list[Work]:
        """A worker is gone: free what it was granted and has not reported, and give that back."""
        begun = [work for work in link.in_flight.values() if work.ticket.number not in self.ready]
        for work in begun:
            self.ring.slots.release(work.slot)
        for turn in link.states:
            self.state.loaded(self, turn)
        self.pressure.forget(link)
        link.in_flight.clear()
        link.states.clear()
        return begun

    def _blame(self, leaving: Exit, ticket: Ticket | None) -> None:
        """Count a death against the ticket that the worker was working on; give the ticket up if it is one too many."""
        link, options = leaving.link, self.options
        if link.is_blameless:
            return
        if ticket is None:
            self._silent_deaths += 1
            if self._silent_deaths <= options.restarts + options.num_workers:
                return
            remedy = "Workers die before they compute anything: look at `worker_init` and at what the source imports"
            error: BaseException = WorkerDied(
                link.worker, leaving.exitcode, None, None, leaving.peak_bytes, remedy=remedy
            )
            self._silent_deaths = 0
            self.pipeline.fail(error)
            return
        deaths = self._deaths[ticket.number] = self._deaths.get(ticket.number, 0) + 1
        if deaths <= options.restarts and options.can_replay:
            return
        if link.dumped is not None and options.batch_timeout is not None:
            error = BatchTimeout(ticket.unit, ticket.epoch, options.batch_timeout, link.dumped)
        else:
            remedy = (
                f"It was tried {deaths} times. Run that index in the main process (workers=0) to see why"
                if options.can_replay
                else "A generator object cannot be computed again: pass a generator function instead"
            )
            error = WorkerDied(
                link.worker, leaving.exitcode, ticket.unit, ticket.epoch, leaving.peak_bytes, remedy=remedy
            )
        del self._deaths[ticket.number]
        self.pending.remove(ticket)
        self.ready[ticket.number] = FailedWork(error)

    def _replace(self, link: Link) -> None:
        try:
            self.roster.start(link.worker, skip=link.published if self.options.is_stream else 0)
            self.num_restarts += 1
        except LauncherGone:
            self._replace_launcher()
        except OSError as error:
            self.pipeline.fail(error)

    def _replace_launcher(self) -> None:
        """The nursery was killed, and all workers with it: start all anew."""
        links = self.roster.strike_off_all()
        for link in links:
            self._bury(link)
        self.num_deaths += len(links)
        self._silent_deaths += 1
        if self._silent_deaths > self.options.restarts:
            remedy = "The process that starts workers was killed again and again"
            self.pipeline.fail(WorkerDied(-1, None, remedy=remedy))
            return
        self.roster.change_launcher(self.state.launch())
        for link in links:
            self._replace(link)

    def _recover_from_interrupt(self) -> None:
        self._is_working = False
        for link in list(self.roster.links.values()):
            link.is_blameless = True
            self.roster.kill(link)

    # -- Epochs and the end

    def cancel(self) -> None:
        """Forget all tickets; what is at work is dropped when it is done."""
        for work in self.ready.values():
            if isinstance(work, Work) and not work.is_end:
                self.ring.release(work.slot)
        self.ready.clear()
        self.pending.clear()
        self._deaths.clear()
        for link in self.roster.links.values():
            self._unread(link, MAX_CREDIT)
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
        """End all workers and start others, from the launcher's present image; what is in flight was cancelled."""
        links = list(self.roster.links.values())
        self.roster.end_workers(None)
        for link in links:
            self._write_off(link)
        self.ring.slots.forget_workers()
        if isinstance(self.roster.launcher, Forker):
            self.roster.change_launcher(self.state.launch())
        for worker in range(self.options.num_workers):
            self.roster.start(worker)
        self._bury_all(self.roster.await_starts())

    def evict(self, *, beyond: int) -> bool:
        """Drop the finished batch that is furthest from its turn, to be computed again; False if there is none."""
        later = [number for number, work in self.ready.items() if number > beyond and isinstance(work, Work)]
        if not later:
            return False
        work = self.ready.pop(max(later))
        assert isinstance(work, Work)
        self.ring.release(work.slot)
        self.pending.append(work.ticket)
        self.num_retries += 1
        return True

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
        try:
            self.roster.end_workers(timeout_s)
            reusable = True
        finally:
            self.roster.close(reusable=reusable)
            for fd in (self._wake_read, self._wake_write):
                descriptors.close(fd)
            self.ready.clear()
            self.ring.close()
