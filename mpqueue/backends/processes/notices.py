"""The reports of workers other than outcomes of work items: needs, leases, awaited calls and observations."""

import struct
from typing import NamedTuple

from mpqueue.backends.processes.handle import WorkerHandle
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.system.program_streams import warn_caller
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.concurrency.stuck import tell_blocked
from mpqueue.worker.records import OF_GROUP, ReportKind

_WORDS = struct.Struct("<6Q")


class Notice(NamedTuple):
    """A report that is not an outcome, see `mpqueue.worker.records`.

    Attributes:
        kind: A `ReportKind`.
        flags: Its flags.
        slot: The index of a slot.
        turn: The turn of a grant, or a row of a `mpqueue.worker.random_state.shuffle_detection.OrderFingerprint`.
        spec: The elements of such a fingerprint.
        words: The last six fields of the record: sizes, or a part of a string.
    """

    kind: int
    flags: int
    slot: int
    turn: int
    spec: int
    words: tuple[int, int, int, int, int, int]


class Notices:
    """Processes the notices of the workers of one pool.

    Args:
        pool: The pool.
        pressure: Gets the workers that lack memory.
    """

    def __init__(self, pool: WorkerPool, pressure: MemoryPressure) -> None:
        self._pool, self._pressure = pool, pressure
        # Attributes that the first item of a worker has bound, by name and elements: for each row, whether a worker
        # kept it.
        self._orders: dict[tuple[str, int], dict[int, bool]] = {}
        self._warned: set[str] = set()

    def enter(self, worker: WorkerHandle, notice: Notice) -> None:
        """Process a report that is neither an outcome nor the times of one.

        Raises:
            KeyError: Its turn was not granted.
            ProtocolError: The worker cannot send such a report.
        """
        kind, flags, slot, turn, _, (first, second, high_water, *_others) = notice
        slots = self._pool.ring.slots
        if kind == ReportKind.MARK:
            worker.mark = (worker.in_flight[turn].slot.turn, (first, second, high_water)) if flags else None
        elif kind in (ReportKind.BLOCKED, ReportKind.AWAITS):
            self._enter_text(worker, notice)
        elif kind == ReportKind.ORDER:
            self._enter_order(notice)
        elif kind == ReportKind.FULL:
            work = worker.in_flight[turn]
            work.slot.high_water = max(work.slot.high_water, min(high_water, self._pool.ring.stride))
            if worker.life.starve():
                self._pressure.note(worker, work, is_of_group=bool(flags & OF_GROUP))
        elif kind == ReportKind.LOADED and turn in worker.loading:
            self._pool.sync.note_loaded(self._pool.ring, worker, turn)
        elif kind == ReportKind.LET_GO and slot < slots.num_slots and slots.slots[slot].owner == worker.index:
            slots.let_go(slot)
        else:
            raise ProtocolError(
                f"worker {worker.index} cannot send a report of kind {kind} for slot {slot} and turn {turn}"
            )

    def _enter_text(self, worker: WorkerHandle, notice: Notice) -> None:
        """Process a part of a string: the coroutine that a worker awaits, or a call that blocks an event loop.

        Such a call is logged once for each line of code.
        """
        part = _WORDS.pack(*notice.words)
        worker.told += part.rstrip(b"\0") if notice.flags else part
        if notice.flags:
            text, worker.told = worker.told.decode(errors="replace"), bytearray()
            if notice.kind == ReportKind.AWAITS:
                worker.awaited = text
                return
            line = text.partition(" ")[0]
            if line not in self._warned:
                self._warned.add(line)
                tell_blocked(text)

    def _enter_order(self, notice: Notice) -> None:
        """Process an order that the first item of a worker has bound; warn if another worker has a different one."""
        row, elements, is_kept = notice.turn, notice.spec, bool(notice.flags)
        shown = _WORDS.pack(*notice.words).rstrip(b"\0").decode(errors="replace")
        rows = self._orders.setdefault((shown, elements), {})  # of other elements: it differs by item
        rows[row] = is_kept or rows.get(row, False)
        if len(rows) < 2 or not any(rows.values()) or shown in self._warned:
            return
        self._warned.add(shown)
        warn_caller(
            f"{shown} was created by the first item in each worker process, with a different order in each, so some "
            f"items are repeated and others are missing. Create it in {shown.partition('.')[0]}.__init__ and in "
            "on_epoch_end, which run in the main process",
            UserWarning,
        )
