"""`cached`: results of a function, or of a method of any dataset, computed once for all processes of a host.

The results of one function with one state of its object are a cache in the folder, as for `Dataset.cache`. Its name
is the digest of everything that may change a result, except for the arguments, see `_Results.name`. The arguments
determine the number of a result in its cache::

    one integer     twice the integer
    any others      an odd number in a hash table; the arguments are stored with the result, and compared

A hit compares the object's attributes, and the globals that the function uses, with the values in the key: mostly
by identity, so that it takes a few microseconds, and a copy of the arrays.
"""

import contextlib
import enum
import functools
import hashlib
import inspect
import os
import pathlib
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
from mpqueue.dataset.records import copied
from mpqueue.plan.coroutines import reject_coroutine
from mpqueue.seeding.generators import GeneratorState, global_generators
from mpqueue.worker import context
from mpqueue.worker.fixed_seeds import FixedSeeds
from mpqueue.worker.user_generators import UserGenerators

P = ParamSpec("P")
R = TypeVar("R")

_MOST_DIRECT = 1 << 24  # a process keeps a byte for each number of an index
# Sizes of the tables for other arguments. Each is used when the tables before it are full near the place of the
# arguments: in a single large table, each result would take a page of the index.
_TABLES = (1 << 12, 1 << 16, 1 << 20, 1 << 23)
_PROBES = 8
_MOST_STATES = 16  # of the objects of a function, which keep their files open in a process
_MOST_ALONE = 3  # calls, while other threads may draw random numbers
_MOST_COMPARED = 16_384  # bytes of a pickle, which takes 10 us
_PLAIN = frozenset((str, bytes, int, float, complex, bool, types.NoneType))
_UNCHANGED: tuple[Any, ...] = (
    *_PLAIN,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    enum.Enum,
    pathlib.PurePath,
    np.generic,
)
_CONTENTS = (list, dict, set, frozenset, tuple, str, bytes, bytearray, int, float, np.ndarray)
_SAME = {np.int64, np.bool_}  # as Python's: samplers return them


