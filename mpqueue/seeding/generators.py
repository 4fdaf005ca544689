"""Random generators inside an object, and their states as plain data. It changes only the generators.

`mpqueue.system.contents` searches for generators of Python, NumPy and torch; each is identified by its path. A state
consists of numbers, strings, lists and dicts, so that it can be stored as JSON.
"""

import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mpqueue.system.contents import contents, is_a

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


def state_of(generator: Any) -> dict[str, Any]:
    """Return the state of a generator as plain data."""
    if isinstance(generator, random.Random):
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
    # The state may be from a checkpoint of a sampler with another generator at this path.
    if saved["kind"] != state_of(generator)["kind"]:
        return
    state = saved["state"]
    if isinstance(generator, random.Random):
        version, words, gauss = state
        generator.setstate((version, tuple(words), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif _is_of_torch(generator):
        generator.set_state(sys.modules["torch"].frombuffer(bytearray.fromhex(state), dtype=sys.modules["torch"].uint8))
    else:
        generator.set_state(state)


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _is_generator(value: Any) -> bool:
    if is_a(value, (np.random.Generator, np.random.RandomState)):
        return True
    if is_a(value, random.Random):
        return not is_a(value, random.SystemRandom)
    return _is_of_torch(value)


def _is_of_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and is_a(value, getattr(torch, "Generator", ()))
