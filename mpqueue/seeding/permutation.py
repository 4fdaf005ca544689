"""The order of the samples of an epoch, a function of (seed, epoch) that is computed position by position.

Each worker computes its indices itself, so that no indices are drawn or sent before the first batch. Up to
65,536 samples are shuffled at once, in half a millisecond. More samples are permuted by a Feistel network over the next
power of two, with keys derived from (seed, epoch). A result that is not an index is encrypted again until it is one
(cycle walking, less than two rounds on average). Whole blocks of positions are computed at once, because NumPy's calls
cost more than their work for a few numbers.
"""

from collections.abc import Callable, Sequence
from operator import eq
from typing import Any, TypeAlias

import numpy as np

from mpqueue.seeding.seeds import raw_words, sequence_of

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_SHUFFLED = 0x73616D706C6573  # separates these numbers from all others derived from the seed
_MIXED = 0x6D69786564  # the same for `mixed_numbers`
_MAX_SHUFFLED = 1 << 16
_ROUNDS = 6
_BLOCK = 1 << 12
_MAX_BLOCKS = 4
_MULTIPLIERS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_WORD = 0xFFFFFFFFFFFFFFFF
_MANY = 24  # from this number of positions on, NumPy is faster than one place at a time


def permuted(seed: int, epoch: int, length: int, positions: Indices) -> Indices:
    """Return the indices at these positions of a shuffled epoch of more than one sample."""
    bits, keys = _bits_of(length), _keys_of(seed, epoch)
    indices = _encrypt(positions.astype(np.uint64), bits, keys)
    # There are less than twice as many values as indices, so that on average more than half of them are indices at
    # once.
    while True:
        (outside,) = np.nonzero(indices >= np.uint64(length))
        if not len(outside):
            return indices.astype(np.int64)
        indices[outside] = _encrypt(indices[outside], bits, keys)


def _bits_of(length: int) -> int:
    # Both parts of a number need at least one bit.
    return max(2, (length - 1).bit_length())


def _keys_of(seed: int, epoch: int) -> np.ndarray[Any, Any]:
    return sequence_of(seed, epoch, _SHUFFLED).generate_state(_ROUNDS, np.uint64)


def permuted_one(keys: Sequence[int], length: int, position: int) -> int:
    """Return the index at one place, as `permuted`: 6 µs, a tenth of the cost of NumPy's calls for one number."""
    bits = _bits_of(length)
    low, high = bits // 2, bits - bits // 2
    low_mask, high_mask = (1 << low) - 1, (1 << high) - 1
    first, second = map(int, _MULTIPLIERS)
    while True:
        left, right = position >> low, position & low_mask
        for step, key in enumerate(keys):
            mixed = ((right if step % 2 == 0 else left) + key & _WORD) * first & _WORD
            mixed = (mixed ^ mixed >> 32) * second & _WORD
            mixed ^= mixed >> 32
            if step % 2:
                right ^= mixed & low_mask
            else:
                left ^= mixed & high_mask
        position = left << low | right
        if position < length:
            return position


