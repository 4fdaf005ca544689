"""Slot states of one ring; only the trainer changes them. Pure: no memory, no processes.

    FREE --grant--> GRANTED --publish--> READY --take---> LEASED --release--------> FREE (or RETIRED)
      ^                |                   |
      +----reclaim-----+-------------------+---share--> SHARED --release--------> FREE (or RETIRED)

    RETIRED: nobody reads it any more, and its worker's code still holds an array in it  --let_go--> FREE

A slot is *leased* to the one consumer of this process, or *shared* with other processes; a server knows with which
(`mpqueue.service.loop`), and releases it when none of them looks at it any more.

A dying worker can leave no lock held and no word half written, having neither: it owns payload bytes only. Messages
name a *turn*, not a slot: a number that is never used again, so that a late message from a turn that was reclaimed is
recognised instead of publishing foreign bytes.

A free slot is dealt last in, first out, and a worker is given back the slots that it wrote before: their pages are
warm in its page table (the first write of 19 MiB costs 6 to 18 ms, a later one about 1 ms). A *large* slot, which has
much memory already, goes before one that has none, also to a worker that never wrote it: to map the pages of another
costs a third of what new pages do, which the kernel has to find and to zero.
"""

import enum

PAGE = 4096
# A slot with so much memory is large: it is dealt before one without. Smaller ones are quickly had.
LARGE_BYTES = 1 << 20


class SlotState(enum.Enum):
    """Owner of the bytes of a slot."""

    FREE = "free"
    GRANTED = "granted"
    READY = "ready"
    LEASED = "leased"
    SHARED = "shared"
    RETIRED = "retired"


_FREE, _GRANTED, _READY, _LEASED, _SHARED, _RETIRED = SlotState  # by attribute each costs 0.14 µs in Python 3.11


class SlotError(Exception):
    """A move that the diagram does not have: a defect of the dispatcher, or a corrupt record."""


class Slot:  # no dataclass, as the table below: to make the two classes would take a millisecond of each start
    """One slot: its place, its state, and what is known of its pages.

    Attributes:
        number: From 0.
        offset: First byte in the segment.
        state: Who owns the bytes.
        turn: Number of the turn that owns it now, 0 when free.
        owner: Worker that was granted it last: its pages are warm there.
        high_water: Bytes that are reserved.
        held: The worker's code still holds an array in it: it may not be granted after its release.
    """

    __slots__ = ("held", "high_water", "number", "offset", "owner", "state", "turn")

    def __init__(self, number: int, offset: int) -> None:
        self.number, self.offset = number, offset
        self.state = SlotState.FREE
        self.turn, self.owner, self.high_water, self.held = 0, -1, 0, False

    def __repr__(self) -> str:
        held = ", held" if self.held else ""
        of = f"turn {self.turn} of worker {self.owner}"
        return f"<Slot {self.number} at {self.offset}: {self.state.value}, {of}, {self.high_water} bytes{held}>"

    @property
    def is_large(self) -> bool:
        """True if it has much memory already."""
        return self.high_water >= LARGE_BYTES


