"""Blocks of shared memory in size classes, cut from one sparse segment; only its owner hands them out.

    segment   [ slab of class 4: 1024 blocks of 64 bytes ][ slab of class 71: one block of 160 KiB ][ ... untouched ]
    token     class of a block and its number among all that could be: its offset, counted in blocks

One segment for all queues of a process: a descriptor and a mapping each would be the end of programs with thousands
of queues, and a block that one queue has freed serves the next. A slab is reserved when it is cut, by the owner, so
that whoever is granted a block may write to it without risking a SIGBUS, and learns of a lack of memory as an error.

Size classes are arithmetic, known to all sides without a table: multiples of 16 bytes up to 1 KiB, then eight steps
per doubling, so that at most an eighth of a block is unused. Freed blocks are used again last in, first out, while
their pages are warm. When memory is short, free blocks that are slabs of their own go back to the system, and so do the
slabs of every class of which no block is in use.

A slab begins on a multiple of its block size, so that blocks of one class anywhere in the segment are rows of one
array: many of them are gathered, or written, by one indexing operation.
"""

import math
from collections.abc import Sequence

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import Segment
from mpqueue.memory.slots import PAGE

_SLAB_BYTES = 1 << 16
CLASS_SHIFT = 44
_NUMBER_MASK = (1 << CLASS_SHIFT) - 1
_STEP = 16
_SMALL_BYTES = 1024
_NUM_SMALL = _SMALL_BYTES // _STEP
# Address space costs nothing, but some systems count it: four thousand million elements of 64 bytes are enough.
_LARGEST_BYTES = 1 << 38
_REMEDY = (
    "Dequeue more, use smaller elements or a smaller capacity, or a larger /dev/shm "
    "(`docker run --shm-size`, `mount -o remount,size=... /dev/shm`)"
)


def class_for(nbytes: int) -> int:
    """The smallest size class whose blocks hold ``nbytes``."""
    if nbytes <= _SMALL_BYTES:
        return max(nbytes - 1, 0) // _STEP
    exponent = (nbytes - 1).bit_length() - 1  # 2**exponent < nbytes <= 2**(exponent + 1)
    step = ((nbytes - 1) >> (exponent - 3)) & 7
    return _NUM_SMALL + (exponent - 10) * 8 + step


def class_bytes(size_class: int) -> int:
    """Bytes of a block of this class."""
    if size_class < _NUM_SMALL:
        return (size_class + 1) * _STEP
    exponent, step = divmod(size_class - _NUM_SMALL, 8)
    return (9 + step) << (exponent + 7)


def offset_of(token: int) -> int:
    """Return the offset of a block."""
    return (token & _NUMBER_MASK) * class_bytes(token >> CLASS_SHIFT)


_LARGE_BYTES = 1 << 20  # to look at the control group takes as long as to write so much


def first_token(size_class: int) -> int:
    """The token of block number 0 of a class: what is added to a number."""
    return size_class << CLASS_SHIFT


