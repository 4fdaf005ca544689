"""The order of the samples of an epoch, from (seed, epoch), place by place.

Each worker computes the indices of its own batches, so nothing is drawn or sent before the first batch. Up to 65,536
samples are shuffled as a whole: half a millisecond. More are permuted by a Feistel network over the next power of two,
whose keys follow from (seed, epoch); a result that is no index is put in again until it is one (cycle walking, less
than two rounds on average). It is computed for a block of places at once, because NumPy's calls cost more than their
work on a few numbers.
"""

from collections.abc import Callable, Sequence
from operator import eq
from typing import Any, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import sequence_of

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_SHUFFLED = 0x73616D706C6573  # separates these numbers from all others of the seed
_MAX_SHUFFLED = 1 << 16
_ROUNDS = 6
_BLOCK = 1 << 12
_MAX_BLOCKS = 4
_MULTIPLIERS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_WORD = 0xFFFFFFFFFFFFFFFF
_MANY = 24  # places for which NumPy is faster than one by one


def permuted(seed: int, epoch: int, length: int, places: Indices) -> Indices:
    """The indices at these places of a shuffled epoch of more than one sample; all of them are a permutation."""
    bits, keys = _bits_of(length), _keys_of(seed, epoch)
    found = _encrypt(places.astype(np.uint64), bits, keys)
    # There are less than twice as many values as indices: on average more than half of them are indices at once.
    while True:
        (outside,) = np.nonzero(found >= np.uint64(length))
        if not len(outside):
            return found.astype(np.int64)
        found[outside] = _encrypt(found[outside], bits, keys)


def _bits_of(length: int) -> int:
    return max(2, (length - 1).bit_length())


def _keys_of(seed: int, epoch: int) -> np.ndarray[Any, Any]:
    return sequence_of(seed, epoch, _SHUFFLED).generate_state(_ROUNDS, np.uint64)


def permuted_one(keys: Sequence[int], length: int, place: int) -> int:
    """The index at one place, as of `permuted`: 6 µs, a tenth of what NumPy's calls cost for a single number."""
    bits = _bits_of(length)
    low, high = bits // 2, bits - bits // 2
    low_mask, high_mask = (1 << low) - 1, (1 << high) - 1
    first, second = map(int, _MULTIPLIERS)
    while True:
        left, right = place >> low, place & low_mask
        for number, key in enumerate(keys):
            mixed = ((right if number % 2 == 0 else left) + key & _WORD) * first & _WORD
            mixed = (mixed ^ mixed >> 32) * second & _WORD
            mixed ^= mixed >> 32
            if number % 2:
                right ^= mixed & low_mask
            else:
                left ^= mixed & high_mask
        place = left << low | right
        if place < length:
            return place


