"""Seeding and states of the generators that all code of a process shares: of `random`, `numpy.random` and torch.

Only public interfaces are used. No object of Python, NumPy or torch is replaced or changed otherwise.
"""

import ctypes
import random
import sys
from types import ModuleType
from typing import Any

import numpy as np

from mpqueue.seeding.seeds import GOLDEN, WORD
from mpqueue.system.signals.deferred import defer_signals

_OF_SEED, _OF_EPOCH, _PRIME = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, (1 << 64) - 59
NUM_WORDS = 624  # of a Mersenne Twister's state
_TORCH_MASK = 0x7FFFFFFFFFFFFFFF


def imported_torch() -> ModuleType | None:
    """Return torch if it is imported; None for a stub of that name without generators."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "default_generator") else None


def seed_globals(seed: int, epoch: int, index: int) -> None:
    """Seed all generators for one batch or sample."""
    number = number_of(seed, epoch, index)
    random.seed(number)
    seed_numpy(number)
    torch = imported_torch()
    if torch is not None:
        seed_torch(torch.default_generator, number)


def seed_numpy(number: int) -> None:
    """Seed the generator of the functions of `numpy.random` with an integer of 64 bits."""
    number &= 0xFFFFFFFF
    bits = _numpy_bits()
    if type(bits) is np.random.MT19937:
        np.random.seed(number)  # noqa: NPY002
    else:
        # Unlike an assignment to `bits.state`, this removes a cached normal number.
        np.random.set_state(type(bits)(number).state)  # noqa: NPY002


def seed_torch(generator: Any, number: int) -> None:
    """Seed a generator of torch with an integer of 64 bits."""
    generator.manual_seed(number & _TORCH_MASK)


def set_initial_seed(generator: Any, seed: int) -> None:
    """Set the result of a torch generator's ``initial_seed()``. The numbers that it draws do not change."""
    state = generator.get_state()
    state.numpy()[:8] = np.frombuffer((seed & 0xFFFFFFFFFFFFFFFF).to_bytes(8, sys.byteorder), np.uint8)
    generator.set_state(state)


def number_of(seed: int, epoch: int, index: int) -> int:
    """Return the integer of 64 bits that the generators are seeded with for a batch or sample."""
    # Not `hash`, which a later version of Python may compute differently. The factors are not those of
    # `mpqueue.seeding.seeds.position_of`: an index may be such a position.
    number = (seed * _OF_SEED + epoch * _OF_EPOCH + index) % _PRIME
    return (number ^ number >> 32) * GOLDEN & WORD


class GlobalState:
    """The states of all generators, to restore after a batch was computed in the training process."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy_bits = bits = _numpy_bits()
        # With a cached normal number, which is not in the state of the bit generator.
        self._numpy: Any = _TwisterState(bits) if type(bits) is np.random.MT19937 else np.random.get_state(legacy=False)  # noqa: NPY002
        torch = imported_torch()
        self._torch: Any = None if torch is None else torch.default_generator.get_state()

    def add_torch(self, torch: ModuleType) -> None:
        """Include the state of torch, which was imported just now."""
        self._torch = torch.default_generator.get_state()

    def use_up_normal(self) -> None:
        """Remove a cached normal number of NumPy, which code would draw without a change of the bit generator."""
        has_normal = self._numpy.has_normal if isinstance(self._numpy, _TwisterState) else self._numpy["has_gauss"]
        if has_normal:
            _draw_normal()

    def restore(self) -> None:
        """Restore all generators. A second call has the same effect."""
        random.setstate(self._python)
        if _numpy_bits() is not self._numpy_bits:
            np.random.set_bit_generator(self._numpy_bits)  # type: ignore[attr-defined]
        if isinstance(self._numpy, _TwisterState):
            self._numpy.restore()
        else:
            np.random.set_state(self._numpy)  # noqa: NPY002
        torch = imported_torch()
        if torch is not None and self._torch is not None:
            torch.default_generator.set_state(self._torch)
        elif torch is not None:
            torch.default_generator.seed()  # imported since: it had a random state, which the batch has seeded


class _TwisterState:
    """The state of `numpy.random` with a Mersenne Twister, including a cached normal number.

    ``get_state`` and ``set_state`` convert each of the 624 words between C and Python. They take 40 times as long as a
    copy of the memory. They remain for a state with a cached number: the second one of a pair of normal numbers,
    which is not in the memory of the bit generator.

    Args:
        bits: The bit generator of `numpy.random`.
    """

    def __init__(self, bits: Any) -> None:
        self._bits, self._words, self._lock = bits, words_of(bits), bits.lock  # `bits` owns the memory
        self._with_normal: tuple[Any, ...] | None = None
        with defer_signals():  # an exception after the draw would lose a cached number
            self._copy = bytes(self._words)
            number = _draw_normal()
            if bytes(self._words) == self._copy:  # a cached number is returned without a draw
                words = np.frombuffer(self._copy, np.uint32)
                self._with_normal = "MT19937", words[:NUM_WORDS], int(words[NUM_WORDS]), 1, number
            self.restore()

    @property
    def has_normal(self) -> bool:
        """True if the state includes a cached normal number."""
        return self._with_normal is not None

    def restore(self) -> None:
        """Restore the state. A second call has the same effect, also after an exception in the first one."""
        if self._with_normal is not None:
            np.random.set_state(self._with_normal)  # noqa: NPY002
            return
        before = bytes(self._words)
        _draw_normal()  # uses up a cached number
        if bytes(self._words) != before:
            _draw_normal()  # there was none: uses up the second number of the new pair
        with self._lock:
            ctypes.memmove(self._words, self._copy, len(self._copy))


def _draw_normal() -> float:
    return np.random.standard_normal()  # noqa: NPY002


def words_of(bits: Any) -> ctypes.Array[ctypes.c_uint32]:
    """Return the memory of a Mersenne Twister, 624 words and the position, at the address that NumPy publishes."""
    return (ctypes.c_uint32 * (NUM_WORDS + 1)).from_address(bits.ctypes.state_address)


def _numpy_bits() -> Any:
    return np.random.get_bit_generator()  # type: ignore[attr-defined]
