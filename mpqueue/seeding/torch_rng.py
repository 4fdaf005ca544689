"""torch's default generator, seeded for each batch or sample where torch is imported; nothing is done where it is not.

There is no way to be told of the first number that is drawn from it, as there is for the other generators
(`mpqueue.worker.first_draw`): it is C++ throughout, and kernels draw inside of it. To seed it takes 1.1 µs, to look
whether something was drawn 1.2 µs; both are much beside a small sample, and little beside a batch. So:

    a batch, or an item of a function      seeded
    a batch of samples that are a stream   seeded once: with its number, as a batch is
    a batch of samples of known places     the first one: each sample is seeded, and looked at
                                           if none has drawn: the samples of later batches are not seeded, and if the
                                           generator is not untouched in the end, the batch is computed once more
                                           if one has drawn: each sample is seeded, for ever
    an element of a stream of a dataset    the same; its lane is opened anew from its last snapshot to compute it again

So a source is asked twice for the samples of one batch at most, in the life of a worker; and only if it draws now and
then, and did not in the worker's first batch. In the trainer, where others draw from the generator, too, each sample is
seeded. Only the CPU's generator is seeded: those of other devices are theirs
who use them.
"""

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, TypeVar

from mpqueue.system.imports import Watch
from mpqueue.system.interrupts import is_of_handler

_MASK = 0x7FFFFFFFFFFFFFFF
Of = tuple[int, int, int]
T = TypeVar("T")


class OnTrial(Protocol):
    """Computes elements without seeding, and once more if they have drawn.

    Attributes:
        is_due: `each` is to be asked.
    """

    is_due: bool

    def each(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return what ``compute`` returns, which may be called again for the same element."""
        ...


class TorchNumbers:
    """Seeds torch's default generator.

    Args:
        find_current: Returns the seed, epoch and unit of the batch or sample that is computed, None if there is none.
        is_ours: Nobody draws from the generator but the source.

    Attributes:
        is_due: `seed` is to be called before each batch or sample.
        stages: Of `mpqueue.telemetry.recorder`, while a batch is timed.
    """

    def __init__(self, find_current: Callable[[], Of | None], *, is_ours: bool) -> None:
        self.is_due = False
        self.stages: Any = None
        self._find_current = find_current
        self._generator: Any = None
        self._original: Any = None  # the state in which torch was imported
        self._draws = None if is_ours else True  # None: it is not known yet
        self._is_looking = False
        self._left: bytes | None = None  # the generator after the last sample was seeded, or after the last batch
        self._of: Of | None = None  # of the batch of a stream's samples that is computed
        self._has_begun = False
        self._watch = Watch("torch", self._begin)
        self._has_begun = True

    def _begin(self, torch: ModuleType) -> None:
        """Torch is imported from now on, maybe in the middle of a sample."""
        if not hasattr(torch, "default_generator"):
            return  # another module of this name, such as a stub of a program that has no PyTorch
        self._generator = torch.default_generator
        self._original = self._generator.get_state()
        self.is_due = self._of is None
        of = self._of or (self._find_current() if self._has_begun else None)
        if of is not None:
            self.seed(*of)

    def seed(self, seed: int, epoch: int, unit: int) -> None:
        """Seed the generator for a batch or sample."""
        (self._seed if self.stages is None else self.stages.seeding(self._seed))(hash((seed, epoch, unit)) & _MASK)

    def _seed(self, number: int) -> None:
        if self._is_looking:
            self._look()
        self._generator.manual_seed(number)
        if self._is_looking:
            self._left = self._mark()

    def _look(self) -> None:
        """Find out whether the last sample has drawn."""
        if self._left is not None and self._left != self._mark():
            self._draws = True

    def _mark(self) -> bytes:
        """Return something that any draw from the generator changes."""
        state = self._generator.get_state()
        return ctypes.string_at(state.data_ptr(), state.nbytes)  # not by NumPy, which takes twice as long

    def each(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return what computes the samples of a batch, and may be called again for the same batch.

        Raises:
            Exception: What ``compute`` raised.
        """
        if self._draws or self._generator is None:
            return compute(*arguments)
        if self._draws is None:
            return self._first(compute, *arguments)
        self.is_due = False
        raised: Exception | None = None
        try:
            result = compute(*arguments)
        except Exception as error:
            if is_of_handler(error):
                raise
            raised = error
        finally:
            self.is_due = True
        if self._mark() != self._left:
            self._draws, result, raised = True, None, None  # type: ignore[assignment]  # its memory is needed again
            return compute(*arguments)
        if raised is not None:
            raise raised
        return result

    def _first(self, compute: Callable[..., T], *arguments: Any) -> T:
        self._is_looking, self._left = True, None  # what was drawn until now, no sample has drawn
        try:
            return compute(*arguments)
        finally:
            self._look()
            self._is_looking = False
            self._draws, self._left = bool(self._draws), self._mark()

    def at_once(self, of: Of, compute: Callable[..., T], *arguments: Any) -> T:
        """Return what computes a batch of samples that are seeded together.

        Raises:
            Exception: What ``compute`` raised.
        """
        self._of = of
        if self._generator is not None:
            self.seed(*of)
            self.is_due = False
        try:
            return compute(*arguments)
        finally:
            self._of, self.is_due = None, self._generator is not None

    def mark(self) -> bytes | None:
        """Return something that any draw from the generator changes; None if torch is not imported."""
        return None if self._generator is None else self._mark()

    def state(self) -> Any:
        """Return the generator's state, None if torch is not imported."""
        return None if self._generator is None else self._generator.get_state()

    def restore(self, state: Any) -> None:
        """Put the generator back to what `state` has returned."""
        if self._generator is not None:
            self._generator.set_state(self._original if state is None else state)

    def end(self) -> None:
        """Wait no longer for torch."""
        self._watch.end()
