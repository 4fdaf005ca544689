"""Seeding of the generators that all code of a process shares, for each batch or sample, if the source uses them.

Seeding takes 3.4 µs for Python's generator, 1.6 µs for NumPy's and 1.1 µs for torch's. A small sample takes less time,
and most sources draw no random numbers. No interface reports the first draw, so each generator is checked separately:

    the first batch of a worker     all generators are seeded for each sample, and checked after it
    a generator was drawn from      it is seeded for each sample from then on
    it was not drawn from           it is not seeded, but checked after each batch. If the batch has drawn from it, the
                                    batch is computed again, with this generator seeded for each sample

So a source that draws only now and then may be called twice for one batch, once per generator and worker. An element of
a stream is computed again in a lane that is reopened at its last snapshot.

Elements of generator functions and iterators, and samples that several threads compute, cannot be computed again. There
the generators are always seeded. For samples in threads and for batches of a generator function, they are seeded once
per batch.
"""

import ctypes
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from mpqueue.seeding.global_rng import NUM_WORDS, number_of, seed_numpy, seed_torch, words_of
from mpqueue.system.processes.own_process import make_mark
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.imports import Watch

Of = tuple[int, int, int]  # seed, epoch, and position of a batch or sample
T = TypeVar("T")


class PythonRng:
    """The generator of the functions of `random`."""

    def __init__(self) -> None:
        self._twin = random.Random(0)
        self._draw, self._draw_from_twin = random.getrandbits, self._twin.getrandbits
        self._owner: Any = random.gauss.__self__  # type: ignore[attr-defined]
        self._kept: float | None = None

    def seed(self, number: int) -> None:
        """Seed the generator with an integer of 64 bits, which may be negative."""
        random.seed(number)

    def watch(self) -> None:
        """Remember the state of the generator for `has_drawn`, by a copy in the twin."""
        self._twin.setstate(random.getstate())
        self._kept = self._owner.gauss_next

    def has_drawn(self) -> bool:
        """Return True if the generator was drawn from, seeded or set since `watch` or the last call of this method.

        Once the result is True, call `watch` before the next call. The generator and its twin are drawn from.
        """
        # `random.getstate` takes 5 µs, two draws 0.1 µs. The generator advances in step with its twin, and code that
        # needs reproducible numbers seeds it first. Two different states draw the same 32 bits once in 4 billion times.
        # `random.gauss` stores every second number, and returns it without a draw.
        return self._draw(32) != self._draw_from_twin(32) or self._owner.gauss_next is not self._kept


class NumpyRng:
    """The generator of the functions of `numpy.random`; users can replace its bit generator."""

    def __init__(self) -> None:
        self._find_bits: Any = np.random.get_bit_generator  # type: ignore[attr-defined]
        self._bits: Any = None
        self._words = memoryview(b"")
        self._position = self._first = -1

    def seed(self, number: int) -> None:
        """Seed the generator."""
        seed_numpy(number)

    def watch(self) -> None:
        """Remember the bit generator and its position."""
        bits = self._find_bits()
        if type(bits) is not np.random.MT19937:
            self._bits = None  # its state has another layout: `has_drawn` always returns True
            return
        if bits is not self._bits:
            # A copy of the state takes 2 µs. Here its memory is read.
            self._bits, self._words = bits, memoryview(words_of(bits)).cast("B").cast("I")
        self._position, self._first = self._words[NUM_WORDS], self._words[0]

    def has_drawn(self) -> bool:
        """Compare the bit generator, its position, and a word that changes after each 624 draws."""
        words = self._words
        return self._find_bits() is not self._bits or words[NUM_WORDS] != self._position or words[0] != self._first


class TorchRng:
    """The default generator of torch for the CPU. Generators of other devices belong to the user.

    Args:
        torch: The module.
    """

    def __init__(self, torch: ModuleType) -> None:
        self._generator: Any = torch.default_generator
        self._state = b""

    def seed(self, number: int) -> None:
        """Seed the generator."""
        seed_torch(self._generator, number)

    def watch(self) -> None:
        """Copy the state."""
        self._state = self._copied()

    def has_drawn(self) -> bool:
        """Compare the state, which takes 1.2 µs."""
        return self._copied() != self._state

    def _copied(self) -> bytes:
        state = self._generator.get_state()
        return ctypes.string_at(state.data_ptr(), state.nbytes)  # through NumPy it takes twice as long


GlobalRng: TypeAlias = PythonRng | NumpyRng | TorchRng


