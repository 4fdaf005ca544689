"""Tests of the arena alone: blocks are disjoint and in reserved memory, and free memory is released in a shortage."""

from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
from helpers.aiming import AimingMachine, run_and_require

from mpqueue.errors import SharedMemoryFull
from mpqueue.tf1.queues import arena
from mpqueue.tf1.queues.arena import Arena, class_bytes, class_for, first_token, offset_of

PAGE, SLAB = 4096, 1 << 16


class FakeSegment:
    """A segment that only counts pages.

    Args:
            size: Size of the address space.
            max_pages: Number of pages of the file system.
    """

    def __init__(self, size, max_pages):
        self.size, self.max_pages, self.pages, self.closed = size, max_pages, set(), False

    def reserve(self, offset, end, *, spare=0):
        assert 0 <= offset < end <= self.size
        assert offset % PAGE == end % PAGE == 0
        wanted = sorted(set(range(offset // PAGE, end // PAGE)) - self.pages)
        room = self.max_pages - len(self.pages)
        self.pages.update(wanted[:room])  # like the kernel: reserves all available pages before it fails
        if len(wanted) > room:
            raise OSError("no room")

    def discard(self, offset, end):
        assert offset % PAGE == end % PAGE == 0
        self.pages -= set(range(offset // PAGE, end // PAGE))

    def available_bytes(self):
        return (self.max_pages - len(self.pages)) * PAGE

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


def test_class_for_returns_smallest_sufficient_class():
    for nbytes in [*range(1, 5000), *range(65_000, 66_000), (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 10**9]:
        size_class = class_for(nbytes)
        assert class_bytes(size_class) >= nbytes
        assert size_class == 0 or class_bytes(size_class - 1) < nbytes
    assert class_for(0) == 0


def test_block_sizes_grow_by_16_bytes_then_by_an_eighth_of_the_power_of_two():
    sizes = [class_bytes(size_class) for size_class in range(90)]
    assert sizes[:64] == [16 * number for number in range(1, 65)]
    assert sizes[64:73] == [1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048, 2304]
    assert sizes == sorted(set(sizes))


def test_token_encodes_offset_of_block():
    for size_class in (0, 63, 64, 200):
        for number in (0, 1, 1000):
            assert offset_of(first_token(size_class) + number) == number * class_bytes(size_class)
    assert offset_of(first_token(3) + (1 << 44) - 1) == ((1 << 44) - 1) * 64  # the largest block number of a class
    assert len({first_token(size_class) >> 44 for size_class in range(300)}) == 300


@pytest.mark.parametrize(("largest", "size"), [(1 << 40, 1 << 38), (10 * PAGE + 5, 10 * PAGE)])
def test_address_space_is_bounded_and_in_whole_pages(largest, size):
    assert arena_of(100, largest).segment.size == size


# Small blocks, blocks that do not divide a page, two blocks per slab, and one block per slab.
CLASSES = [class_for(nbytes) for nbytes in (16, 32, 112, 1100, 28_000, 32_768, 60_000, 65_536, 200_000)]
ARROWS = [
    "take",
    "take many",
    "take of spare",
    "refused",
    "give",
    "give alike",
    "trim",
    "trim nothing",
    "trim for another",
]


class ArenaAgainstAnOracle(AimingMachine):
    """The oracle knows the allocated blocks, and the order of the freed ones."""

    def make(self):
        self.arena = arena_of(self.choose([16, 40, 70, 150, 1000]), self.choose([1 << 30, 1 << 30, 1 << 20, 300_000]))
        self.taken = {size_class: [] for size_class in CLASSES}
        self.freed = {size_class: [] for size_class in CLASSES}  # since the last slab was cut or trimmed
        self.numbers = Counter()

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

    def slabs(self):
        return {size_class: set(slabs) for size_class, slabs in self.arena._slabs.items()}

    def take(self, size_class, count):
        had_spare = bool(self.arena._spare.get(size_class))
        slabs, used = self.slabs(), self.arena.num_used
        end = self.arena._end
        try:
            tokens = self.arena.take(size_class, count)
        except SharedMemoryFull as error:
            assert self.arena.num_used == used
            self.check_refusal(size_class, error)
            return
        assert len(tokens) == count
        assert {token >> 44 for token in tokens} == {size_class}
        grown = self.slabs()
        if grown == slabs:
            known = self.freed[size_class][-count:]
            assert tokens[-len(known) :] == known or not known  # the blocks freed last are allocated first
            del self.freed[size_class][-count:]
        else:
            self.freed = {one: [] for one in CLASSES}
            if had_spare and self.arena._end == end:
                self.reached["take of spare"] += 1
        self.taken[size_class] += tokens
        self.reached["take many" if count > 1 else "take"] += 1

    def check_refusal(self, size_class, error):
        self.reached["refused"] += 1
        self.freed = {one: [] for one in CLASSES}
        assert error.bytes_asked == slab_bytes(size_class)
        assert error.bytes_available == self.arena.segment.available_bytes()
        assert error.remedy.startswith("Dequeue more often, use smaller elements")
        others = [one for one in CLASSES if one != size_class]
        assert not any(self.idle(one) for one in others)  # otherwise their memory would have been used

    def idle(self, size_class):
        """Return the number of slabs of a class without allocated blocks."""
        taken = {offset_of(token) for token in self.taken[size_class]}
        slabs = self.arena._slabs.get(size_class, set())
        if not taken:
            return len(slabs)
        return len(slabs - taken) if slab_bytes(size_class) < 2 * class_bytes(size_class) else 0

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
        expected = {
            one: len(self.arena._slabs.get(one, ())) - (0 if one == wanted else self.idle(one)) for one in CLASSES
        }
        is_less = sum(expected.values()) < sum(map(len, self.arena._slabs.values()))
        assert self.arena.trim(wanted) is is_less
        assert {one: len(self.arena._slabs.get(one, ())) for one in CLASSES} == expected
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
        for size_class, slabs in self.arena._slabs.items():
            assert all(offset % class_bytes(size_class) == offset % PAGE == 0 for offset in slabs)
            free = self.arena._free[size_class]
            per_slab = slab_bytes(size_class) // class_bytes(size_class)
            assert len(free) + len(self.taken[size_class]) == per_slab * len(slabs)
            assert len(set(free)) == len(free)


def test_random_operations_keep_blocks_disjoint_and_reserved():
    run_and_require(ArenaAgainstAnOracle, ARROWS, at_least=10, examples=150, steps=60)


def test_blocks_are_taken_from_end_of_slab():
    blocks = arena_of(100)
    first = first_token(0)
    assert blocks.take(0, 2) == [first + 4094, first + 4095]
    blocks.give([first + 4094])
    assert blocks.take(0, 1) == [first + 4094]
    assert blocks.take(0, 4095)[:2] == [first + 8191, first]  # a new slab is inserted before the free blocks


def test_slab_begins_after_previous_slab():
    blocks = arena_of(1000)
    assert offset_of(blocks.take(class_for(65_536), 1)[0]) == 0
    assert offset_of(blocks.take(class_for(65_536), 1)[0]) == 65_536
    assert offset_of(blocks.take(class_for(40_960), 1)[0]) == 163_840  # a multiple of its block size
    assert (
        offset_of(blocks.take(class_for(65_536), 1)[0]) == 262_144
    )  # a multiple of its block size, after the pages in use


def test_exhausted_address_space_raises_shared_memory_full():
    blocks = arena_of(1000, 2 * SLAB)
    block = class_for(SLAB)
    taken = blocks.take(block, 2)
    with pytest.raises(SharedMemoryFull):
        blocks.take(block, 1)
    assert blocks.num_used == 2
    blocks.give(taken[:1])
    assert blocks.take(block, 1) == taken[:1]


def test_partial_reservation_of_failed_slab_is_released():
    blocks = arena_of(20)
    blocks.take(0, 1)
    with pytest.raises(SharedMemoryFull) as caught:
        blocks.take(class_for(SLAB), 1)
    assert (caught.value.bytes_asked, caught.value.bytes_available) == (SLAB, 4 * PAGE)
    assert len(blocks.segment.pages) == 16


def test_idle_class_releases_memory_for_another_class():
    blocks = arena_of(20)
    blocks.give(blocks.take(0, 1))
    other = blocks.take(class_for(SLAB), 1)
    assert offset_of(other[0]) == SLAB
    blocks.give(other)
    assert blocks.take(0, 1) == [first_token(0) + 4095]  # the same place as before


def test_taking_no_blocks_returns_empty_list():
    blocks = arena_of(20)
    assert blocks.take(0, 0) == []
    assert (blocks.num_used, blocks.num_reserved_bytes) == (0, 0)


def test_closing_closes_the_segment():
    blocks = arena_of(20)
    blocks.close()
    assert blocks.segment.closed