class SlotTable:
    """All slots of a ring, and the only code that changes their states.

    Args:
        num_slots: How many.
        stride: Bytes of address space per slot.

    Attributes:
        slots: All of them, by number.
        num_leased: Slots that consumers have, here or in other processes.
        num_retired: Slots that wait for their worker's code.
        shares_large: A large slot goes to any worker before one without memory; False where memory is short: what is
            due first is not always granted first, and would lack it.
    """

    def __init__(self, num_slots: int, stride: int) -> None:
        self.num_slots, self.stride = num_slots, stride
        self.slots = [Slot(number, number * stride) for number in range(num_slots)]
        self.num_leased = self.num_retired = self._turns = 0
        self.shares_large = True
        self._free = {-1: self.slots[::-1]}  # by the worker for whom they are warm
        self._large: dict[int, list[Slot]] = {}  # the large ones of them

    def grant(self, worker: int) -> Slot | None:
        """FREE → GRANTED: a slot for ``worker``, large, and written by it before, if possible; None if none is free."""
        large = self._large  # empty as long as batches are small, which pay for no look into it
        stack = large.get(worker) or (self._a_large_stack() if large and self.shares_large else None)
        if not stack:
            stack = self._free.get(worker) or self._stack_of_another() or self._a_large_stack()
            if not stack:
                return None
        slot = stack.pop()
        # A new turn for each grant: a late report of the one before names a turn that owns no slot.
        self._turns = slot.turn = self._turns + 1
        slot.state, slot.owner = _GRANTED, worker
        return slot

    def _a_large_stack(self) -> list[Slot] | None:
        return next(filter(None, self._large.values()), None)

    def _stack_of_another(self) -> list[Slot] | None:
        return self._free.get(-1) or next(filter(None, self._free.values()), None)

    def publish(self, slot: Slot, high_water: int, held: int = 0) -> None:
        """GRANTED → READY: the worker has written it.

        Raises:
            SlotError: It was not granted, or there are bytes beyond its stride; nothing was changed.
        """
        if slot.state is not _GRANTED or high_water > self.stride:
            raise SlotError(f"slot {slot.number} is {slot.state.value} and cannot hold {high_water} published bytes")
        slot.state = _READY
        # A batch may need less than the slot has, and what was reserved stays with it.
        slot.high_water = max(slot.high_water, high_water)
        if held:
            slot.held = True

    def take(self, slot: Slot) -> None:
        """READY → LEASED: views of it go to the consumer."""
        if slot.state is not _READY:
            raise SlotError(f"slot {slot.number} is {slot.state.value} and cannot be taken")
        slot.state = _LEASED
        self.num_leased += 1

    def release(self, slot: Slot) -> None:
        """GRANTED, READY, LEASED or SHARED → FREE (RETIRED while the worker's code holds it): nobody reads it now."""
        if slot.state is _LEASED or slot.state is _SHARED:
            self.num_leased -= 1
        elif slot.state is _RETIRED or slot.state is _FREE:
            raise SlotError(f"slot {slot.number} is {slot.state.value} and cannot be released")
        # Before the stacks: granted again, another batch would be written over what the worker's code still has.
        if slot.held:
            slot.state = _RETIRED
            self.num_retired += 1
            return
        stack = self._free.get(slot.owner)
        if stack is None or slot.high_water >= LARGE_BYTES:
            self._set_free(slot)
            return
        slot.state, slot.turn = _FREE, 0  # `_set_free` without the call: each small batch comes by here
        stack.append(slot)

    def share(self, slot: Slot) -> None:
        """READY → SHARED: other processes have it.

        Raises:
            SlotError: It is in another state; nothing was changed.
        """
        if slot.state is not _READY:
            raise SlotError(f"slot {slot.number} is {slot.state.value} and cannot be shared")
        slot.state = _SHARED
        self.num_leased += 1

    def let_go(self, number: int) -> None:
        """The worker's code holds no array in the slot any more (or is gone): RETIRED → FREE."""
        slot = self.slots[number]
        slot.held = False
        if slot.state is _RETIRED:
            self.num_retired -= 1
            self._set_free(slot)

    def forget_worker(self, worker: int) -> None:
        """A worker is gone: nothing is held by its code, and no slot is warm for it."""
        for slot in self.slots:
            if slot.owner == worker:
                if slot.held:
                    self.let_go(slot.number)
                # Warm pages went with the process; a new worker may get this number.
                slot.owner = -1
        for free in (self._free, self._large):
            if worker in free:
                free.setdefault(-1, []).extend(free.pop(worker))

    def reset(self, leased: list[Slot]) -> None:
        """Nobody owns any slot but these, and those that are shared; whatever the states were, the others are FREE."""
        self.num_leased, self.num_retired = len(leased), 0
        self._free.clear()
        self._large.clear()
        for slot in self.slots:
            slot.owner, slot.held = -1, False
            if slot in leased:
                slot.state = _LEASED
            # Other processes look at it whatever has happened here: it is released by the one who shared it.
            elif slot.state is _SHARED:
                self.num_leased += 1
            else:
                self._set_free(slot)

    def shrink(self, slot: Slot, high_water: int) -> None:
        """So much memory is left to a free slot."""
        if slot.is_large:
            # Out of the stack of large ones before it is small: afterwards nobody would look for it there.
            self._large[slot.owner].remove(slot)
            slot.high_water = high_water
            self._set_free(slot)
        slot.high_water = high_water

    def free_slots(self) -> list[Slot]:
        """The slots that nobody owns."""
        return [slot for free in (self._free, self._large) for stack in free.values() for slot in stack]

    def free_large_slots(self) -> list[Slot]:
        """Those of them that are large."""
        return [slot for stack in self._large.values() for slot in stack]

    @property
    def num_free(self) -> int:
        """Number of free slots."""
        # Lists of the stacks first: whoever asks in another thread has no lock, and a slot may come to a new stack.
        return sum(len(stack) for free in (self._free, self._large) for stack in list(free.values()))

    def bytes_reserved(self) -> int:
        """Memory behind all slots together."""
        return sum(slot.high_water for slot in self.slots)

    def _set_free(self, slot: Slot) -> None:
        slot.state, slot.turn = _FREE, 0
        free = self._large if slot.high_water >= LARGE_BYTES else self._free
        stack = free.get(slot.owner)
        if stack is None:
            stack = free[slot.owner] = []
        stack.append(slot)


def stride_for(num_slots: int, largest_bytes: int) -> int:
    """Address space per slot: as much as fits, at most 4 GiB, whole pages."""
    return min(4 << 30, largest_bytes // num_slots) // PAGE * PAGE
