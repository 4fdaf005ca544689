"""Random numbers of a sample, from (seed, epoch, place in the order), and from nothing else.

So a sample draws the same numbers whatever the batch size and the number of workers. Python's `random` and NumPy's
global generator are set by the runner of the source, as for any source. Torch's default generator is set here.

Seeding it costs a microsecond and more, and most datasets do not draw from it. So a batch is first computed with the
generator seeded once. If that is untouched in the end, nothing was drawn. If it is not, the samples of this one batch
are computed again, each with its own numbers, and from then on the generator is seeded for each sample: the dataset has
shown that it draws. A worker begins in this second way, and takes to the first when its first batch has drawn nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch

_MASK = 0x7FFFFFFFFFFFFFFF

Begin: TypeAlias = Callable[[int, int, int], None]


def seed_torch(seed: int, epoch: int, place: int) -> None:
    """Seed torch's default generator; those of other devices are left alone."""
    torch.default_generator.manual_seed(hash((seed, epoch, place)) & _MASK)


class SampleNumbers:
    """Computes samples, each with its own random numbers.

    Args:
        seed: The numbers follow from it.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = True
        self._has_drawn = False

    def each(
        self, compute: Callable[[Any], Any], indices: Iterable[Any], epoch: int, first: int, begin: Begin
    ) -> list[Any]:
        """Return the samples of these indices; the first one is at place ``first`` of the order."""
        if self._draws:
            return self._each_seeded(compute, indices, epoch, first, begin)
        seed_torch(self._seed, epoch, first)
        before = _mark()
        samples, error = [], None
        try:
            for place, index in enumerate(indices, first):
                begin(self._seed, epoch, place)
                samples.append(compute(index))
        except Exception as raised:
            error = raised
        if _mark() != before:
            self._draws = self._has_drawn = True
            return self._each_seeded(compute, indices, epoch, first, begin)
        if error is not None:
            raise error
        return samples

    def _each_seeded(
        self, compute: Callable[[Any], Any], indices: Iterable[Any], epoch: int, first: int, begin: Begin
    ) -> list[Any]:
        samples = []
        for place, index in enumerate(indices, first):
            begin(self._seed, epoch, place)
            seed_torch(self._seed, epoch, place)
            before = None if self._has_drawn else _mark()
            samples.append(compute(index))
            if before is not None and _mark() != before:
                self._has_drawn = True
        self._draws = self._has_drawn
        return samples

    def for_batch(self, epoch: int, first: int, begin: Begin) -> None:
        """Seed for what computes a whole batch: ``__getitems__``, ``collate_fn``."""
        begin(self._seed, epoch, ~first)
        seed_torch(self._seed, epoch, ~first)


def _mark() -> bytes:
    """Return something that any draw from the generator changes."""
    state: bytes = torch.default_generator.get_state().numpy().tobytes()
    return state
