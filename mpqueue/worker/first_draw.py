"""An accelerator of `mpqueue.seeding.global_generators`: seeds the global generators when they are first drawn from.

Seeding both takes 2 µs, as much as a small sample, and most sources draw nothing. So the generators are *armed*: a
stand-in takes the place of each, and the first number that is asked of one of them seeds both, puts them back, and is
drawn from them. A source that draws has its next sample seeded at once; one that does not is armed again.

What it brings, by turns with seeding at once, both on a loaded machine with two CPUs (medians of five): 148,600 samples
of 32 bytes a second instead of 32,800; 8.0 µs of a worker's CPU for a tiny batch instead of 10.6.
There is no plain way to the same. To put other functions into the module `random` misses ``from random import random``
of a module that was imported before the fork; and to seed one batch in several, and compute again what has drawn,
asks the source twice.

    begin --armed--> nothing to be done          begin --has drawn--> seeded at once
                                                 begin --has not----> armed

*NumPy's* has a bit generator of ours, by `numpy.random.set_bit_generator`: nothing of NumPy is changed. *Python's* has
no such way. All that it gives comes from three functions in C. While it is armed, their entries in the table of methods
lead to operators of `_random.Random` instead, which are ours: an exception passes through them, as it would not through
a function of ctypes. Its index is then a number that no generator in use has, which tells whether user code has seeded
it meanwhile. Whoever seeds it sets its ``gauss_next``, too: that is a property of ours, which settles, so that the next
sample is not taken for one whose numbers are the user's. These places are details of CPython: they are looked at first,
and where they are not as expected, all samples are seeded at once.

Only for worker processes: nothing there is drawn from these generators but by the code of the user. And only as long
as one thread computes samples. Two that draw at once could meet in the middle of a settling, when NumPy has the
functions of one generator and the state of the other. So from the first helper thread on the generators are seeded at
once (`stop_arming`).
"""

import _random
import ctypes
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.seeding import global_generators, twisters
from mpqueue.worker.sample_block import CurrentSample

_ARMED = 1 << 30  # an index of Python's generator that no other code sets; one in use has at most 624
_NOARGS, _ONE = 0x4, 0x8  # flags of methods in C
# The functions that Python's generator draws by; functions of C's interface that are called with the same arguments;
# and the methods that those call.
_OPERATORS = {
    "random": ("PyNumber_Positive", "__pos__"),
    "getstate": ("PyNumber_Negative", "__neg__"),
    "getrandbits": ("PyNumber_MatrixMultiply", "__matmul__"),
}


class _MethodDef(ctypes.Structure):
    """An entry of a table of methods, a part of CPython's stable ABI."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


class _Bits(ctypes.Structure):
    """NumPy's interface of bit generators, ``bitgen_t``."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("state", "uint64", "uint32", "double", "raw"))


class _StandIn(np.random.MT19937):
    """Stands in for NumPy's global bit generator until somebody draws from it, seeds it, or asks for its state."""

    def __init__(self, settle: Callable[[], Any]) -> None:
        super().__init__(0)
        self._settle = settle
        kinds = {
            "uint64": ctypes.c_uint64,
            "uint32": ctypes.c_uint32,
            "double": ctypes.c_double,
            "raw": ctypes.c_uint64,
        }
        self._callbacks = {name: self._callback(name, kind) for name, kind in kinds.items()}
        self._bits = _Bits(
            None, *(ctypes.cast(callback, ctypes.c_void_p).value for callback in self._callbacks.values())
        )
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        self._name = b"BitGenerator"
        self._capsule = make(ctypes.addressof(self._bits), self._name, None)

    def _callback(self, name: str, kind: Any) -> Any:
        # A raw number of this generator has 32 bits, though C's interface returns 64: MT19937 draws no more at once.
        settle, asked = self._settle, "next_uint32" if name == "raw" else f"next_{name}"

        def draw(_: Any) -> Any:
            interface = settle().ctypes
            return getattr(interface, asked)(interface.state)

        return ctypes.CFUNCTYPE(kind, ctypes.c_void_p)(draw)

    @property
    def capsule(self) -> Any:
        """The interface by which NumPy draws."""
        return self._capsule

    def random_raw(self, *args: Any, **options: Any) -> Any:
        """Draw from the generator itself: NumPy's would draw from this one's own state."""
        return self._settle().random_raw(*args, **options)

    def _legacy_seeding(self, seed: Any) -> None:
        self._settle()._legacy_seeding(seed)

    @property
    def state(self) -> Any:
        """That of the generator itself."""
        return self._settle().state

    @state.setter
    def state(self, value: Any) -> None:
        self._settle().state = value


