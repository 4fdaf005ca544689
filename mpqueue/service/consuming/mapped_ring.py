"""The server's ring, mapped read-only by a consumer. Rebuilds batches as views or as private copies.

    offered --open--> viewed --last view is gone--> ended --ASK--> released

`owed` contains the turns of all delivered batches until the server is notified of their release. `ended` contains those
without views. After an interrupt, which is possible between any two lines here, `ended` is computed again as the owed
turns without views.
"""

import mmap
import struct
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from mpqueue.errors import ServiceError
from mpqueue.memory import forked_views
from mpqueue.memory.layout import ReadSpec, Recipe, base_over
from mpqueue.memory.ring import HeldCopies, Leases
from mpqueue.memory.segment import ForeignSegment
from mpqueue.memory.slots import SPARE_SLOTS, Slot
from mpqueue.service.protocol import specs
from mpqueue.service.protocol.records import MAX_RELEASED, Offer
from mpqueue.service.protocol.specs import MissingClass, decode_spec
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import LateSpec, unreadable


class MappedRing:
    """A ring that another process writes.

    Args:
        segment: Its memory.
        stride: Bytes of address space per slot.
        copy: Return private copies only.
        allow_pickle: Whether to unpickle data from the server.

    Attributes:
        memory: The mapping, until `close`.
        allow_pickle: The argument.
        owed: Turns of batches that were delivered and not released.
        ended: Those without views.
        slots: The slots of all offers, by index.
        leases: The slots with views.
        num_copies: Number of batches opened as private copies.
    """

    def __init__(self, segment: ForeignSegment, stride: int, *, copy: bool, allow_pickle: bool) -> None:
        self.memory: mmap.mmap = segment.memory
        self._stride = stride
        # Made at the first offer of each: the server may belong to another user, and has chosen their indices.
        self.slots: dict[int, Slot] = {}
        self._num_slots = len(segment.memory) // stride
        self.leases = Leases(segment)
        # No view of the server's memory may exist with `copy`, so the first batch is copied already.
        self._max_leased = 0 if copy else SPARE_SLOTS
        self.allow_pickle = allow_pickle
        self._held_copies = HeldCopies('writable="copy"', is_asked_for=copy)
        self._specs: dict[int, ReadSpec] = {}
        self._latest_turn = 0  # of the batch opened last, if it can have views
        self.owed: dict[int, None] = {}
        self.ended: dict[int, None] = {}
        self.num_copies = 0

    def learn(self, spec_id: int, body: bytes, *, is_pickled: bool) -> None:
        """Store how batches of this spec are read.

        Raises:
            ServiceError: The spec is a pickle, which is not allowed.
            ProtocolError: The spec is invalid.
        """
        load = partial(decode_spec, body, is_pickled, allow_pickle=self.allow_pickle)
        try:
            self._specs[spec_id] = ReadSpec(load())
        except MissingClass:
            # The class may be imported later, before a batch of it arrives. Raise only when such a batch is opened.
            self._specs[spec_id] = LateSpec(load)
        # A source with a constantly changing structure would grow the dict without bound. The server has at most this
        # many specs, and their ids ascend.
        if len(self._specs) > specs.MAX_SPECS:
            del self._specs[min(self._specs)]

    def open(self, offer: Offer) -> Any:
        """Return the batch of an offer; `enter` follows when it is delivered.

        Raises:
            ServiceError: The batch contains a pickle, which is not allowed.
            ProtocolError: The batch is outside of the ring, or its spec is unknown.
            Unreadable: The batch cannot be unpickled in this process.
        """
        self._latest_turn = 0
        read, memory, slot_index = self._specs.get(offer.spec), self.memory, offer.slot
        header_offset, nbytes = offer.header_offset, offer.nbytes
        # The server may belong to another user. An offer outside of the mapping is invalid: reading there would crash
        # this process.
        if read is None or slot_index >= self._num_slots or not header_offset <= nbytes <= self._stride:
            raise ProtocolError(f"an offer outside of the ring or without a spec: {offer}")
        slot = self.slots.get(slot_index)
        if slot is None:
            slot = self.slots[slot_index] = Slot(slot_index, slot_index * self._stride)
        start = slot.offset
        # Copy the header, because the server could change it while it is parsed. Most headers equal the header of an
        # earlier batch, so parsed ones are cached.
        header = memory[start + header_offset : start + nbytes]
        recipe = read.recipes.get(header)
        if recipe is None:
            recipe = _parsed(read, header)
        if recipe.pickle_bytes and not self.allow_pickle:
            raise ServiceError(
                "a batch contains objects pickled by another user, and unpickling can run arbitrary code: "
                "attach with allow_pickle=True if you trust that user, or return only arrays from the source"
            )
        leases, num_live = self.leases, self.leases.num_live
        if num_live >= self._max_leased:  # the views of some of them may be collected
            self.collect()
            num_live = leases.num_live
        if not recipe.has_views:  # unpickled objects keep no memory of the slot
            base = np.frombuffer(memory, np.uint8, nbytes, start)
        elif num_live >= self._max_leased:
            # A consumer that keeps many batches gets copies: its views would leave the server without free slots.
            forked_views.collect()  # for the next batches
            self.num_copies += 1
            self._held_copies.note(nbytes, num_live)
            # Copy the arrays' bytes at once, and rebuild the batch on the copy: one memcpy, whatever the number of
            # arrays.
            private = base_over(memory, start, header_offset, None).copy()
            base = base_over(private, 0, header_offset, recipe.structure)
        else:
            slot.turn = self._latest_turn = offer.turn
            base = leases.lease(slot, header_offset, recipe.structure)
        try:
            return read.rebuild(recipe, base)
        except BaseException as error:
            raise unreadable(error) from error

    def enter(self, offer: Offer) -> None:
        """Record the delivery of the batch opened last; may be repeated."""
        turn = offer.turn
        self.owed[turn] = None
        # A private copy, or a batch without arrays: it has no view of the slot, so the slot can be released at once.
        if turn != self._latest_turn:
            self.ended[turn] = None

    def collect(self) -> None:
        """Find the batches without views."""
        owed = self.owed
        for slot in self.leases.take_ended():
            # Skip a batch that was opened but not delivered because of an interrupt: it will be opened again.
            if slot.turn in owed:
                self.ended[slot.turn] = None

    def next_released(self) -> tuple[int, ...]:
        """Return the turns that the next request can release."""
        return tuple(islice(self.ended, MAX_RELEASED)) if self.ended else ()

    def forget(self, released: tuple[int, ...]) -> None:
        """Forget turns that were released; may be repeated."""
        for turn in released:
            self.owed.pop(turn, None)
            self.ended.pop(turn, None)

    def recover(self) -> None:
        """Recompute after an interrupt which batches have no views."""
        # One assignment: an interrupt in this method leaves the old value, and the next `recover` starts again.
        looked_at = {slot.turn for slot in self.leases.reset()}
        self.ended = {turn: None for turn in self.owed if turn not in looked_at}

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return not hasattr(self, "memory")

    def close(self) -> None:
        """Release the memory, which remains mapped while views of it exist; idempotent.

        The server reuses the memory when it is unmapped here. So what forked children may read remains mapped.
        """
        if not self.is_closed:
            forked_views.collect()
            del self.memory
            self.leases.close()


def _parsed(read: ReadSpec, header: bytes) -> Recipe:
    """Return the recipe of a header that no earlier batch had.

    Raises:
        ProtocolError: The header does not match the spec.
    """
    try:
        return read.recipes[header]
    except (IndexError, ValueError, struct.error) as error:
        raise ProtocolError("a batch header that does not match its spec") from error
