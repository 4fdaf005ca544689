"""Slot states of one ring. Only the trainer changes them. No memory is touched here, and no process is started.

    FREE --grant--> GRANTED --publish--> READY --take---> LEASED --release--------> FREE (or RETIRED)
      ^                |                   |
      +----reclaim-----+-------------------+---share--> SHARED --release--------> FREE (or RETIRED)

    RETIRED: no longer read, but its worker's code still holds an array in it  --let_go--> FREE

A slot is *leased* to the consumer of this process, or *shared* with other processes. For a shared slot, a server
records the processes (`mpqueue.service.serving.loop`), and releases the slot when no process reads it.

*Worker crashes.* A worker that is killed leaves no lock held and no state half written: it owns payload bytes only.
Messages refer to a *turn*, not to a slot. A turn is never reused, so that a late message for a reclaimed
turn is recognized, rather than publishing another worker's bytes.
"""

import enum

PAGE = 4096
SPARE_SLOTS = 8
# A slot with this much memory is large: it is granted before one without memory. New pages for less are cheap.
LARGE_BYTES = 1 << 20


class SlotState(enum.Enum):
    """The owner of the bytes of a slot."""

    FREE = "free"
    GRANTED = "granted"
    READY = "ready"
    LEASED = "leased"
    SHARED = "shared"
    RETIRED = "retired"


_FREE, _GRANTED, _READY, _LEASED, _SHARED, _RETIRED = SlotState  # attribute access takes 0.14 µs in Python 3.11


class SlotError(Exception):
    """A state change that the diagram does not allow: a bug in the dispatcher, or a corrupt record."""


class Slot:  # like the table below, not a dataclass: creating the two classes would take 1 ms at each start
    """One slot: its location, its state, and its pages.

    Attributes:
        index: Index of the slot, from 0.
        offset: First byte in the segment.
        state: The owner of the bytes.
        turn: Number of the current turn, 0 if the slot is free.
        owner: The worker that was granted the slot last; its page table has the slot's pages.
        high_water: Number of reserved bytes.
        held: The worker's code still holds an array in the slot: it must not be granted after its release.
    """

    __slots__ = ("held", "high_water", "index", "offset", "owner", "state", "turn")

    def __init__(self, index: int, offset: int) -> None:
        self.index, self.offset = index, offset
        self.state = SlotState.FREE
        self.turn, self.owner, self.high_water, self.held = 0, -1, 0, False

    def __repr__(self) -> str:
        held = ", held" if self.held else ""
        of = f"turn {self.turn} of worker {self.owner}"
        return f"<Slot {self.index} at {self.offset}: {self.state.value}, {of}, {self.high_water} bytes{held}>"

    @property
    def is_large(self) -> bool:
        """True if much memory is reserved for the slot."""
        return self.high_water >= LARGE_BYTES


