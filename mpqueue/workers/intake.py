"""Taking in what workers report.

Nothing that comes out of a worker's pipe is believed blindly: user code may have written to a wrong descriptor. A
report must be of a turn that this worker has been granted, of the slot of that turn, and within its bounds; else the
worker counts as broken and is ended.
"""

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from mpqueue.memory.layout import UNNUMBERED
from mpqueue.memory.recipes import ReadSpec, load_spec
from mpqueue.memory.slots import SlotError
from mpqueue.workers.records import HELD, MAGIC, NEW_SPEC, REPORT, CorruptRecord, Up
from mpqueue.workers.roster import Link
from mpqueue.workers.work import Work

if TYPE_CHECKING:
    from mpqueue.workers.process import ProcessBackend

_READ_BYTES = REPORT.size * 512
_BATCH = Up.BATCH
_clock = time.perf_counter_ns


class Intake:
    """Enters the reports of one pool into its books.

    Attributes:
        compute_ns: Nanoseconds that workers spent in user code,
        copy_ns: in writing batches,
        wait_ns: and waiting for grants.
        num_bytes: Bytes of all batches.
    """

    def __init__(self, backend: "ProcessBackend") -> None:
        self.compute_ns = self.copy_ns = self.wait_ns = self.num_bytes = 0
        self._backend = backend

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
            self._backend.roster.silence(link)
            return False
        return True

    def _enter(self, link: Link, data: bytes) -> None:
        if len(data) % REPORT.size:
            raise CorruptRecord(f"{len(data)} bytes are no whole number of reports")
        backend = self._backend
        publish, in_flight, ready, specs = backend.ring.slots.publish, link.in_flight, backend.ready, link.specs
        num_bytes = compute_ns = copy_ns = wait_ns = 0
        for (
            magic, kind, flags, number, turn, spec, header, nbytes, high_water, compute, copy, wait,
        ) in REPORT.iter_unpack(data):  # fmt: skip
            if magic != MAGIC:
                raise CorruptRecord("a report without its magic number")
            if kind > Up.END:
                self._enter_notice(link, kind, number, turn, high_water)
                continue
            work = in_flight[turn]
            slot = work.slot
            if slot.number != number or not header <= nbytes <= high_water:
                raise CorruptRecord(f"a batch of {nbytes} bytes in slot {number}, which has {high_water}")
            publish(slot, high_water, flags & HELD)
            work.header_offset, work.nbytes = header, nbytes
            if kind != _BATCH:
                if kind < _BATCH:
                    raise CorruptRecord(f"a report of kind {kind}")
                work.is_plain, work.read = False, None
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
                backend.ring.release(slot)
            if not work.cancelled:
                link.published += 1
                ready[work.ticket.number] = work
            del in_flight[turn]  # last: an interrupt in between leaves it to be computed again
        self.num_bytes += num_bytes
        self.compute_ns += compute_ns
        self.copy_ns += copy_ns
        self.wait_ns += wait_ns
        link.busy_since = _clock()
        backend.deaths.silent = 0
        backend.dealer.note_cost((compute_ns + copy_ns) // (len(data) // REPORT.size))

    def _enter_notice(self, link: Link, kind: int, number: int, turn: int, high_water: int) -> None:
        """Whatever is not the outcome of a ticket."""
        if kind == Up.FULL:
            self._backend.pressure.note(link, turn, high_water)
        elif kind == Up.LOADED:
            link.states.remove(turn)
            self._backend.state.loaded(self._backend, turn)
        elif kind == Up.LET_GO:
            slots = self._backend.ring.slots
            if number >= slots.num_slots or slots.slots[number].owner != link.worker:
                raise CorruptRecord(f"worker {link.worker} never had slot {number}")
            slots.let_go(number)
        else:
            raise CorruptRecord(f"a report of kind {kind}")

    def _learn_spec(self, link: Link, number: int, work: Work) -> None:
        """Read the spec that lies in the slot of its first batch; the batch's own header follows its place."""
        memory, start, header = self._backend.ring.memory, work.slot.offset, work.header_offset
        if work.nbytes - header < 16:
            raise CorruptRecord("a batch without the place of its spec")
        at, length = (int(word) for word in np.frombuffer(memory, "<i8", 2, start + header))
        if not 0 <= at <= at + length <= header:
            raise CorruptRecord("a spec outside of its batch")
        try:
            work.read = ReadSpec(load_spec(memory[start + at : start + at + length]))
        except Exception as error:  # whatever unpickling raises that is given something else
            raise CorruptRecord("a spec that is none") from error
        work.header_offset += 16
        if number != UNNUMBERED:
            link.specs[number] = work.read