def cached(
    folder: str | os.PathLike[str], *, max_bytes: int | str | None = None, version: object = None,
    key: Callable[[Any], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:  # fmt: skip
    """Return a decorator of a function or method, whose results are computed once for all processes of the host.

    Decode in the decorated method, and augment its result afterwards. All ranks, workers and later jobs read the result
    from the same memory. The dataset can be one of torch, or any other object.

    A result depends on the code of the function and of the functions and methods that it calls, on the name of its
    object's class, on the object's plain attributes, and on the arguments. If one of these changes, the result is
    computed again. Code of installed packages counts by name, and files do not count: set ``version`` when they change.

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
        TypeError: An argument has the wrong type, or the decorated object is not a plain function, such as a property.
        ValueError: ``max_bytes`` is less than 1, or is a string that is not a percentage.
    """
    path = os.path.abspath(check_folder("cached", folder))
    most = check_room("cached", max_bytes, path)
    told = repr(_plain_of(version, "version"))
    if key is not None and not callable(key):
        raise TypeError(f"cached: key must be a function of the object that returns plain data, got {key!r}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if isinstance(function, property | functools.cached_property):
            raise TypeError(_OF_PROPERTY)
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

        vars(call)["counts_of"], vars(call)["release"] = results.counts_of, results.release
        return call

    return decorate


_OF_PROPERTY = (
    "cached cannot decorate a property: decorate a method, and call it in the property, such as "
    "`return self._decoded()`"
)


class _ResultCache(FolderCache):
    """The results of a function with one state of its object."""

    remedy = "cached() pickles results: return arrays and plain data"

    def __repr__(self) -> str:
        return f"cached({self._folder!r})"


class _Snapshot:
    """Values as they were, to notice that one was replaced, or changed in place."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)
        self._kept = [(number, _Kept(value)) for number, value in enumerate(values) if _may_change(value)]

    def equals(self, values: Sequence[Any]) -> bool:
        """Return whether these values are the same objects with the same contents."""
        if len(values) != len(self.values) or not all(map(is_, values, self.values)):
            return False
        return all(kept.equals(values[number]) for number, kept in self._kept)


class _Kept:
    """The contents of an object: its pickle, or a copy of a large container or array. Other objects have none."""

    def __init__(self, value: Any) -> None:
        self._pickled, self._copy = b"", None
        with contextlib.suppress(Exception):  # a global need not be picklable
            self._pickled = pickle.dumps(value, 5)
        if not 0 < len(self._pickled) <= _MOST_COMPARED:
            copy = _rebuilt(value, _copy_of)
            self._pickled, self._copy = b"", None if copy is value else copy

    def equals(self, value: Any) -> bool:
        """Return whether the object has these contents."""
        if self._pickled:
            return pickle.dumps(value, 5) == self._pickled
        if isinstance(self._copy, np.ndarray):
            return self._copy.dtype == value.dtype and np.array_equal(self._copy, value)
        # 4 ns for each item of a long list, which is usually the same object.
        try:
            return self._copy is None or value == self._copy
        except Exception:  # of items that cannot be compared, such as two arrays
            return False


def _may_change(value: Any) -> bool:
    if type(value) is tuple:
        return any(map(_may_change, value))
    return not isinstance(value, _UNCHANGED)


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return new containers, with the result of a function for each other part."""
    kind = type(value)
    if kind is dict:
        return {key: _rebuilt(item, change) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_rebuilt(item, change) for item in value])
    return change(value)


def _copy_of(value: Any) -> Any:
    """Return a copy of a set or an array, and any other object itself."""
    return value.copy() if type(value) in (set, np.ndarray) else value


def _writable(value: Any) -> Any:
    """Return a copy of an array that cannot be written, such as one of Pillow, and any other object itself."""
    return value.copy() if type(value) is np.ndarray and not value.flags.writeable else value


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
        self._slots: dict[type, list[tuple[str, Any]]] = {}

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
            given: int | str = own[0]
        else:
            given = self._integer_or_text(args, kwargs, num_own=len(own))
        if isinstance(given, str):
            salt, place, found = _search(state.cache, given)
        else:
            salt, place, found = 0, 2 * given, state.cache.get(2 * given, copies=True)
        if found is not MISSING:
            return found
        value, may_store = self._computed(state, args, kwargs)
        value = _rebuilt(value, _writable)
        # Another process may have stored it in the meantime.
        if may_store and place is not None and state.cache.get(place, salt) is MISSING:
            state.cache.put(place, (given, value) if isinstance(given, str) else value, salt)
        return copied(value, is_writable=True)  # it may be a part of the object

    def release(self) -> None:
        """Stop counting as a user of the results of all objects; see `Cache.release`."""
        for cache in [*self._caches.values()]:
            cache.release()

    def counts_of(self, thing: Any) -> tuple[int, int, int, int] | None:
        """Return the counters of the results of an object; see `Cache.counts`."""
        try:
            return self._state_of(thing).cache.counts()
        except (OSError, TypeError):  # a call of the method will raise it
            return None

    def _integer_or_text(self, args: tuple[Any, ...], kwargs: dict[str, Any], num_own: int) -> int | str:
        """Return the only argument if it is an integer, or a text of the arguments that do not equal the default."""
        bound, parameters = self._signature.bind(*args, **kwargs).arguments, [*self._signature.parameters.values()]
        if len(args) > num_own:  # the object
            if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
                bound[parameters[0].name] = args[1:]
            else:
                del bound[parameters.pop(0).name]
        given: dict[str, Any] = {}
        for parameter in parameters:
            name, default = parameter.name, parameter.default
            if name in bound:
                plain = _plain_of(bound[name], f"argument {name!r} of {self._function.__qualname__}")
                if type(default) not in _PLAIN or repr(plain) != repr(default):
                    given[name] = plain
        if parameters and list(given) == [parameters[0].name]:
            value = given[parameters[0].name]
            if type(value) is int and 0 <= value < _MOST_DIRECT:
                return value
        return repr(sorted(given.items()))

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
        state = self._new_state(thing, code)
        # A new dict, without a lock, which a fork in another thread could leave locked.
        others = [(number, each) for number, each in [*self._states.items()] if each.of() is not None]
        self._states = {**dict(others[-_MOST_STATES + 1 :]), id(thing): state}
        return state

    def _code_of(self, kind: type | None) -> str:
        """Return the key of the function's code, for an object of a class."""
        code = self._codes.get(kind)
        if code is None or not code.names.equals([read() for read in code.reads]):
            from mpqueue.dataset.fingerprint import fingerprint_of_call  # 10 ms for what it imports

            key, names = fingerprint_of_call(self._function, kind, self._key)
            code = self._codes[kind] = _Code(key, [read for read, _ in names], _Snapshot([value for _, value in names]))
        return code.key

    def _is_object(self, thing: Any) -> bool:
        """Return whether the function is a method of this object's class."""
        kind = type(thing)
        found = self._are_objects.get(kind)
        if found is None:
            values = [value for each in kind.__mro__ for value in vars(each).values()]
            getters = [getattr(value, "fget", getattr(value, "func", None)) for value in values]
            if any(getattr(getter, "__wrapped__", None) is self._function for getter in getters):
                raise TypeError(f"{_OF_PROPERTY}, got {self._function.__qualname__}")
            found = any(getattr(value, "__wrapped__", None) is self._function for value in values)
            self._are_objects[kind] = found
        return found

    def _is_as(self, thing: Any, state: _State) -> bool:
        """Return whether an object is as it was."""
        if self._key is not None:
            return self._data_of_key(thing) == state.names
        attributes = self._attributes_of(thing)
        return tuple(attributes) == state.names and state.values.equals(list(attributes.values()))

    def _data_of_key(self, thing: Any) -> tuple[str]:
        assert self._key is not None
        return (repr(_plain_of(self._key(thing), "the result of key")),)

    def _new_state(self, thing: Any, code: str) -> _State:
        if self._key is not None and thing is not None:
            names: tuple[str, ...] = self._data_of_key(thing)
            return _State(_reference_to(thing), code, names, _Snapshot(()), self._cache_of(code, names))
        attributes = {} if thing is None else self._attributes_of(thing).copy()
        if isinstance(thing, _CONTENTS) or (thing is not None and not attributes and not hasattr(thing, "__dict__")):
            raise TypeError(
                f"cached: the state of a {type(thing).__name__} is not only in attributes: pass key=, a function of "
                "the object that returns plain data"
            )
        plain = [
            (name, _plain_of(value, f"attribute {name!r} of {type(thing).__name__}"))
            for name, value in attributes.items()
            if not name.startswith("__")  # of `typing`
        ]
        values = _Snapshot(list(attributes.values()))
        # Without the scope of the class, which is lost on the way to another process.
        named = None if thing is None else type(thing).__name__, plain
        return _State(_reference_to(thing), code, tuple(attributes), values, self._cache_of(code, named))

    def _attributes_of(self, thing: Any) -> dict[str, Any]:
        """Return the attributes of an object, also those in slots."""
        slots = self._slots.get(type(thing))
        if slots is None:
            slots = self._slots[type(thing)] = [
                (f"{kind.__qualname__}.{name}", value) for kind in type(thing).__mro__ if "__slots__" in vars(kind)
                for name, value in vars(kind).items() if isinstance(value, types.MemberDescriptorType)
            ]  # fmt: skip
        found: dict[str, Any] = getattr(thing, "__dict__", {})
        if slots:
            found = found.copy()
            for name, slot in slots:
                with contextlib.suppress(AttributeError):  # it is not set
                    found[name] = slot.__get__(thing)
        return found

    def _cache_of(self, code: str, plain: object) -> _ResultCache:
        name = _digest(repr((code, self._version, plain))).hex()[:32]
        cache = self._caches.get(name)
        if cache is None:
            if len(self._caches) >= _MOST_STATES:
                self._caches.pop(next(iter([*self._caches])), None)
            cache = self._caches.setdefault(name, _ResultCache(self._folder, name, self._max_bytes))
        return cache

    def _computed(self, state: _State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Return the result of the function, and whether it may be stored."""
        compute = functools.partial(self._function, *args, **kwargs)
        names = self._codes[type(args[0]) if state.of() is not None else None].names.values
        own = None if context.current_batch() is None else GeneratorState(context.rng())
        num_alone = 0
        while True:
            held = UserGenerators((args[:1], self._function, names))
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
                num_alone += 1
                if threading.active_count() == 1 or num_alone == _MOST_ALONE:
                    break
            # It has imported torch, so it is not known whether it has drawn from torch's generator. Or another thread
            # may have drawn.
        raise RuntimeError(
            f"{self._function.__qualname__} has drawn random numbers, and a cached result would repeat them in each "
            "epoch: draw in the caller, after the call, or pass the numbers as arguments"
        )


_MADE_ANEW = {"_states", "_caches", "_codes", "_are_objects", "_slots"}


def _reference_to(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # also for None
        return lambda: thing


def _search(cache: FolderCache, text: str) -> tuple[int, int | None, Any]:
    """Return the salt of some arguments, their number, and the result, which may be missing; None if all are taken."""
    digest = _digest(text)
    start, salt, base = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:12], "little"), 0
    for size in _TABLES:
        for probe in range(start, start + _PROBES):
            place = 2 * (base + probe % size) + 1
            found = cache.get(place, salt, copies=True)
            if found is not MISSING and found[0] == text:
                return salt, place, found[1]
            if found is MISSING and cache.is_free(place, salt):
                return salt, place, MISSING  # results are stored in the first free place
        base += size
    return salt, None, MISSING


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
        return value.item() if kind in _SAME else {value.dtype.str: value.item()}
    if isinstance(value, pathlib.PurePath | os.DirEntry):
        return {"path": os.fspath(value)}
    if isinstance(value, enum.Enum):
        of_value = value.value if type(value.value) in _PLAIN else None
        return {kind.__qualname__: (value.name, of_value)}
    if kind is range or kind is slice:
        return {"range": repr(value)}
    remedy = "pass key=, a function of the object that returns plain data" if "attribute" in what else "pass plain data"
    raise TypeError(
        f"cached: {what} contains a {kind.__name__}, expected strings, bytes, numbers, None, paths, or lists, tuples, "
        f"sets and dicts of them: {remedy}"
    )