class SlotTable:
    """All slots of a ring, and the only code that changes their states.

    Args:
        num_slots: Number of slots.
        stride: Bytes of address space per slot.

    Attributes:
        slots: All slots, by index.
        num_leased: Number of slots that consumers have, in this or in other processes.
        num_retired: Number of slots that their worker's code still holds.
        shares_large: Grant a large slot to any worker before one without memory. False if memory is short: the batch
            that is due first is not always granted first, and would lack the memory.
    """

    def __init__(self, num_slots: int, stride: int) -> None:
        self.num_slots, self.stride = num_slots, stride
        self.slots = [Slot(index, index * stride) for index in range(num_slots)]
        self.num_leased = self.num_retired = self._turns = 0
        self.shares_large = True
        # Last in, first out, by the last owner: the pages of a slot are warm in the page table of its last owner. Its
        # first write of 19 MiB costs 6 to 18 ms, a later one about 1 ms.
        self._free = {-1: self.slots[::-1]}
        # Large slots go to any worker: mapping another worker's pages costs a third of new pages, which the kernel must
        # find and zero.
        self._large: dict[int, list[Slot]] = {}

    def grant(self, worker: int) -> Slot | None:
        """FREE → GRANTED: return a slot for ``worker``, preferably large and its own, or None if all are in use."""
        large = self._large  # empty while batches are small, so that they skip the look-up
        stack = large.get(worker) or (self._a_large_stack() if large and self.shares_large else None)
        if not stack:
            stack = self._free.get(worker) or self._stack_of_another() or self._a_large_stack()
            if not stack:
                return None
        slot = stack.pop()
        # A new turn for each grant: a late report of the previous turn refers to a turn without a slot.
        self._turns = slot.turn = self._turns + 1
        slot.state, slot.owner = _GRANTED, worker
        return slot

    def exchange(self, slot: Slot) -> Slot:
        """GRANTED → FREE: return a large free slot that has the turn of ``slot`` instead."""
        turn, owner = slot.turn, slot.owner
        self.release(slot)
        large = self.grant(owner)
        assert large is not None
        large.turn = turn
        return large

    def _a_large_stack(self) -> list[Slot] | None:
        return next(filter(None, self._large.values()), None)

    def _stack_of_another(self) -> list[Slot] | None:
        return self._free.get(-1) or next(filter(None, self._free.values()), None)

    def publish(self, slot: Slot, high_water: int, held: int = 0) -> None:
        """GRANTED → READY: the worker has written the slot.

        Raises:
            SlotError: The slot was not granted, or the bytes exceed its stride; the slot is unchanged.
        """
        if slot.state is not _GRANTED or high_water > self.stride:
            raise SlotError(f"slot {slot.index} is {slot.state.value} and cannot hold {high_water} published bytes")
        slot.state = _READY
        # A batch may need less than is reserved, and reserved memory remains with its slot.
        slot.high_water = max(slot.high_water, high_water)
        if held:
            slot.held = True

    def take(self, slot: Slot) -> None:
        """READY → LEASED: views of the slot go to the consumer."""
        if slot.state is not _READY:
            raise SlotError(f"slot {slot.index} is {slot.state.value} and cannot be taken")
        slot.state = _LEASED
        self.num_leased += 1

    def release(self, slot: Slot) -> None:
        """GRANTED, READY, LEASED or SHARED → FREE (RETIRED while the worker's code holds it): the slot is not read."""
        if slot.state is _LEASED or slot.state is _SHARED:
            self.num_leased -= 1
        elif slot.state is _RETIRED or slot.state is _FREE:
            raise SlotError(f"slot {slot.index} is {slot.state.value} and cannot be released")
        # Not on a stack: if it were granted again, the next batch would overwrite an array of the worker's code.
        if slot.held:
            slot.state = _RETIRED
            self.num_retired += 1
            return
        stack = self._free.get(slot.owner)
        if stack is None or slot.high_water >= LARGE_BYTES:
            self._set_free(slot)
            return
        slot.state, slot.turn = _FREE, 0  # `_set_free` without the call, for small batches
        stack.append(slot)

    def share(self, slot: Slot) -> None:
        """READY → SHARED: other processes have the slot.

        Raises:
            SlotError: The slot is in another state, and is unchanged.
        """
        if slot.state is not _READY:
            raise SlotError(f"slot {slot.index} is {slot.state.value} and cannot be shared")
        slot.state = _SHARED
        self.num_leased += 1

    def let_go(self, index: int) -> None:
        """RETIRED → FREE: the worker's code no longer holds an array in the slot, or the worker has exited."""
        slot = self.slots[index]
        slot.held = False
        if slot.state is _RETIRED:
            self.num_retired -= 1
            self._set_free(slot)

    def forget_worker(self, worker: int) -> None:
        """Record that a worker has exited: its code holds no slot, and no slot is warm for it."""
        for slot in self.slots:
            if slot.owner == worker:
                if slot.held:
                    self.let_go(slot.index)
                # The warm pages were freed with the process, and a new worker may get its index.
                slot.owner = -1
        for free in (self._free, self._large):
            if worker in free:
                free.setdefault(-1, []).extend(free.pop(worker))

    def reset(self, leased: list[Slot]) -> None:
        """Free all slots, whatever their states, except ``leased`` and shared ones."""
        self.num_leased, self.num_retired = len(leased), 0
        self._free.clear()
        self._large.clear()
        for slot in self.slots:
            slot.owner, slot.held = -1, False
            if slot in leased:
                slot.state = _LEASED
            # Other processes may still read it; the code that shared it releases it.
            elif slot.state is _SHARED:
                self.num_leased += 1
            else:
                self._set_free(slot)

    def shrink(self, slot: Slot, high_water: int) -> None:
        """Record that a free slot has only ``high_water`` reserved bytes left."""
        if slot.is_large:
            # Remove it from the large slots before its size changes: afterwards it would be searched among the small.
            self._large[slot.owner].remove(slot)
            slot.high_water = high_water
            self._set_free(slot)
        slot.high_water = high_water

    def free_slots(self) -> list[Slot]:
        """Return the free slots."""
        return [slot for free in (self._free, self._large) for stack in free.values() for slot in stack]

    def free_large_slots(self) -> list[Slot]:
        """Return the free slots that are large."""
        return [slot for stack in self._large.values() for slot in stack]

    @property
    def num_free(self) -> int:
        """Number of free slots."""
        # Copy the list of stacks: other threads call this without a lock, and a release may add a stack.
        return sum(len(stack) for free in (self._free, self._large) for stack in list(free.values()))

    def bytes_reserved(self) -> int:
        """Return the number of reserved bytes of all slots."""
        return sum(slot.high_water for slot in self.slots)

    def _set_free(self, slot: Slot) -> None:
        slot.state, slot.turn = _FREE, 0
        free = self._large if slot.high_water >= LARGE_BYTES else self._free
        stack = free.get(slot.owner)
        if stack is None:
            stack = free[slot.owner] = []
        stack.append(slot)


def stride_for(num_slots: int, largest_bytes: int) -> int:
    """Return the largest possible address space per slot: at most 4 GiB, in whole pages."""
    return min(4 << 30, largest_bytes // num_slots) // PAGE * PAGE