def _encrypt(values: np.ndarray[Any, Any], bits: int, keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values after one pass through the network, a bijection of the numbers below ``2 ** bits``."""
    low, high = bits // 2, bits - bits // 2
    # Each round changes one part by a function of the other, unchanged part. It can be undone: a bijection.
    left, right = values >> np.uint64(low), values & np.uint64((1 << low) - 1)
    for step, key in enumerate(keys):
        if step % 2:
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


def mixed_numbers(seed: int, epoch: int, indices: Indices) -> np.ndarray[Any, Any]:
    """Return a random integer for each number; the order of these integers is a random order of the numbers."""
    key = sequence_of(seed, epoch, _MIXED).generate_state(1, np.uint64)[0]
    return _mixed(indices.astype(np.uint64), key)


def mixed_number(seed: int, epoch: int, index: int) -> int:
    """Return the integer of `mixed_numbers` for one number, as a Python integer.

    In NumPy 1, a uint64 and a Python integer make a float64, which does not have all bits.
    """
    return int(mixed_numbers(seed, epoch, np.array([index]))[0])


def is_run(positions: Sequence[int]) -> bool:
    """Return whether the positions are consecutive."""
    if type(positions) is range:
        return positions.step == 1
    return positions[-1] - positions[0] == len(positions) - 1 and all(
        map(eq, positions, range(positions[0], positions[0] + len(positions)))
    )


class SampleOrder:
    """The orders of successive epochs, for one worker.

    Args:
        seed: The order depends only on the seed and the epoch.
        shuffle: Use a new order for each epoch. If False, the indices ascend.
        world: Number of ranks that share the batches of an epoch.
        max_shuffled: An epoch of at most this number of samples is shuffled at once.
    """

    def __init__(self, seed: int, *, shuffle: bool, world: int = 1, max_shuffled: int = _MAX_SHUFFLED) -> None:
        self._seed, self._shuffle, self._world, self._max_shuffled = seed, shuffle, world, max_shuffled
        self._of: tuple[int, int] = (-1, -1)  # epoch and length of the current order
        self._whole: Indices | None = None
        self._blocks: dict[tuple[int, ...], Indices] = {}  # see `_kept`
        self._latest: tuple[int, int, int] | None = None  # size, offset and rank of the latest run of positions
        self._keys: list[int] = []

    def indices(self, epoch: int, length: int, first: int, count: int) -> Sequence[int]:
        """Return ``count`` indices from position ``first`` on; after the last one, they begin again."""
        if first + count > length:
            indices: list[int] = []
            while len(indices) < count:
                start = (first + len(indices)) % length
                indices += self.indices(epoch, length, start, min(count - len(indices), length - start))
            return indices
        if not self._shuffle:
            return range(first, first + count)
        shuffled: list[int] = self.run_at(epoch, length, first, count).tolist()
        return shuffled

    def run_at(self, epoch: int, length: int, first: int, count: int) -> Indices:
        """Return the indices of a shuffled order at consecutive positions, which are all below the length."""
        if self._of != (epoch, length):
            self._enter(epoch, length)
        if self._whole is not None:
            return self._whole[first : first + count]
        if self._world > 1 and self._repeats(first, count):
            return self._of_rank(first, count)
        return self._from_blocks(first, count)

    def at(self, epoch: int, length: int, positions: Sequence[int]) -> Sequence[int]:
        """Return the indices at any positions."""
        count = len(positions)
        if not count or not self._shuffle:
            return positions
        if (count >= _MANY or length <= self._max_shuffled) and is_run(positions):
            return self.indices(epoch, length, positions[0], count)
        if self._of != (epoch, length):
            self._enter(epoch, length)
        if self._whole is not None:
            whole: list[int] = self._whole[np.asarray(positions)].tolist()
            return whole
        # The positions of a lane: its blocks contain only its own positions.
        if type(positions) is range and positions.step > 1:
            step = positions.step
            of_lane: list[int] = self._from_blocks(
                positions.start // step, count, step, positions.start % step
            ).tolist()
            return of_lane
        if count >= _MANY:
            many: list[int] = permuted(self._seed, epoch, length, np.asarray(positions)).tolist()
            return many
        return [permuted_one(self._keys, length, position) for position in positions]

    def array_at(self, epoch: int, length: int, positions: Indices, is_run: bool) -> Indices:
        """Return the indices at many positions, which are consecutive if ``is_run``."""
        if not self._shuffle:
            return positions
        if is_run:  # from blocks, which may contain the following positions, too
            return self.run_at(epoch, length, int(positions[0]), len(positions))
        if self._of != (epoch, length):
            self._enter(epoch, length)
        return permuted(self._seed, epoch, length, positions) if self._whole is None else self._whole[positions]

    def _enter(self, epoch: int, length: int) -> None:
        # The order is complete before it is stored, by assignments alone, and `_of` is the last one. If a signal
        # handler raises in between, no later call mistakes a partial order for a complete one.
        whole, keys = None, self._keys
        if length <= self._max_shuffled:
            from mpqueue.seeding.words import shuffled_range  # imported here: a worker without a shuffle skips it

            words = raw_words(length, self._seed, epoch, _SHUFFLED, length)
            whole = shuffled_range(words).view(np.int64)
        else:
            keys = _keys_of(self._seed, epoch).tolist()
        self._whole, self._keys, self._blocks, self._of = whole, keys, {}, (epoch, length)

    def _from_blocks(self, first: int, count: int, step: int = 1, offset: int = 0) -> Indices:
        """Return the indices at positions ``offset + step * number``, for ``count`` numbers from ``first`` on."""
        parts: list[Indices] = []
        position, last = first, first + count
        while position < last:
            block, start = divmod(position, _BLOCK)
            parts.append(self._kept((block, step, offset), self._positions_in_steps)[start : start + last - position])
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _repeats(self, first: int, count: int) -> bool:
        """Return whether a run of positions is a batch with the size and the rank of the previous run, if any."""
        # A block of one rank is useful only if its other batches are requested, too: positions without a pattern would
        # waste it.
        batch, offset = divmod(first, count)
        latest, self._latest = self._latest, (count, offset, batch % self._world)
        return latest in {None, self._latest}

    def _of_rank(self, first: int, count: int) -> Indices:
        """Return the indices of a batch of one rank, from a block that contains only batches of this rank."""
        # With 100 ranks and 32 samples per batch, a block of consecutive positions has one batch of this rank: 390 µs
        # per batch rather than 27.
        batch, offset = divmod(first, count)
        turn, rank = divmod(batch, self._world)
        block, start = divmod(turn, max(1, _BLOCK // count))
        indices = self._kept((block, rank, count, offset), self._positions_of_rank)
        return indices[start * count : (start + 1) * count]

    def _positions_in_steps(self, block: int, step: int, offset: int) -> Indices:
        first = offset + step * block * _BLOCK
        return np.arange(first, min(first + step * _BLOCK, self._of[1]), step)

    def _positions_of_rank(self, block: int, rank: int, count: int, offset: int) -> Indices:
        turns = max(1, _BLOCK // count)
        batches = np.arange(block * turns, (block + 1) * turns) * self._world + rank
        positions = ((batches * count + offset)[:, None] + np.arange(count)).ravel()
        return positions[positions < self._of[1]]

    def _kept(self, key: tuple[int, ...], positions_of: Callable[..., Indices]) -> Indices:
        """Return a cached block of indices, or compute it; its key is the arguments of ``positions_of``."""
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            block = self._blocks[key] = permuted(self._seed, *self._of, positions_of(*key))
        return block