class Arena:
    """All blocks that one process shares with others.

    Attributes:
        segment: The memory.
        was_short: At some time there was not as much memory as was asked for.
        num_users: Number of processes that write to the blocks and read from them.

    Raises:
        OSError: There is not enough address space.
    """

    def __init__(self) -> None:
        self.segment = Segment.create_largest(lambda largest: min(_LARGEST_BYTES, largest) // PAGE * PAGE)
        self.was_short = False
        self.num_users = 1
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._slabs: dict[int, set[int]] = {}  # offsets of the slabs of a class
        self._num_used: dict[int, int] = {}
        self._spare: dict[int, list[int]] = {}  # slabs given back, by class

    def take(self, size_class: int, count: int, *, is_last_resort: bool = False) -> list[int]:
        """Tokens of ``count`` blocks.

        Args:
            size_class: Of the blocks.
            count: Number of blocks.
            is_last_resort: Nothing continues without them: they may use a part of a control group's reserve.

        Raises:
            SharedMemoryFull: There is no memory for them; nothing was taken.
        """
        free = self._free.setdefault(size_class, [])
        # Other memory of the group may have grown: large blocks go back to it before they are used again.
        if self.was_short and free and class_bytes(size_class) >= _LARGE_BYTES and self.segment.is_group_short():
            self.trim(-1)
        while len(free) < count:
            self._cut(size_class, is_last_resort=is_last_resort)
        # From the end, where those lie that were freed last.
        taken = free[len(free) - count :]
        del free[len(free) - count :]
        self._num_used[size_class] = self._num_used.get(size_class, 0) + count
        return taken

    def give(self, tokens: Sequence[int], size_class: int = -1) -> None:
        """Nobody uses these blocks any more.

        Args:
            tokens: The blocks.
            size_class: Of all of them; -1: they may be of several.
        """
        free, used = self._free, self._num_used
        # Block by block, 64 elements cost their queue's owner a tenth more CPU; to look at all, 32 cost 0.9 us of 19.
        if size_class >= 0 and tokens:
            free[size_class] += tokens
            used[size_class] -= len(tokens)
            return
        for token in tokens:
            free[token >> CLASS_SHIFT].append(token)
            used[token >> CLASS_SHIFT] -= 1

    @property
    def num_used(self) -> int:
        """Blocks in use."""
        return sum(self._num_used.values())

    @property
    def num_reserved_bytes(self) -> int:
        """Memory behind all slabs in use."""
        return sum(len(slabs) * _slab_bytes(size_class) for size_class, slabs in self._slabs.items())

    def has_room(self, nbytes: int) -> bool:
        """True if blocks that nobody uses, and what could be reserved now, are so much together."""
        available = self._available_bytes()
        free = sum(len(tokens) * class_bytes(size_class) for size_class, tokens in self._free.items())
        return available is None or nbytes <= available + free

    def has_plenty(self, nbytes: int) -> bool:
        """True if memory was never short, and so much could be reserved now."""
        if self.was_short:
            return False
        available = self._available_bytes()
        return available is None or nbytes <= available

    def _available_bytes(self) -> int | None:
        """Return how much could be reserved now; None: there is no telling, or no end in sight."""
        if self.was_short:
            return self.segment.available_bytes()
        # A memory file has all of the machine's memory, and to ask how much that is takes too long.
        return None if self.segment.kind == "memfd" else self.segment.free_bytes()

    def trim(self, wanted: int) -> bool:
        """Give memory that is not in use back to the system; False if there is none that can go back.

        Args:
            wanted: The class that it is wanted for, which keeps its own.
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
        """Slabs that hold all of the free blocks of a class, and no other."""
        if not self._num_used[size_class]:
            return set(self._slabs[size_class])
        if _slab_bytes(size_class) < 2 * class_bytes(size_class):  # each is one block
            return {offset_of(token) for token in self._free[size_class]}
        return set()

    def _cut(self, size_class: int, *, is_last_resort: bool) -> None:
        """Make a slab of this class."""
        nbytes, size = _slab_bytes(size_class), class_bytes(size_class)
        spare = self._spare.get(size_class)
        step = math.lcm(size, PAGE)
        offset = spare[-1] if spare else -(-self._end // step) * step
        # Before anything is noted: where there is no memory, all is as it was.
        # Whoever writes to a block, or reads from it, has a copy of the element as well.
        others = (self.num_users + 1) * size if self.num_used and not is_last_resort else None
        self._reserve(size_class, offset, nbytes, others)
        if spare:
            spare.pop()
        else:
            self._end = offset + nbytes
        self._num_used.setdefault(size_class, 0)
        self._slabs.setdefault(size_class, set()).add(offset)
        first = first_token(size_class) + offset // size
        # In front of the free ones: blocks are taken from the end.
        self._free[size_class][:0] = range(first, first + nbytes // size)

    def _reserve(self, size_class: int, offset: int, nbytes: int, others: int | None) -> None:
        try:
            if offset + nbytes <= self.segment.size:
                self.segment.reserve(offset, offset + nbytes, spare=others)
                return
        except OSError:
            self.segment.discard(offset, offset + nbytes)  # what was reserved of it
        self.was_short = True
        # Once more, with what other classes have given back; each time there is less that they could give.
        if self.trim(size_class):
            self._reserve(size_class, offset, nbytes, others)
            return
        raise SharedMemoryFull(nbytes, self.segment.available_bytes(), _REMEDY)

    def close(self) -> None:
        """Let go of the memory; other processes keep it while they map it."""
        self.segment.close()


def _slab_bytes(size_class: int) -> int:
    return max(_SLAB_BYTES, -(-class_bytes(size_class) // PAGE) * PAGE)