class LazySeeding:
    """Seeding of the generators of this process for batches or samples.

    Args:
        can_repeat: Batches and samples can be computed again. If False, all generators are seeded each time.
        is_shared: Other code of this process draws from the generators between two batches.

    Attributes:
        is_due: `seed` must be called before each batch or sample.
        num_repeats: The number of batches that are computed again: data kept from their first computation, such as
            the samples of a group of blocks, may have unseeded numbers.
        stages: The `mpqueue.telemetry.stages.Stages` of a batch that is timed, or None.
    """

    def __init__(self, *, can_repeat: bool = True, is_shared: bool = False) -> None:
        self.is_due, self.num_repeats = True, 0
        self.stages: Any = None
        self._can_repeat, self._is_shared = can_repeat, is_shared
        self._is_first = can_repeat
        self._seeded: list[GlobalRng] = [PythonRng()]  # seeded before each batch or sample
        self._idle: list[GlobalRng] = []  # never drawn from
        self._drawn: list[GlobalRng] = []  # drawn from in the first batch
        self._of: Of | None = None  # the batch or sample of the last seeding
        self._own = make_mark()
        self._watches = Watch("numpy.random", self._add_numpy), Watch("torch", self._add_torch)

    def _add_numpy(self, module: ModuleType) -> None:
        # As the import does after this call. Until then, NumPy would import the module again at each use of the name.
        vars(np)["random"] = module
        self._add(NumpyRng())

    def _add_torch(self, torch: ModuleType) -> None:
        if hasattr(torch, "default_generator"):  # otherwise a stub module of that name
            self._add(TorchRng(torch))

    def _add(self, rng: GlobalRng) -> None:
        """Handle the import of a generator's module, which may happen while the source computes a sample."""
        if self._can_repeat and not self._is_first:
            rng.watch()
            self._idle.append(rng)
            return
        self._seeded.append(rng)
        if self._of is not None:
            rng.seed(number_of(*self._of))
        if self._is_first:
            rng.watch()

    def seed(self, seed: int, epoch: int, index: int) -> None:
        """Seed the generators for a batch or sample, except generators that the source does not use."""
        (self._seed if self.stages is None else self.stages.seeding(self._seed))((seed, epoch, index))

    def _seed(self, of: Of) -> None:
        if self._is_first:
            self._check_first()  # before the seeding, which would hide a draw
        self._of, number = of, number_of(*of)
        for rng in self._seeded:
            rng.seed(number)
        if self._is_first:
            for rng in self._seeded:
                rng.watch()

    def each(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return the result of `compute`, which calls `seed` before each batch or sample if `is_due`.

        It may be called a second time for the same arguments.

        Raises:
            Exception: The exception that ``compute`` raised.
        """
        if self._is_first:
            return self._first(compute, *arguments)
        if self._is_shared:
            for rng in self._idle:
                rng.watch()
        raised: BaseException | None = None
        try:
            result = compute(*arguments)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raised = error
        # All of them: `watch` would not notice the second normal number of a pair that NumPy stores after a draw.
        drawn = [rng for rng in self._idle if rng.has_drawn()]
        # Python seeds its generator in each child that the source forks. The child must exit without computing batches.
        if not drawn or not self._own[0]:
            if raised is not None:
                raise raised
            return result
        result = raised = None  # type: ignore[assignment]  # release their memory, which the second call needs
        self._begin_seeding(drawn)
        return self.each(compute, *arguments)  # with other random numbers it may use another generator, too

    def _begin_seeding(self, drawn: list[GlobalRng]) -> None:
        self._idle = [rng for rng in self._idle if rng not in drawn]
        self._seeded += drawn
        self.is_due = True
        self.num_repeats += 1
        for rng in self._idle:
            rng.watch()

    def _first(self, compute: Callable[..., T], *arguments: Any) -> T:
        self._of = None
        try:
            return compute(*arguments)
        finally:
            self._check_first()
            self._is_first, self._of = False, None
            self._idle = [rng for rng in self._seeded if rng not in self._drawn]
            self._seeded = self._drawn
            self.is_due = bool(self._seeded)
            for rng in self._idle:
                rng.watch()

    def _check_first(self) -> None:
        """Record the generators that the previous sample has drawn from."""
        if self._of is not None:  # otherwise they were not seeded yet
            self._drawn += [rng for rng in self._seeded if rng not in self._drawn and rng.has_drawn()]

    def once(self, of: Of, compute: Callable[..., T], *arguments: Any) -> T:
        """Return the result of `compute`, with all generators seeded once, for a batch with samples that share them.

        Raises:
            Exception: The exception that ``compute`` raised.
        """
        self._seeded, self._idle, self._is_first = [*self._seeded, *self._idle], [], False
        self._can_repeat = False  # a generator whose module the batch imports must be seeded at once
        self.seed(*of)
        self.is_due = False
        try:
            return compute(*arguments)
        finally:
            self.is_due = True

    def end(self) -> None:
        """Stop waiting for imports of NumPy's and torch's generators."""
        for watch in self._watches:
            watch.end()