def _encrypt(values: np.ndarray[Any, Any], bits: int, keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One pass through the network: a bijection of the numbers below ``2 ** bits``."""
    low, high = bits // 2, bits - bits // 2
    # Each round changes one part by the other, which it keeps, and so can be undone: no two values meet.
    left, right = values >> np.uint64(low), values & np.uint64((1 << low) - 1)
    for number, key in enumerate(keys):
        if number % 2:
            right = right ^ (_mixed(left, key) & np.uint64((1 << low) - 1))
        else:
            left = left ^ (_mixed(right, key) & np.uint64((1 << high) - 1))
    encrypted: np.ndarray[Any, Any] = (left << np.uint64(low)) | right
    return encrypted


def _mixed(values: np.ndarray[Any, Any], key: np.uint64) -> np.ndarray[Any, Any]:
    first, second = _MULTIPLIERS
    mixed = (values + key) * first
    mixed ^= mixed >> _HALF
    mixed *= second
    mixed ^= mixed >> _HALF
    return mixed


def is_run(places: Sequence[int]) -> bool:
    """Return whether each place is the one behind the place before."""
    return places[-1] - places[0] == len(places) - 1 and all(map(eq, places, range(places[0], places[0] + len(places))))


class SampleOrder:
    """The order of one epoch after the other, as one worker asks for it.

    Args:
        seed: The order depends only on the seed and the epoch.
        shuffle: Use a new order for each epoch. If False, the indices ascend.
        world: Number of ranks that share the batches of an epoch.
    """

    def __init__(self, seed: int, *, shuffle: bool, world: int = 1) -> None:
        self._seed, self._shuffle, self._world = seed, shuffle, world
        self._of: tuple[int, int] = (-1, -1)  # epoch and length that are kept
        self._whole: Indices | None = None
        self._blocks: dict[tuple[int, ...], Indices] = {}  # see `_kept`
        self._latest: tuple[int, int, int] | None = None  # size, offset and rank of the latest run of places
        self._keys: list[int] = []

    def indices(self, epoch: int, length: int, first: int, count: int) -> Sequence[int]:
        """The indices at places from ``first`` on; behind the end it begins anew."""
        if first + count > length:
            found: list[int] = []
            while len(found) < count:
                start = (first + len(found)) % length
                found += self.indices(epoch, length, start, min(count - len(found), length - start))
            return found
        if not self._shuffle:
            return range(first, first + count)
        if self._of != (epoch, length):
            self._enter(epoch, length)
        if self._whole is not None:
            whole: list[int] = self._whole[first : first + count].tolist()
            return whole
        if self._world > 1 and self._repeats(first, count):
            return self._of_rank(first, count)
        return self._from_blocks(first, count)

    def at(self, epoch: int, length: int, places: Sequence[int]) -> Sequence[int]:
        """The indices at any places."""
        count = len(places)
        if not count or not self._shuffle:
            return places
        if (count >= _MANY or length <= _MAX_SHUFFLED) and is_run(places):
            return self.indices(epoch, length, places[0], count)
        if self._of != (epoch, length):
            self._enter(epoch, length)
        if self._whole is not None:
            whole: list[int] = self._whole[np.asarray(places)].tolist()
            return whole
        # The places of a lane: its blocks have nothing but its own.
        if type(places) is range and places.step > 1:
            return self._from_blocks(places.start // places.step, count, places.step, places.start % places.step)
        if count >= _MANY:
            many: list[int] = permuted(self._seed, epoch, length, np.asarray(places)).tolist()
            return many
        return [permuted_one(self._keys, length, place) for place in places]

    def _enter(self, epoch: int, length: int) -> None:
        # The order is complete before it is kept, by assignments alone, and `_of` is the last of these: a signal
        # handler that raises in here, where the caller computes, leaves nothing that a later call would take for it.
        whole, keys = None, self._keys
        if length <= _MAX_SHUFFLED:
            whole = np.arange(length)
            words = sequence_of(self._seed, epoch, _SHUFFLED)
            np.random.Generator(np.random.PCG64(words)).shuffle(whole)
        else:
            keys = _keys_of(self._seed, epoch).tolist()
        self._whole, self._keys, self._blocks, self._of = whole, keys, {}, (epoch, length)

    def _from_blocks(self, first: int, count: int, step: int = 1, offset: int = 0) -> list[int]:
        """The indices at places ``offset + step * number``, for ``count`` numbers from ``first`` on."""
        found: list[int] = []
        while len(found) < count:
            number, start = divmod(first + len(found), _BLOCK)
            block = self._kept((number, step, offset), self._places_in_steps)
            found += block[start : start + count - len(found)].tolist()
        return found

    def _repeats(self, first: int, count: int) -> bool:
        """Return whether a run of places is a batch of the same size and rank as the run before it, if there is one."""
        batch, offset = divmod(first, count)
        latest, self._latest = self._latest, (count, offset, batch % self._world)
        return latest in {None, self._latest}

    def _of_rank(self, first: int, count: int) -> list[int]:
        """The indices of a batch of one rank, out of a block that has only batches of this rank."""
        # With 100 ranks and 32 samples a batch, a block of consecutive places has a single batch of this rank: 390 us
        # for each batch, where 27 are enough.
        batch, offset = divmod(first, count)
        turn, rank = divmod(batch, self._world)
        number, start = divmod(turn, max(1, _BLOCK // count))
        block = self._kept((number, rank, count, offset), self._places_of_rank)
        indices: list[int] = block[start * count : (start + 1) * count].tolist()
        return indices

    def _places_in_steps(self, number: int, step: int, offset: int) -> Indices:
        first = offset + step * number * _BLOCK
        return np.arange(first, min(first + step * _BLOCK, self._of[1]), step)

    def _places_of_rank(self, number: int, rank: int, count: int, offset: int) -> Indices:
        turns = max(1, _BLOCK // count)
        batches = np.arange(number * turns, (number + 1) * turns) * self._world + rank
        places = ((batches * count + offset)[:, None] + np.arange(count)).ravel()
        return places[places < self._of[1]]

    def _kept(self, key: tuple[int, ...], places_of: Callable[..., Indices]) -> Indices:
        """Return a block of indices that is kept, or compute it; its key is the arguments of ``places_of``."""
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            block = self._blocks[key] = permuted(self._seed, *self._of, places_of(*key))
        return block
