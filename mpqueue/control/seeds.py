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
    """The numbers from which the random numbers of one batch follow."""

    seed: int
    epoch: int
    unit: int


def generator(of: BatchSeed) -> np.random.Generator:
    """Return the batch's own generator: the same numbers whenever and wherever it is made."""
    return np.random.Generator(np.random.PCG64(_sequence(of)))


_NUM_WORDS = 624  # of a Mersenne Twister's state


class _PythonState(ctypes.Structure):
    """The memory behind the object header of a `random.Random` in CPython."""

    _fields_ = (("index", ctypes.c_int), ("words", ctypes.c_uint32 * _NUM_WORDS))


def _words_at(address: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(memoryview((ctypes.c_uint32 * _NUM_WORDS).from_address(address)), np.uint32)


def _find_python_state() -> _PythonState | None:
    """Return the state of Python's generator in memory, None if this interpreter keeps it elsewhere."""
    if sys.implementation.name != "cpython" or type(_python_generator).__itemsize__:
        return None
    state = _PythonState.from_address(id(_python_generator) + object.__basicsize__)
    return state if (*state.words, state.index) == random.getstate()[1] else None


_python_generator = random.seed.__self__  # type: ignore[attr-defined]  # the one behind the module's functions
_python_state = _find_python_state()
_python_words = None if _python_state is None else _words_at(ctypes.addressof(_python_state.words))
_numpy_twister: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # the one behind np.random's functions
_numpy_words = _words_at(_numpy_twister.ctypes.state_address)[::-1]


def seed_globals(seed: int, epoch: int, unit: int) -> None:
    """Seed `random` and NumPy's global generator for one batch.

    Both are Mersenne Twisters, and Python's own way to seed one takes 3.4 µs, more than all else that a worker does
    for a tiny batch but NumPy's 1.6. So Python's is given, by a copy in memory, the words that NumPy's seeding has
    made, in reverse: 0.3 µs. (Each twist mixes neighbours and the word 397 further on, so that no two numbers of the
    two generators have more than one word in common.)
    """
    # The hash of a tuple of ints is defined by CPython's xxHash variant and not salted.
    mixed = hash((seed, epoch, unit)) & 0xFFFFFFFF
    is_usual = np.random.get_bit_generator() is _numpy_twister  # type: ignore[attr-defined]
    if _python_state is None or _python_words is None or not is_usual:
        _seed_slowly(mixed)
        return
    np.random.seed(mixed)  # noqa: NPY002 - the global generator is what user code draws from
    _python_words[...] = _numpy_words
    _python_state.index = _NUM_WORDS
    _python_generator.gauss_next = None


def _seed_slowly(mixed: int) -> None:
    """The same numbers, where the generators are not the usual ones."""
    twister = np.random.RandomState(mixed)
    words = twister.get_state()[1][::-1].tolist()  # type: ignore[index]
    random.setstate((3, (*words, _NUM_WORDS), None))
    np.random.seed(mixed)  # noqa: NPY002 - whatever bit generator the user has put there


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
