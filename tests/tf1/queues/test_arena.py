"""Tests of the arena alone: blocks are disjoint and in reserved memory, and free memory is released in a shortage."""

import errno
from functools import partial
from itertools import pairwise

import pytest
from helpers.state_machines import AimingMachine, run_and_require

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import Segment
from mpqueue.tf1.queues import arena
from mpqueue.tf1.queues.arena import Arena, class_bytes, class_for, offset_of

PAGE, SLAB = 4096, 1 << 16


class FakeSegment:
    """A segment that only counts pages.

    Args:
            size: Size of the address space.
            max_pages: Number of pages of the file system.
    """

    def __init__(self, size, max_pages):
        self.size, self.max_pages, self.pages, self.closed = size, max_pages, set(), False

    try_reserve = Segment.try_reserve

    def reserve(self, offset, end, *, spare=0):
        assert 0 <= offset < end <= self.size
        assert offset % PAGE == end % PAGE == 0
        wanted = sorted(set(range(offset // PAGE, end // PAGE)) - self.pages)
        room = self.max_pages - len(self.pages)
        self.pages.update(wanted[:room])  # like the kernel: reserves all available pages before it fails
        if len(wanted) > room:
            raise OSError(errno.ENOSPC, "no room")

    def discard(self, offset, end):
        assert offset % PAGE == end % PAGE == 0
        self.pages -= set(range(offset // PAGE, end // PAGE))

    def available_bytes(self):
        return (self.max_pages - len(self.pages)) * PAGE

    def has_room(self, nbytes, *, spare):
        return nbytes <= self.available_bytes()

    def memory_full(self, nbytes, advice):
        return SharedMemoryFull(nbytes, self.available_bytes(), advice)

    def close(self):
        self.closed = True


def arena_of(max_pages, size=1 << 30):
    """Return an arena with a separate segment."""
    with pytest.MonkeyPatch.context() as patch:
        made = {"create_largest": lambda size_within: FakeSegment(size_within(size), max_pages)}
        patch.setattr(arena, "Segment", type("Fake", (), made))
        return Arena()


def slab_bytes(size_class):
    return max(SLAB, -(-class_bytes(size_class) // PAGE) * PAGE)


# Small blocks, blocks that do not divide a page, two blocks per slab, and one block per slab.
CLASSES = [class_for(nbytes) for nbytes in (16, 32, 112, 1100, 28_000, 32_768, 60_000, 65_536, 200_000)]
ARROWS = ["take", "take many", "refused", "give", "give alike", "trim", "trim nothing", "trim for another"]


class ArenaAgainstAnOracle(AimingMachine):
    """The oracle knows the allocated blocks, and the order of the freed ones."""

    def make(self):
        self.arena = arena_of(self.choose([16, 40, 70, 150, 1000]), self.choose([1 << 30, 1 << 30, 1 << 20, 300_000]))
        self.taken = {size_class: [] for size_class in CLASSES}
        self.freed = {size_class: [] for size_class in CLASSES}  # since the last slab was cut or trimmed

    def moves(self):
        moves = {"trim": (2, self.trim)}
        for size_class in CLASSES:
            for count in (1, 2, 17):
                moves[f"take {count} of {size_class}"] = 2, partial(self.take, size_class, count)
            if self.taken[size_class]:
                moves[f"give of {size_class}"] = 4, partial(self.give, size_class)
                moves[f"give all of {size_class}"] = 3, partial(self.give_alike, size_class)
            moves[f"trim for {size_class}"] = 1, partial(self.trim, size_class)
        return moves

    def take(self, size_class, count):
        pages, used = set(self.arena.segment.pages), self.arena.num_used
        try:
            tokens = self.arena.take(size_class, count)
        except SharedMemoryFull as error:
            assert self.arena.num_used == used
            self.check_refusal(size_class, error, len(self.arena.segment.pages) - len(pages))
            return
        assert len(tokens) == count
        assert {token >> 44 for token in tokens} == {size_class}
        if self.arena.segment.pages == pages:  # no slab was cut
            known = self.freed[size_class][-count:]
            assert tokens[-len(known) :] == known or not known  # the blocks freed last are allocated first
            del self.freed[size_class][-count:]
        else:
            self.freed = {one: [] for one in CLASSES}
        self.taken[size_class] += tokens
        self.reached["take many" if count > 1 else "take"] += 1

    def check_refusal(self, size_class, error, num_pages):
        self.reached["refused"] += 1
        self.freed = {one: [] for one in CLASSES}
        # A large call is rejected as a whole, before any of its memory is reserved.
        assert error.bytes_asked == slab_bytes(size_class) or (error.bytes_asked >= 1 << 20 and num_pages <= 0)
        assert error.bytes_available == self.arena.segment.available_bytes()
        assert error.remedy.startswith("Dequeue more often, or use smaller elements")
        assert not self.arena.trim(size_class)  # the memory of idle slabs has been used

    def give(self, size_class):
        """Free one block of this class, together with one of a different class."""
        found = [self.taken[size_class].pop(self.choose(range(len(self.taken[size_class]))))]
        others = [one for one in CLASSES if self.taken[one] and one != size_class]
        if others:
            found.append(self.taken[self.choose(others)].pop())
        self.arena.give(found)
        for token in found:
            self.freed[token >> 44].append(token)
        self.reached["give"] += 1

    def give_alike(self, size_class):
        tokens = self.taken[size_class]
        self.arena.give([], size_class)
        self.arena.give(tokens, size_class)
        self.freed[size_class] += tokens
        self.taken[size_class] = []
        self.reached["give alike"] += 1

    def trim(self, wanted=-1):
        before = self.arena.num_reserved_bytes
        is_less = self.arena.trim(wanted)
        assert is_less is (self.arena.num_reserved_bytes < before)
        assert not self.arena.trim(wanted)
        alone = [one for one in CLASSES if slab_bytes(one) < 2 * class_bytes(one)]  # classes with a slab for each block
        if wanted < 0 and not any(self.taken[one] for one in CLASSES if one not in alone):
            held = sum(len(self.taken[one]) * slab_bytes(one) for one in alone)
            assert self.arena.num_reserved_bytes == held  # free blocks have no memory
        self.freed = {one: [] for one in CLASSES}
        self.reached["trim nothing" if not is_less else "trim" if wanted < 0 else "trim for another"] += 1

    def check(self):
        segment = self.arena.segment
        places = []
        for size_class, tokens in self.taken.items():
            places += [(offset_of(token), offset_of(token) + class_bytes(size_class)) for token in tokens]
        places.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(places))
        for start, end in places:
            assert end <= segment.size
            assert segment.pages.issuperset(range(start // PAGE, -(-end // PAGE)))
        assert self.arena.num_used == sum(map(len, self.taken.values()))
        assert self.arena.num_reserved_bytes == len(segment.pages) * PAGE


def test_random_operations_keep_blocks_disjoint_and_reserved():
    run_and_require(ArenaAgainstAnOracle, ARROWS, at_least=10, examples=100, steps=60)
