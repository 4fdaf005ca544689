"""Random numbers of a batch follow from (seed, epoch, index), and from nothing else. Pure.

So the stream is the same for 1 or 64 workers, after a worker's death, and after a resume.
"""

import ctypes
import hashlib
import random
import sys
from typing import Any, NamedTuple

import numpy as np

_ORDER = 0x6F72646572  # separates the numbers of a shuffle from those of the batches


class BatchSeed(NamedTuple):
    """What the random numbers of one batch follow from."""

    seed: int
    epoch: int
    unit: int


def generator(of: BatchSeed) -> np.random.Generator:
    """The batch's own generator; the same numbers whenever and wherever it is made."""
    return np.random.Generator(np.random.PCG64(_sequence(of)))


_NUM_WORDS = 624  # of a Mersenne Twister's state

_python_generator = random.seed.__self__  # type: ignore[attr-defined]  # the one behind the module's functions
_twister = np.random.MT19937(0)
_seed_twister = np.random.RandomState(_twister).seed  # the one way to seed it with a single number


class _PythonState(ctypes.Structure):
    """What follows the object header of a `random.Random` in CPython."""

    _fields_ = (("index", ctypes.c_int), ("words", ctypes.c_uint32 * _NUM_WORDS))


def _words_at(address: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(memoryview((ctypes.c_uint32 * _NUM_WORDS).from_address(address)), np.uint32)


def _find_python_state() -> _PythonState | None:
    """The state of Python's generator in memory, or None: this interpreter keeps it elsewhere."""
    if sys.implementation.name != "cpython" or type(_python_generator).__itemsize__:
        return None
    state = _PythonState.from_address(id(_python_generator) + object.__basicsize__)
    return state if (*state.words, state.index) == random.getstate()[1] else None


_twister_words = _words_at(_twister.ctypes.state_address)
_python_state = _find_python_state()
_python_words = None if _python_state is None else _words_at(ctypes.addressof(_python_state.words))


def seed_globals(seed: int, epoch: int, unit: int) -> None:
    """Seed `random` and NumPy's global generator for one batch.

    Both are Mersenne Twisters, and Python's own way to seed one takes 3.4 µs, of the 13 that a worker spends on a tiny
    batch. So Python's is given the state that NumPy's seeding makes, by a copy in memory: 2.1 µs.
    """
    # The hash of a tuple of ints is defined by CPython's xxHash variant and not salted; the twisters mix it further.
    mixed = hash((seed, epoch, unit))
    _seed_twister(mixed >> 32 & 0xFFFFFFFF)
    if _python_state is None or _python_words is None:
        random.setstate((3, (*_twister_words.tolist(), _NUM_WORDS), None))
    else:
        _python_words[...] = _twister_words
        _python_state.index = _NUM_WORDS
        _python_generator.gauss_next = None
    np.random.seed(mixed & 0xFFFFFFFF)  # noqa: NPY002 - the global generator is what user code draws from


class GlobalState:
    """The state of the global generators, to be put back after a batch was computed in the trainer."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy: Any = np.random.get_state()  # noqa: NPY002

    def restore(self) -> None:
        """Put both generators back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002


def permutation(seed: int, epoch: int, length: int) -> np.ndarray[Any, Any]:
    """The order of a shuffled epoch: uint32 below 2**32 entries, so 4 bytes each."""
    order = np.arange(length, dtype=np.uint32 if length <= 1 << 32 else np.uint64)
    np.random.Generator(np.random.PCG64(_sequence(BatchSeed(seed, epoch, _ORDER)))).shuffle(order)
    return order


def fresh_seed(*numbers: int) -> int:
    """A seed for whoever gave none: from the state of Python's `random` (not drawn from) and ``numbers``.

    So `random.seed(...)` or `keras.utils.set_random_seed(...)` makes a run reproducible, and the trainer's own numbers
    stay what they were.
    """
    digest = hashlib.blake2b(repr((random.getstate(), numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _sequence(of: BatchSeed) -> np.random.SeedSequence:
    # Entropy must not be negative, indices of user-made orders may be.
    return np.random.SeedSequence([number & 0xFFFFFFFFFFFFFFFF for number in of])
