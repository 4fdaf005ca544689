"""`cached`: results of a function, or of a method of any dataset, computed once for all processes of a host.

The results of one function with one state of its object are a cache in the folder, as for `Dataset.cache`. Its name
is the digest of everything that may change a result, except for the arguments, see `_Results.name`. The arguments
determine the number of a result in its cache::

    one integer     twice the integer
    any others      an odd number, by a hash of the arguments; they are stored with the result, and compared

A hit compares the object's attributes, and the globals that the function uses, with the values in the key: mostly
by identity, so that it takes a few microseconds, and a copy of the arrays.
"""

import contextlib
import enum
import functools
import hashlib
import inspect
import os
import pickle
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from mpqueue.dataset.arguments import check_folder, check_room
from mpqueue.dataset.caches import FolderCache
from mpqueue.dataset.record_files import MISSING
from mpqueue.plan.coroutines import reject_coroutine
from mpqueue.seeding.generators import GeneratorState, global_generators
from mpqueue.worker import context
from mpqueue.worker.fixed_seeds import FixedSeeds
from mpqueue.worker.user_generators import UserGenerators

P = ParamSpec("P")
R = TypeVar("R")

_MOST_DIRECT = 1 << 26  # larger integers would make an index of many gigabytes, though a sparse one
_PLACES = 1 << 22  # for other arguments
_PROBES = 16
_MOST_STATES = 16  # of the objects of a function, which keep their files open in a process
_MOST_COMPARED = 16_384  # bytes of a pickle, which takes 10 us
_PLAIN = frozenset((str, bytes, int, float, complex, bool, types.NoneType))


