"""Blocks of shared memory in size classes, allocated from one sparse segment by the process that owns it.

    segment   [ slab of class 4: 1024 blocks of 64 bytes ][ slab of class 71: one block of 160 KiB ][ ... unused ]
    token     size class of a block and its number, which is its offset in units of the block size

All queues of a process share one segment. With a descriptor and a mapping for each queue, programs could not have
thousands of queues, and a freed block could not serve another queue.

Size classes are computed, so all processes agree on them without a table: multiples of 16 bytes up to 1 KiB, then eight
steps per doubling. At most an eighth of a block is unused. When memory is short, unused slabs return to the system.
"""

import math
from collections.abc import Sequence

from mpqueue.memory.segment import Segment
from mpqueue.memory.slots import PAGE

_SLAB_BYTES = 1 << 16  # minimum size; small blocks share a slab
CLASS_SHIFT = 44
_NUMBER_MASK = (1 << CLASS_SHIFT) - 1
_STEP = 16
_SMALL_BYTES = 1024
_NUM_SMALL = _SMALL_BYTES // _STEP
# Unused address space is free, but some systems limit it. This suffices for four billion elements of 64 bytes.
_LARGEST_BYTES = 1 << 38
_ADVICE = "Dequeue more often, or use smaller elements, a smaller capacity"


def class_for(nbytes: int) -> int:
    """Return the smallest size class with blocks of at least ``nbytes``."""
    if nbytes <= _SMALL_BYTES:
        return max(nbytes - 1, 0) // _STEP
    exponent = (nbytes - 1).bit_length() - 1  # 2**exponent < nbytes <= 2**(exponent + 1)
    step = ((nbytes - 1) >> (exponent - 3)) & 7
    return _NUM_SMALL + (exponent - 10) * 8 + step


def class_bytes(size_class: int) -> int:
    """Return the size in bytes of a block of this class."""
    if size_class < _NUM_SMALL:
        return (size_class + 1) * _STEP
    exponent, step = divmod(size_class - _NUM_SMALL, 8)
    return (9 + step) << (exponent + 7)


def offset_of(token: int) -> int:
    """Return the offset of a block in the segment."""
    return (token & _NUMBER_MASK) * class_bytes(token >> CLASS_SHIFT)


# From this size on, the limit of the control group is checked again: the check takes as long as writing a mebibyte.
_LARGE_BYTES = 1 << 20


def first_token(size_class: int) -> int:
    """Return the token of block 0 of a class. Adding a block's number returns the block's token."""
    return size_class << CLASS_SHIFT


