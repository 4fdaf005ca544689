"""The server's ring as a consumer has it: mapped for reading, its batches rebuilt as views or as private copies.

    offered --open--> looked at --the last view is gone--> ended --ASK--> released

`owed` has the turns of all batches that were handed out, until the server is told that the consumer looks at them no
more; `ended` has those of them whose time has come. So after an interrupt, which may strike between any two lines here,
`ended` can be made anew: it is what is owed and has no view.
"""

import mmap
import struct
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from mpqueue.errors import ServiceError
from mpqueue.memory.layout import ReadSpec, Recipe, base_over
from mpqueue.memory.ring import SPARE_SLOTS, HeldCopies, Leases
from mpqueue.memory.segment import ForeignSegment
from mpqueue.memory.slots import Slot
from mpqueue.service.records import MAX_RELEASED, Offer
from mpqueue.service.specs import MissingClass, decode_spec
from mpqueue.system.interrupts import defer_signals
from mpqueue.telemetry.recorder import Recorder
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import LateSpec, unreadable


class MappedRing:
    """A ring that another process writes.

    Args:
        segment: Its memory.
        stride: Bytes of address space per slot.
        copy: Hand out private copies only.
        allow_pickle: Unpickle what the server has pickled.

    Attributes:
        memory: The mapping, until `close`.
        allow_pickle: As given.
        owed: Turns of batches that were handed out, and not released.
        ended: Those of them that have no view any more.
        num_copies: Batches that were opened as private copies.
    """

    def __init__(self, segment: ForeignSegment, stride: int, *, copy: bool, allow_pickle: bool) -> None:
        self.memory: mmap.mmap = segment.memory
        self._stride = stride
        self._slots = [Slot(number, number * stride) for number in range(len(segment.memory) // stride)]
        self._leases = Leases(segment)
        self._max_leased = 0 if copy else SPARE_SLOTS
        self.allow_pickle = allow_pickle
        self._held_copies = HeldCopies('writable="copy"', is_asked_for=copy)
        self._specs: dict[int, ReadSpec] = {}
        self._latest_turn = 0  # of the batch that was opened last, if there may be views of it
        self.owed: dict[int, None] = {}
        self.ended: dict[int, None] = {}
        self.num_copies = 0

    @property
    def num_leased(self) -> int:
        """Slots that there are views of."""
        return self._leases.num_live

    def learn(self, number: int, body: bytes, *, is_pickled: bool) -> None:
        """Note how batches of this spec are read.

        Raises:
            ServiceError: It is a pickle, and those are not allowed.
            ProtocolError: It is no spec.
        """
        load = partial(decode_spec, body, is_pickled, allow_pickle=self.allow_pickle)
        try:
            self._specs[number] = ReadSpec(load())
        except MissingClass:
            self._specs[number] = LateSpec(load)

    def open(self, offer: Offer) -> Any:
        """Return the batch of an offer; `enter` follows when it is handed out.

        Raises:
            ServiceError: Something of it is a pickle, and those are not allowed.
            ProtocolError: It lies nowhere in the ring, or nobody knows how to read it.
            Unreadable: It cannot be unpickled here.
        """
        self._latest_turn = 0
        read, memory, number = self._specs.get(offer.spec), self.memory, offer.slot
        header_offset, nbytes = offer.header_offset, offer.nbytes
        # The server may be another user's: what it offers lies inside of what is mapped, or is refused.
        if read is None or number >= len(self._slots) or not header_offset <= nbytes <= self._stride:
            raise ProtocolError(f"an offer of a batch that cannot be there: {offer}")
        slot = self._slots[number]
        start = slot.offset
        # By a copy of the bytes, which cannot change while it is parsed. Most are as those of a batch before.
        header = memory[start + header_offset : start + nbytes]
        recipe = read.recipes.get(header)
        if recipe is None:
            recipe = _parsed(read, header)
        if recipe.pickle_bytes and not self.allow_pickle:
            raise ServiceError(
                "a batch holds objects that the server of another user has pickled, and a pickle can run any code: "
                "attach with allow_pickle=True if you trust that user, or have the source return arrays only"
            )
        leases = self._leases
        if not recipe.has_views:  # nothing of it stays in the slot
            base = np.frombuffer(memory, np.uint8, nbytes, start)
        elif leases.num_live >= self._max_leased:  # else who keeps batches would leave the server without slots
            self.num_copies += 1
            self._held_copies.note(nbytes, self.num_leased)
            private = base_over(memory, start, header_offset, None).copy()
            base = base_over(private, 0, header_offset, recipe.structure)
        else:
            slot.turn = self._latest_turn = offer.turn
            base = leases.lease(slot, header_offset, recipe.structure)
        try:
            return read.rebuild(recipe, base)
        except Exception as error:
            raise unreadable(error, partial(read.rebuild, recipe, base)) from error

    def time_lease(self, slot: int, recorder: Recorder) -> None:
        """Enter the time of the lease of a slot when it ends, if there is one."""
        self._leases.watch_end(self._slots[slot], recorder.lease(slot))

    def enter_leases(self) -> None:
        """Enter the times of leases that have ended; from any thread."""
        self._leases.report_ended()

    def enter(self, offer: Offer) -> None:
        """Note that the batch that was opened last is handed out; may be repeated."""
        turn = offer.turn
        self.owed[turn] = None
        # A private copy, or one of which nothing stays in the slot: there is no view whose end would tell.
        if turn != self._latest_turn:
            self.ended[turn] = None

    def collect(self) -> None:
        """Note the batches whose last view is gone."""
        owed = self.owed
        for slot in self._leases.take_ended():
            # Not that of a batch that an interrupt kept from being handed out: it is still to come.
            if slot.turn in owed:
                self.ended[slot.turn] = None

    def next_released(self) -> tuple[int, ...]:
        """Return the turns that the next request can release."""
        return tuple(islice(self.ended, MAX_RELEASED)) if self.ended else ()

    def forget(self, released: tuple[int, ...]) -> None:
        """Note that the server was told of these; may be repeated."""
        for turn in released:
            self.owed.pop(turn, None)
            self.ended.pop(turn, None)

    def recover(self) -> None:
        """Find out anew which batches have ended, after an interrupt."""
        # By one assignment: an interrupt in here leaves the old one, and the next `recover` begins anew.
        looked_at = {slot.turn for slot in self._leases.reset()}
        self.ended = {turn: None for turn in self.owed if turn not in looked_at}

    def close(self) -> None:
        """Let go of the memory, which lives on while views of it do; idempotent."""
        if hasattr(self, "memory"):
            del self.memory
            self._leases.close()


def _parsed(read: ReadSpec, header: bytes) -> Recipe:
    """Return the recipe of a header that no batch had before.

    Handlers of signals are deferred: what they raise must not be taken for a fault of the server.

    Raises:
        ProtocolError: The header does not fit the spec.
    """
    with defer_signals():
        try:
            return read.recipes[header]
        except (IndexError, ValueError, struct.error) as error:
            raise ProtocolError("the header of a batch that is not of its spec") from error