class AtOnce:
    """Seeds the global generators for each sample before it is computed.

    Args:
        current: The sample.

    Attributes:
        is_armed: Nothing is to be done for the next sample.
        stages: Of `mpqueue.telemetry.recorder`, while a batch is timed.
    """

    def __init__(self, current: CurrentSample) -> None:
        self.is_armed = False
        self.stages: Any = None
        self._current = current

    def begin(self) -> None:
        """Have the next numbers be those of the current sample; to be called if it is not armed."""
        self._seed()

    def stop_arming(self) -> None:
        """Seed at once from now on."""

    def _seed(self) -> None:
        of = self._current.alone()
        if of is not None:
            seed = global_generators.seed_globals
            if self.stages is not None:
                seed = self.stages.seeding(seed)
            seed(*of)


class FirstDraw(AtOnce):
    """Seeds the global generators when the current sample draws from them.

    Args:
        current: The sample.

    Raises:
        LookupError: The generators are not where they are expected.
    """

    def __init__(self, current: CurrentSample) -> None:
        super().__init__(current)
        state = twisters.python_state
        if state is None:
            raise LookupError("Python's generator lies elsewhere")
        self._python, self._numpy = state, twisters.numpy_twister
        self._entries = [_entry_of(name) for name in _OPERATORS]
        self._originals = [entry.function for entry in self._entries]
        self._operators = [_address_of(operator) for operator, _ in _OPERATORS.values()]
        for name, (_, method) in _OPERATORS.items():
            # Of the class in C: a program may draw from it, or derive from it, without `random.Random`.
            setattr(_random.Random, method, self._drawing(getattr(_random.Random, name)))
        random.Random.gauss_next = property(_gauss_next, self._set_gauss_next)  # type: ignore[attr-defined]
        self._stand_in = _StandIn(self._settle)
        self._is_shared = False  # by several threads
        address = self._numpy.ctypes.state_address
        self._numpy_index = ctypes.c_int.from_address(address + 4 * twisters.NUM_WORDS)

    def begin(self) -> None:
        """Have the next numbers be those of the current sample; to be called if it is not armed."""
        if self._is_shared or self._has_drawn():
            self._seed()
        else:
            self._arm()

    def stop_arming(self) -> None:
        """Seed at once from now on; to be called while no other thread draws."""
        self._is_shared = True
        self._settle()

    def _has_drawn(self) -> bool:
        fresh = twisters.NUM_WORDS
        return self._python.index != fresh or self._numpy_index.value != fresh

    def _arm(self) -> None:
        if np.random.get_bit_generator() is not self._numpy:  # type: ignore[attr-defined]
            self._seed()  # user code has put another one there
            return
        np.random.set_bit_generator(self._stand_in)  # type: ignore[attr-defined]
        self._python.index = _ARMED
        for entry, address in zip(self._entries, self._operators, strict=True):
            entry.function = address
        self.is_armed = True

    def _settle(self) -> Any:
        """Put both generators back, and seed those that user code has not seeded; return NumPy's."""
        if self.is_armed:
            self.is_armed = False
            for entry, address in zip(self._entries, self._originals, strict=True):
                entry.function = address
            if np.random.get_bit_generator() is self._stand_in:  # type: ignore[attr-defined]
                np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
            if self._python.index == _ARMED:
                self._seed()
            else:
                kept = random.getstate()
                self._seed()
                random.setstate(kept)
        return self._numpy

    def _drawing(self, function: Any) -> Any:
        settle = self._settle

        def draw(*arguments: Any) -> Any:
            settle()
            return function(*arguments)

        return draw

    def _set_gauss_next(self, generator: random.Random, value: float | None) -> None:
        if self.is_armed and generator is twisters.python_generator:
            self._settle()
        vars(generator)["gauss_next"] = value


def _gauss_next(generator: random.Random) -> Any:
    return vars(generator).get("gauss_next")


def _address_of(function: str) -> int | None:
    return ctypes.cast(getattr(ctypes.pythonapi, function), ctypes.c_void_p).value


def _entry_of(name: str) -> _MethodDef:
    """Return the entry of a method of Python's generator.

    Raises:
        LookupError: It is not where this module looks for it.
    """
    bound = getattr(_random.Random(0), name)
    address = ctypes.c_void_p.from_address(id(bound) + object.__basicsize__).value
    entry = _MethodDef.from_address(address or 0)
    if entry.name != name.encode() or entry.flags not in (_NOARGS, _ONE):
        raise LookupError(f"{name} lies elsewhere")
    return entry


def make_seeder(current: CurrentSample) -> AtOnce:
    """Return what seeds for the current sample: at best when it draws, else at once."""
    is_usual = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
    global _seeder
    try:
        _seeder = FirstDraw(current) if is_usual else AtOnce(current)
    except (AttributeError, LookupError, TypeError):  # a TypeError where the class in C takes no methods
        _seeder = AtOnce(current)
    return _seeder


_seeder: AtOnce | None = None  # of this process; a trainer has none


def stop_arming() -> None:
    """Other threads of this process are about to compute samples: have their generators seeded at once."""
    if _seeder is not None:
        _seeder.stop_arming()