class Arena:
    """Allocator of the blocks that one process shares with others.

    Attributes:
        segment: The shared memory.
        was_short: True if a reservation of memory has ever failed.
        num_users: Number of processes that access the blocks.

    Raises:
        OSError: There is not enough address space.
    """

    def __init__(self) -> None:
        self.segment = Segment.create_largest(lambda largest: min(_LARGEST_BYTES, largest) // PAGE * PAGE)
        self.was_short = False
        self.num_users = 1
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._slabs: dict[int, set[int]] = {}  # offsets of slabs by class
        self._num_used: dict[int, int] = {}
        self._spare: dict[int, list[int]] = {}  # offsets of slabs with memory returned to the system, by class

    def take(self, size_class: int, count: int, *, is_last_resort: bool = False) -> list[int]:
        """Allocate ``count`` blocks and return their tokens.

        Args:
            size_class: Size class of the blocks.
            count: Number of blocks.
            is_last_resort: True if no process can continue without the blocks. Then the allocation may use a part of
                the reserve of a control group.

        Raises:
            SharedMemoryFull: There is not enough memory. No block was allocated.
        """
        free = self._free.setdefault(size_class, [])
        # Other memory of the control group may have grown: return large free blocks to it before they are used again.
        if self.was_short and free and class_bytes(size_class) >= _LARGE_BYTES and self.segment.is_group_short():
            self.trim(-1)
        if len(free) < count:
            self._grow(size_class, count, is_last_resort=is_last_resort)
        # The blocks that were freed last are at the end, and their pages are probably still in the CPU's caches.
        taken = free[len(free) - count :]
        del free[len(free) - count :]
        self._num_used[size_class] = self._num_used.get(size_class, 0) + count
        return taken

    def give(self, tokens: Sequence[int], size_class: int = -1) -> None:
        """Free blocks.

        Args:
            tokens: The blocks.
            size_class: Size class of all blocks; -1 if the blocks may have several classes.
        """
        free, used = self._free, self._num_used
        # One class: append all blocks at once. One by one, 64 elements take the queue's owner 10 % more CPU time, and
        # comparing the classes of 32 blocks would take 0.9 us of 19.
        if size_class >= 0 and tokens:
            free[size_class] += tokens
            used[size_class] -= len(tokens)
            return
        for token in tokens:
            free[token >> CLASS_SHIFT].append(token)
            used[token >> CLASS_SHIFT] -= 1

    @property
    def num_used(self) -> int:
        """Number of allocated blocks."""
        return sum(self._num_used.values())

    @property
    def num_reserved_bytes(self) -> int:
        """Size in bytes of all slabs in use."""
        return sum(len(slabs) * _slab_bytes(size_class) for size_class, slabs in self._slabs.items())

    def has_room(self, nbytes: int) -> bool:
        """Return whether free blocks and unreserved memory add up to ``nbytes``."""
        available = self._available_bytes()
        free = sum(len(tokens) * class_bytes(size_class) for size_class, tokens in self._free.items())
        return available is None or nbytes <= available + free

    def has_plenty(self, nbytes: int) -> bool:
        """Return whether ``nbytes`` can be reserved now and no reservation has ever failed."""
        if self.was_short:
            return False
        available = self._available_bytes()
        return available is None or nbytes <= available

    def _available_bytes(self) -> int | None:
        """Return the number of bytes that can be reserved now, or None if it is unlimited or expensive to determine."""
        if self.was_short:
            return self.segment.available_bytes()
        # A memfd may use all memory of the machine, and determining how much that is takes too long.
        return None if self.segment.kind == "memfd" else self.segment.free_bytes()

    def trim(self, wanted: int) -> bool:
        """Return unused slabs to the system; return False if there are none.

        Args:
            wanted: Size class that memory is needed for, which keeps its slabs. -1: none.
        """
        freed = False
        for size_class, slabs in self._slabs.items():
            idle = set() if size_class == wanted else self._idle_slabs(size_class)
            if idle:
                nbytes, freed = _slab_bytes(size_class), True
                for offset in idle:
                    self.segment.discard(offset, offset + nbytes)
                self._spare.setdefault(size_class, []).extend(idle)
                slabs.difference_update(idle)
                self._free[size_class].clear()
        return freed

    def _idle_slabs(self, size_class: int) -> set[int]:
        """Return the offsets of slabs that contain only free blocks."""
        if not self._num_used[size_class]:
            return set(self._slabs[size_class])
        if _slab_bytes(size_class) < 2 * class_bytes(size_class):  # each slab is one block
            return {offset_of(token) for token in self._free[size_class]}
        return set()

    def _grow(self, size_class: int, count: int, *, is_last_resort: bool) -> None:
        """Allocate slabs until ``count`` blocks of this class are free."""
        free, size = self._free[size_class], class_bytes(size_class)
        # Leave memory for the copies of an element in the process that writes it and in its readers.
        others = (self.num_users + 1) * size if self.num_used and not is_last_resort else None
        nbytes = (count - len(free)) * size
        # Checked before the first slab: otherwise, a call that is too large would take all memory before it fails.
        if nbytes >= _LARGE_BYTES and not self.segment.has_room(nbytes, spare=others):
            self.was_short = True
            if not (self.trim(size_class) and self.segment.has_room(nbytes, spare=others)):
                raise self.segment.memory_full(nbytes, _ADVICE)
        while len(free) < count:
            self._cut(size_class, others)

    def _cut(self, size_class: int, others: int | None) -> None:
        """Allocate a slab for this class, and leave ``others`` bytes; see `Segment.reserve`."""
        nbytes, size = _slab_bytes(size_class), class_bytes(size_class)
        spare = self._spare.get(size_class)
        # A slab starts at a multiple of its block size. So blocks of one class are rows of one array over the segment,
        # and a single indexing operation reads or writes many of them.
        step = math.lcm(size, PAGE)
        offset = spare[-1] if spare else -(-self._end // step) * step
        # Reserve before changing any table, so that a failure has no effect. The reservation happens here because a
        # write to unreserved shared memory would kill the writing process with SIGBUS.
        self._reserve(size_class, offset, nbytes, others)
        if spare:
            spare.pop()
        else:
            self._end = offset + nbytes
        self._num_used.setdefault(size_class, 0)
        self._slabs.setdefault(size_class, set()).add(offset)
        first = first_token(size_class) + offset // size
        # Insert at the front, because `take` uses recently freed blocks from the end first.
        self._free[size_class][:0] = range(first, first + nbytes // size)

    def _reserve(self, size_class: int, offset: int, nbytes: int, others: int | None) -> None:
        if offset + nbytes <= self.segment.size:
            if self.segment.try_reserve(offset, offset + nbytes, spare=others):
                return
            self.segment.discard(offset, offset + nbytes)  # release a partial reservation
        self.was_short = True
        # Retry with memory from the slabs of other classes. The recursion ends, because each `trim` reduces the number
        # of these slabs.
        if self.trim(size_class):
            self._reserve(size_class, offset, nbytes, others)
            return
        raise self.segment.memory_full(nbytes, _ADVICE)

    def close(self) -> None:
        """Release the memory; other processes keep their mappings."""
        self.segment.close()


def _slab_bytes(size_class: int) -> int:
    return max(_SLAB_BYTES, -(-class_bytes(size_class) // PAGE) * PAGE)
