"""Random generators inside an object, and their states as plain data. It changes only the generators.

`mpqueue.system.user_code.object_walk` searches for generators of Python, NumPy and torch; each is identified by its
path. `state_of` returns numbers, strings, lists and dicts, so that a state can be stored as JSON. A `GeneratorState`
remains in this process, and has the state as the generator's class returns it.
"""

import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mpqueue.system.user_code.object_walk import contents, is_a

# For datasets in datasets, with transforms of transforms. The number of objects bounds the search as well.
_MAX_DEPTH = 16


def generators_in(source: Any, without: Iterable[Any] = ()) -> Iterator[tuple[str, Any]]:
    """Yield all generators inside a source with their paths, breadth first; objects of ``without`` are skipped."""
    # Long containers are skipped: a list of a million file names contains no generator.
    for found in contents(source, _is_generator, without=without, skips_long=True, depth=_MAX_DEPTH):
        yield found.path, found.value


def global_generators() -> dict[str, Any]:
    """Return the generators that all code of a process shares, by name; torch's if it is imported."""
    own: Any = random.random, np.random.rand  # methods of the global ones
    of_torch = getattr(sys.modules.get("torch"), "default_generator", None)
    generators = {"random": own[0].__self__, "numpy": own[1].__self__, "torch": of_torch}
    return {name: generator for name, generator in generators.items() if generator is not None}


class GeneratorState:
    """The state of a generator at one moment, in the form of the generator's own class.

    Args:
        generator: The generator.

    Raises:
        Exception: Its class does not return a state.
    """

    __slots__ = ("_state", "generator")

    def __init__(self, generator: Any) -> None:
        self.generator, self._state = generator, _read(generator)

    def restore(self) -> None:
        """Set the generator to this state. A second call has the same effect."""
        _write(self.generator, self._state)

    def has_changed(self) -> bool:
        """Return whether the generator was drawn from, seeded or set since."""
        return bool(_comparable(_read(self.generator)) != _comparable(self._state))


def _read(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.get_state()


def _write(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    # The bit generator of a RandomState may have been replaced in the meantime; it accepts only states of its class.
    elif (
        not isinstance(generator, np.random.RandomState) or _read(generator)["bit_generator"] == state["bit_generator"]
    ):
        generator.set_state(state)


def _comparable(state: Any) -> Any:
    return state.numpy().tobytes() if _is_tensor(state) else _plain(state)


def _is_tensor(state: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(state, getattr(torch, "Tensor", ()))


def state_of(generator: Any) -> dict[str, Any] | None:
    """Return the state of a generator as plain data.

    None: a subclass of `random.Random` has its own form of state that is not plain data, or does not return it.
    """
    if isinstance(generator, random.Random):
        if type(generator).getstate is not random.Random.getstate:
            return _state_of_subclass(generator)
        version, words, gauss = generator.getstate()
        return {"kind": "random", "state": [version, list(words), gauss]}
    if isinstance(generator, np.random.Generator):
        state = _plain(generator.bit_generator.state)
        return {"kind": state["bit_generator"], "state": state}
    if _is_of_torch(generator):
        return {"kind": "torch", "state": generator.get_state().numpy().tobytes().hex()}
    state = _plain(generator.get_state(legacy=False))
    return {"kind": f"RandomState {state['bit_generator']}", "state": state}


def set_state(generator: Any, saved: dict[str, Any]) -> None:
    """Restore a generator's state from `state_of`; it is left unchanged if its kind differs."""
    present, state = state_of(generator), saved["state"]
    # The state may be from a checkpoint of a sampler with another generator at this path.
    if present is None or saved["kind"] != present["kind"]:
        return
    if isinstance(generator, random.Random):
        if type(generator).getstate is not random.Random.getstate:
            generator.setstate(_unmarked(state))
            return
        version, words, gauss = state
        generator.setstate((version, tuple(words), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif _is_of_torch(generator):
        generator.set_state(sys.modules["torch"].frombuffer(bytearray.fromhex(state), dtype=sys.modules["torch"].uint8))
    else:
        generator.set_state(state)


def _state_of_subclass(generator: random.Random) -> dict[str, Any] | None:
    try:
        state = _marked(generator.getstate())
    except Exception:
        return None
    return {"kind": f"random {type(generator).__qualname__}", "state": state}


def _marked(value: Any) -> Any:
    """Return a value with marked tuples and dicts, because JSON turns a tuple into a list.

    Raises:
        TypeError: The value is not plain data.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_marked(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_marked(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_marked(key), _marked(item)] for key, item in value.items()]}
    raise TypeError(f"expected plain data, got {type(value).__name__}")


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_unmarked(value["tuple"]))
    return {_unmarked(key): _unmarked(item) for key, item in value["dict"]}


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _is_generator(value: Any) -> bool:
    of_numpy = sys.modules.get("numpy.random")  # NumPy imports it at its first use, which a search is not
    if of_numpy is not None and is_a(value, (of_numpy.Generator, of_numpy.RandomState)):
        return True
    if is_a(value, random.Random):
        return not is_a(value, random.SystemRandom)
    return _is_of_torch(value)


def _is_of_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and is_a(value, getattr(torch, "Generator", ()))