def cached(
    folder: str | os.PathLike[str], *, max_bytes: int | str | None = None, version: object = None,
    key: Callable[[Any], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:  # fmt: skip
    """Return a decorator of a function or method, whose results are computed once for all processes of the host.

    Decode in the decorated method, and augment its result afterwards. All ranks, workers and later jobs read the result
    from the same memory. The dataset can be one of torch, or any other object.

    A result depends on the code of the function and of the functions and methods that it calls, on the plain
    attributes of its object, and on the arguments. If one of these changes, the result is computed again. Code of other
    packages counts by name, and files do not count: set ``version`` when they change.

    Example:
        A dataset that decodes each image once::

            import tempfile
            import numpy as np
            import mpqueue

            class Images:
                def __init__(self, size):
                    self.size = size

                def __len__(self):
                    return 100

                def __getitem__(self, index):
                    image = self.decoded(index)
                    return image[:, ::-1] if index % 2 else image

                @mpqueue.cached(tempfile.mkdtemp(), max_bytes="20%")
                def decoded(self, index):
                    return np.full((self.size, self.size, 3), index, np.uint8)

            with mpqueue.Loader(Images(32), batch_size=10, workers=2) as loader:
                assert sum(len(batch) for batch in loader) == 100

    Args:
        folder: A folder of a local disk or of /dev/shm, which is created if needed. Several functions can share it.
        max_bytes: Maximum size of all caches in the folder, see `Dataset.cache`.
        version: Plain data that is a part of the key.
        key: A function of the object that returns plain data, which replaces the attributes. Plain data are strings,
            bytes, numbers, bools, None and paths, and lists, tuples, sets and dicts of them.

    Returns:
        A decorator. The decorated function returns private copies: arrays are writable, as if they were just computed.
        It raises a `TypeError` if an attribute or an argument is not plain data, and a `RuntimeError` if the function
        draws random numbers. In another thread than the main one, other threads may have drawn them. There the result
        is returned, but not stored.

    Raises:
        TypeError: An argument has the wrong type, or the decorated object is not a plain function.
        ValueError: ``max_bytes`` is less than 1, or is a string that is not a percentage.
    """
    path = os.path.abspath(check_folder("cached", folder))
    most = check_room("cached", max_bytes, path)
    told = repr(_plain_of(version, "version"))
    if key is not None and not callable(key):
        raise TypeError(f"cached: key must be a function of the object that returns plain data, got {key!r}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if type(function) is not types.FunctionType:
            raise TypeError(
                f"cached decorates a function or a method, got {function!r}: write it directly above def, below "
                "decorators such as @staticmethod"
            )
        reject_coroutine("cached", function, "cache what it awaits in a plain function")
        if inspect.isgeneratorfunction(function):
            raise TypeError(f"cached: {function.__qualname__} is a generator function: return a list of its items")
        results = _Results(function, path, most, told, key)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            value: R = results.get(args, kwargs)
            return value

        vars(call)["counts_of"] = results.counts_of
        return call

    return decorate


class _ResultCache(FolderCache):
    """The results of a function with one state of its object."""

    remedy = "cached() pickles results: return arrays and plain data"

    def __repr__(self) -> str:
        return f"cached({self._folder!r})"


class _Snapshot:
    """Values as they were, to notice that one was replaced, or changed in place."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = tuple(values)
        self._changeable = [value for value in values if _may_change(value)]
        self._pickled, self._copies = b"", None
        if self._changeable:
            # A global container may have objects that cannot be pickled.
            with contextlib.suppress(Exception):
                self._pickled = pickle.dumps(self._changeable, 5)
            if not 0 < len(self._pickled) <= _MOST_COMPARED:
                self._pickled, self._copies = b"", _copied(self._changeable)

    def equals(self, values: Sequence[Any]) -> bool:
        """Return whether these values are the same objects with the same contents."""
        if len(values) != len(self._values) or not all(map(is_, values, self._values)):
            return False
        if self._pickled:
            return pickle.dumps(self._changeable, 5) == self._pickled
        # 4 ns for each item of a long list, which is usually the same object.
        try:
            return self._copies is None or self._changeable == self._copies
        except Exception:  # of items that cannot be compared, such as two arrays
            return False


def _may_change(value: Any) -> bool:
    kind = type(value)
    return kind in (list, dict, set) or (kind is tuple and any(map(_may_change, value)))


def _copied(value: Any) -> Any:
    """Return plain containers without a part that the original could change."""
    kind = type(value)
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_copied(item) for item in value])
    return value.copy() if kind is set else value


class _Code(NamedTuple):
    """The code that a function uses.

    Attributes:
        key: Its key.
        reads: Functions that return the current values of its globals, and of attributes of its class.
        names: Their values in the key.
    """

    key: str
    reads: list[Callable[[], Any]]
    names: _Snapshot


class _State(NamedTuple):
    """An object as it was when its key was computed.

    Attributes:
        of: A reference to the object.
        code: The key of the code.
        names: The names of its attributes.
        values: Their values, or the data of ``key``.
        cache: The results.
    """

    of: Callable[[], Any]
    code: str
    names: tuple[str, ...]
    values: _Snapshot
    cache: _ResultCache


class _Results:
    """The results of a function."""

    def __init__(
        self, function: types.FunctionType, folder: str, max_bytes: int | None, version: str,
        key: Callable[[Any], object] | None,
    ) -> None:  # fmt: skip
        self._function, self._folder, self._max_bytes = function, folder, max_bytes
        self._version, self._key = version, key
        self._signature = inspect.signature(function)
        self._forget()

    def _forget(self) -> None:
        self._states: dict[int, _State] = {}  # by the id of the object
        self._caches: dict[str, _ResultCache] = {}
        self._codes: dict[type | None, _Code] = {}
        self._are_objects: dict[type, bool] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def fingerprint(self) -> str:
        """Return the part of the key that is not in the function, for `mpqueue.dataset.fingerprint`."""
        return self._version

    def get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a call."""
        state = self._state_of(args[0] if args else None)
        own = args[1:] if self._is_object(args[0] if args else None) else args
        if len(own) == 1 and not kwargs and type(own[0]) is int and 0 <= own[0] < _MOST_DIRECT:
            number, text = 2 * own[0], ""
        else:
            number, text = self._number_of(args, kwargs, num_own=len(own))
        if text:
            place, found = _search(state.cache, number, text)
        else:
            place, found = number, state.cache.get(number, copies=True)
        if found is not MISSING:
            return found
        value, may_store = self._computed(state, args, kwargs)
        # Another process may have stored it in the meantime.
        if may_store and place is not None and state.cache.get(place) is MISSING:
            state.cache.put(place, (text, value) if text else value)
        return value

    def counts_of(self, thing: Any) -> tuple[int, int, int, int] | None:
        """Return the counters of the results of an object; see `Cache.counts`."""
        try:
            return self._state_of(thing).cache.counts()
        except (OSError, TypeError):  # a call of the method will raise it
            return None

    def _number_of(self, args: tuple[Any, ...], kwargs: dict[str, Any], num_own: int) -> tuple[int, str]:
        """Return the first number for some arguments, and their text, without arguments that equal the default."""
        bound = self._signature.bind(*args, **kwargs).arguments
        names = list(bound)[len(args) - num_own :]
        given: dict[str, Any] = {}
        for name in names:
            plain = _plain_of(bound[name], f"argument {name!r} of {self._function.__qualname__}")
            default = self._signature.parameters[name].default
            if type(default) not in _PLAIN or repr(plain) != repr(default):
                given[name] = plain
        (first, *_), value = list(self._signature.parameters)[len(args) - num_own :] or [""], None
        if list(given) == [first]:
            value = given[first]
        if type(value) is int and 0 <= value < _MOST_DIRECT:
            return 2 * value, ""
        text = repr(sorted(given.items()))
        return 2 * (int.from_bytes(_digest(text)[:8], "little") % _PLACES) + 1, text

    def _state_of(self, thing: Any) -> _State:
        """Return the state of the object of a method, or of a plain function."""
        if not self._is_object(thing):
            thing = None
        code = self._code_of(None if thing is None else type(thing))
        state = self._states.get(id(thing))
        if (
            state is not None
            and state.code == code
            and (thing is None or (state.of() is thing and self._is_as(thing, state)))
        ):
            return state
        state = self._states[id(thing)] = self._new_state(thing, code)
        return state

    def _code_of(self, kind: type | None) -> str:
        """Return the key of the function's code, for an object of a class."""
        code = self._codes.get(kind)
        if code is None or not code.names.equals([read() for read in code.reads]):
            from mpqueue.dataset.fingerprint import fingerprint_of_call  # 10 ms for what it imports

            key, names = fingerprint_of_call(self._function, kind)
            code = self._codes[kind] = _Code(key, [read for read, _ in names], _Snapshot([value for _, value in names]))
        return code.key

    def _is_object(self, thing: Any) -> bool:
        """Return whether the function is a method of this object's class."""
        kind = type(thing)
        found = self._are_objects.get(kind)
        if found is None:
            values = (value for each in kind.__mro__ for value in vars(each).values())
            found = any(getattr(value, "__wrapped__", None) is self._function for value in values)
            self._are_objects[kind] = found
        return found

    def _is_as(self, thing: Any, state: _State) -> bool:
        """Return whether an object is as it was."""
        if self._key is not None:
            return self._data_of_key(thing) == state.names
        attributes = vars(thing)
        return tuple(attributes) == state.names and state.values.equals(list(attributes.values()))

    def _data_of_key(self, thing: Any) -> tuple[str]:
        assert self._key is not None
        return (repr(_plain_of(self._key(thing), "the result of key")),)

    def _new_state(self, thing: Any, code: str) -> _State:
        if self._key is not None and thing is not None:
            names: tuple[str, ...] = self._data_of_key(thing)
            return _State(_reference_to(thing), code, names, _Snapshot(()), self._cache_of(code, names))
        attributes: dict[str, Any] = {}
        if thing is not None:
            if not hasattr(thing, "__dict__"):
                raise TypeError(
                    f"cached: {type(thing).__name__} has no __dict__: pass key=, a function of the object that returns "
                    "plain data"
                )
            attributes = vars(thing).copy()
        plain = [
            (name, _plain_of(value, f"attribute {name!r} of {type(thing).__name__}"))
            for name, value in attributes.items()
            if not name.startswith("__")  # of `typing`
        ]
        if len(self._states) > _MOST_STATES:
            self._states = {number: state for number, state in self._states.items() if state.of() is not None}
        values = _Snapshot(list(attributes.values()))
        return _State(_reference_to(thing), code, tuple(attributes), values, self._cache_of(code, plain))

    def _cache_of(self, code: str, plain: object) -> _ResultCache:
        name = _digest(repr((code, self._version, plain))).hex()[:32]
        cache = self._caches.get(name)
        if cache is None:
            if len(self._caches) >= _MOST_STATES:
                del self._caches[next(iter(self._caches))]
            cache = self._caches[name] = _ResultCache(self._folder, name, self._max_bytes)
        return cache

    def _computed(self, state: _State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Return the result of the function, and whether it may be stored."""
        compute = functools.partial(self._function, *args, **kwargs)
        held = UserGenerators((args[:1], self._function))
        own = None if context.current_batch() is None else GeneratorState(context.rng())
        while True:
            num_known = len(global_generators())
            seeds = FixedSeeds(held, context.begin_batch, _tell_nothing)
            value = seeds.watched(compute)
            if own is not None and own.has_changed():
                break
            if seeds.is_exact:
                return value, True
            if len(global_generators()) == num_known:
                if context.shares_generators() or threading.current_thread() is not threading.main_thread():
                    state.cache.tell_of_draws()
                    return value, False
                break
            # It has imported torch, so it is not known whether it has drawn from torch's generator.
        raise RuntimeError(
            f"{self._function.__qualname__} has drawn random numbers, and a cached result would repeat them in each "
            "epoch: draw in the caller, after the call, or pass the numbers as arguments"
        )


_MADE_ANEW = {"_states", "_caches", "_codes", "_are_objects"}


def _reference_to(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # also for None
        return lambda: thing


def _search(cache: FolderCache, number: int, text: str) -> tuple[int | None, Any]:
    """Return the number that belongs to some arguments and the result, which may be missing; None if all are taken."""
    for place in range(number, number + 2 * _PROBES, 2):
        found = cache.get(place, copies=True)
        if found is MISSING:
            return place, MISSING
        if found[0] == text:
            return place, found[1]
    return None, MISSING


def _tell_nothing() -> None:
    """Do not warn: `_Results` does."""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _plain_of(value: Any, what: str) -> Any:
    """Return data whose `repr` is equal for equal plain data of the same types only.

    Raises:
        TypeError: It is not plain data.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        items = list(value) if _PLAIN.issuperset(map(type, value)) else [_plain_of(item, what) for item in value]
        return items if kind is list else tuple(items)
    if kind is dict:
        return {"dict": [(_plain_of(key, what), _plain_of(item, what)) for key, item in value.items()]}
    if kind is set or kind is frozenset:
        return {kind.__name__: sorted(repr(_plain_of(item, what)) for item in value)}
    if isinstance(value, np.generic) and value.dtype.kind in "biufSU":
        return value.item()
    if isinstance(value, os.PathLike):
        return {"path": os.fspath(value)}
    if isinstance(value, enum.Enum):
        return {kind.__qualname__: value.name}
    if kind is range or kind is slice:
        return {"range": repr(value)}
    remedy = "pass key=, a function of the object that returns plain data" if "attribute" in what else "pass plain data"
    raise TypeError(
        f"cached: {what} contains a {kind.__name__}, expected strings, bytes, numbers, None, paths, or lists, tuples, "
        f"sets and dicts of them: {remedy}"
    )
