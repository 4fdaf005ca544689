"""The random numbers of the model. The numbers of user code are a function of only (seed, epoch, place).

The keys of the numbers are mpqueue's own: they have separate golden data in ``tests/seeding``.
"""

import inspect
import random
import threading
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

import mpqueue
from mpqueue.dataset.mix.arithmetic import shuffled
from mpqueue.seeding.global_rng import number_of
from mpqueue.seeding.permutation import SampleOrder, mixed_numbers
from mpqueue.seeding.picks import Picks
from mpqueue.seeding.seeds import BatchSeed, generator, permutation, position_of, sequence_of

__all__ = [
    "Picks",
    "SampleOrder",
    "call",
    "drawn",
    "mixed_numbers",
    "permutation",
    "position_of",
    "seed_of_stage",
    "shuffled",
]

_WORD = 0xFFFFFFFFFFFFFFFF


def seed_of_stage(seed: int, stage_index: int) -> int:
    """Each stage of a dataset has its own seed, derived from the seed of the run and the index of the stage."""
    return (seed + stage_index * 0x9E3779B97F4A7C15) & _WORD


class Numbers:
    """The generators that user code finds: all of them restart from (seed, epoch, place)."""

    def __init__(self, seed: int, epoch: int, position: int) -> None:
        self._key = seed, epoch, position

    @cached_property
    def rng(self) -> np.random.Generator:
        """What `mpqueue.rng` returns."""
        return generator(BatchSeed(*self._key))

    @cached_property
    def python(self) -> random.Random:
        """The generator of the module `random`."""
        return random.Random(number_of(*self._key))

    @cached_property
    def numpy(self) -> np.random.RandomState:
        """The generator of the functions of `numpy.random`."""
        return np.random.RandomState(number_of(*self._key) & 0xFFFFFFFF)

    def held(self, path: str) -> random.Random:
        """A generator that the source holds, at a path of attributes."""
        words = [each & _WORD for each in (*self._key, zlib.crc32(path.encode()))]
        return random.Random(int.from_bytes(np.random.SeedSequence(words).generate_state(4).tobytes(), "little"))


class _Thread(threading.local):
    now = None  # the numbers while the model calls user code; the product's threads call the same code


_thread = _Thread()


def call(key: tuple[int, int, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Before each call of user code, the random numbers restart; ``key`` is (seed, epoch, token)."""
    seed, epoch, token = key
    before, _thread.now = _thread.now, Numbers(seed, epoch, position_of(token))
    try:
        made = function(*arguments)
        return _awaited(made) if inspect.iscoroutine(made) else made
    finally:
        _thread.now = before


def _awaited(coroutine: Any) -> Any:
    """Run a whole coroutine without an event loop: under the model it never waits."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("user code waits")


def is_model():
    """Return whether the model calls user code in this thread, not the product."""
    return _thread.now is not None


def drawn(kinds: str) -> tuple[int, ...]:
    """Return a random number of each kind, as user code draws it: "r" mpqueue's, "p" Python's, "n" NumPy's."""
    draws: dict[str, Callable[[], Any]] = {"r": _of_rng, "p": _of_python, "n": _of_numpy}
    return tuple(int(draws[kind]()) for kind in kinds)


def _of_rng() -> Any:
    return (mpqueue.rng() if _thread.now is None else _thread.now.rng).integers(1000)


def _of_python() -> Any:
    return (random if _thread.now is None else _thread.now.python).randrange(1000)


def _of_numpy() -> Any:
    return (np.random if _thread.now is None else _thread.now.numpy).randint(1000)


def of_held(path: str, generator: random.Random) -> int:
    """Return a random number of a generator that the source holds at a path."""
    return (generator if _thread.now is None else _thread.now.held(path)).randrange(1000)


def is_in_part(seed: int, index: int, low: float, high: float) -> bool:
    """A sample is in a part of `split` if a hash of the seed and its index is in the range of the part."""
    (key,) = sequence_of(seed, 0x73706C6974).generate_state(1, np.uint64).tolist()
    word = (index * 0x9E3779B97F4A7C15 + key) & _WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = ((word ^ word >> shift) * factor) & _WORD
    return round(low * 2**53) <= (word ^ word >> 31) >> 11 < round(high * 2**53)
