"""`cached`: results of a function, or of a method of any dataset, computed once for all processes of a host.

The results of one function with one state of its object are a cache in the folder, as for `Dataset.cache`. Its name
is the digest of the function's own source, ``version``, and the data that the function keeps or its object has. The
name does not depend on called functions, globals or files. The arguments determine the index of a result in its
cache::

    one integer     twice the integer
    any others      an odd index in a hash table; the arguments are stored with the result, and compared

A hit compares the variables and attributes with those in the key: by identity, and containers with a copy. So it takes
a few microseconds, and a copy of the arrays.
"""

import copy
import enum
import functools
import hashlib
import inspect
import linecache
import os
import pathlib
import threading
import types
import weakref
from collections.abc import Callable
from operator import is_
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from mpqueue.dataset.caching.caches import FolderCache
from mpqueue.dataset.caching.record_files import MISSING
from mpqueue.dataset.caching.records import copied
from mpqueue.dataset.description.arguments import check_folder, check_room
from mpqueue.plan.options.coroutines import reject_coroutine
from mpqueue.seeding.generators import GeneratorState, global_generators
from mpqueue.system.log import inform
from mpqueue.system.user_code.object_walk import code_of, content_of, names_in
from mpqueue.worker import context
from mpqueue.worker.random_state.user_generators import UserGenerators
from mpqueue.worker.runners.fixed_seeds import FixedSeeds

P = ParamSpec("P")
R = TypeVar("R")

_SECTION = "When is a cached result computed again?"
_MOST_DIRECT = 1 << 24  # a process keeps a byte for each entry of an index
# Sizes of the tables for other arguments. Each is used when the tables before it are full near the position of the
# arguments: in a single large table, each result would take a page of the index.
_TABLES = (1 << 12, 1 << 16, 1 << 20, 1 << 23)
_PROBES = 8
_MOST_STATES = 16  # of the objects of a function, which keep their files open in a process
_MOST_ALONE = 3  # calls, while other threads may draw random numbers
_PLAIN = frozenset((str, bytes, int, float, complex, bool, types.NoneType))
_HELPERS = types.BuiltinFunctionType, types.ModuleType, type
_CONTENTS = (list, dict, set, frozenset, tuple, str, bytes, bytearray, int, float, np.ndarray)
_SAME = {np.int64, np.bool_}  # as Python's: samplers return them


def cached(
    folder: str | os.PathLike[str],
    *,
    max_bytes: int | str | None = None,
    version: object = None,
    key: Callable[[Any], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of a function or method, whose results are computed once for all processes of the host.

    Decode in the decorated method, and augment its result afterwards. All ranks, workers and later jobs read the result
    from the same memory. The dataset can be one of torch, or any other object.

    A result is computed again if the function's own source, a plain default or variable that it closes over, a plain
    attribute of its object, the name of the object's class, or an argument changes. A change of a function that it
    calls, of a global or of a file is not noticed: pass another ``version``.

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
        key: A function of the object, or of None for a function without an object. It returns plain data, which
            replaces the attributes and the variables that the function closes over. Plain data are strings, bytes,
            numbers, bools, None and paths, and lists, tuples, sets and dicts of them.

    Returns:
        A decorator. The decorated function returns private copies: arrays are writable, as if they were just computed.
        It raises a `TypeError` if a part of the key is not plain data, such as an array as a default, and a
        `RuntimeError` if the function draws random numbers. In another thread than the main one, other threads may have
        drawn them. There the result is returned, but not stored.

    Raises:
        TypeError: An argument has the wrong type, or the decorated object is not a plain function. Or ``key`` is
            None, and the source of the function cannot be read, as in ``python -c``.
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
                "decorators such as @staticmethod or @property"
            )
        reject_coroutine("cached", function, "cache what it awaits in a plain function")
        if inspect.isgeneratorfunction(function):
            raise TypeError(f"cached: {function.__qualname__} is a generator function: return a list of its items")
        if key is None:
            _require_source(function)
        results = _Results(function, path, most, told, key)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            value: R = results.get(args, kwargs)
            return value

        vars(call)["counts_of"], vars(call)["release"] = results.counts_of, results.release
        return call

    return decorate


class _ResultCache(FolderCache):
    """The results of a function with one state of its object."""

    remedy = "cached() pickles results: return arrays and plain data"

    def __repr__(self) -> str:
        return f"cached({self._folder!r})"


def _may_change(value: Any) -> bool:
    return any(map(_may_change, value)) if type(value) is tuple else type(value) in (list, dict, set)


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return new containers, with the result of a function for each other part."""
    kind = type(value)
    if kind is dict:
        return {key: _rebuilt(item, change) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_rebuilt(item, change) for item in value])
    return change(value)


def _writable(value: Any) -> Any:
    """Return a copy of an array that cannot be written, such as one of Pillow, and any other object itself."""
    return value.copy() if type(value) is np.ndarray and not value.flags.writeable else value


class _State(NamedTuple):
    """An object as it was when its key was computed.

    Attributes:
        of: A reference to the object.
        data: The variables and attributes in its key.
        copies: Copies of the variables and attributes that may change in place.
        of_key: The result of ``key``, as a string.
        cache: The results.
    """

    of: Callable[[], Any]
    data: dict[Any, Any]
    copies: dict[Any, Any]
    of_key: str
    cache: _ResultCache

    def is_of(self, thing: Any, data: dict[Any, Any], of_key: str) -> bool:
        """Return whether an object is this one, and is as it was."""
        return (
            self.of() is thing
            and of_key == self.of_key
            and data.keys() == self.data.keys()
            and all(map(is_, data.values(), self.data.values()))
            and all(data[name] == kept for name, kept in self.copies.items())
        )


class _Results:
    """The results of a function."""

    def __init__(
        self,
        function: types.FunctionType,
        folder: str,
        max_bytes: int | None,
        version: str,
        key: Callable[[Any], object] | None,
    ) -> None:
        self._function, self._folder, self._max_bytes = function, folder, max_bytes
        self._version, self._key = version, key
        self._signature = inspect.signature(function)
        self._name = _home_of(function), function.__qualname__  # kept: another process may lack the script's name
        self._forget()

    def _forget(self) -> None:
        self._states: dict[int, _State] = {}  # by the id of the object
        self._caches: dict[str, _ResultCache] = {}
        self._functions = [each for each in _chain_of(self._function) if type(each) is types.FunctionType]
        self._cells = {
            (index, name): cell
            for index, each in enumerate(self._functions if self._key is None else ())
            for name, cell in zip(each.__code__.co_freevars, each.__closure__ or (), strict=True)
        }
        self._told_by = 0  # the process that has logged the parts of the key
        self._are_objects: dict[type, bool] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def fingerprint(self) -> str:
        """Return the part of the key that is not in the function, for `mpqueue.dataset.description.fingerprint`."""
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
            salt, position, found = _search(state.cache, given)
        else:
            salt, position, found = 0, 2 * given, state.cache.get(2 * given, copies=True)
        if found is not MISSING:
            return found
        value, may_store = self._computed(state, args, kwargs)
        value = _rebuilt(value, _writable)
        # Another process may have stored it in the meantime.
        if may_store and position is not None and state.cache.get(position, salt) is MISSING:
            state.cache.put(position, (given, value) if isinstance(given, str) else value, salt)
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
        """Return the only argument if it is an integer, or a string of the arguments that differ from the default."""
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
        data, of_key = self._data_of(thing), self._text_of_key(thing)
        state = self._states.get(id(thing))
        if state is not None and state.is_of(thing, data, of_key):
            return state
        state = self._new_state(thing, data, of_key)
        # A new dict, without a lock, which a fork in another thread could leave locked.
        others = [(index, each) for index, each in [*self._states.items()] if each.of() is not None]
        self._states = {**dict(others[-_MOST_STATES + 1 :]), id(thing): state}
        return state

    def _is_object(self, thing: Any) -> bool:
        """Return whether the function is a method of this object's class."""
        kind = type(thing)
        found = self._are_objects.get(kind)
        if found is None:
            values = [value for each in kind.__mro__ for value in vars(each).values()]
            values += [getattr(value, "fget", getattr(value, "func", None)) for value in values]  # of properties
            found = any(getattr(value, "__wrapped__", None) is self._function for value in values)
            self._are_objects[kind] = found
        return found

    def _text_of_key(self, thing: Any) -> str:
        return "" if self._key is None else repr(_plain_of(self._key(thing), "the result of key"))

    def _data_of(self, thing: Any) -> dict[Any, Any]:
        """Return the data that counts now: attributes by their names, and variables by tuples."""
        variables = {name: content_of(cell) for name, cell in self._cells.items()}
        return variables if thing is None or self._key is not None else variables | getattr(thing, "__dict__", {})

    def _new_state(self, thing: Any, data: dict[Any, Any], of_key: str) -> _State:
        kind = type(thing)
        if self._key is None and thing is not None and (isinstance(thing, _CONTENTS) or _has_slots(kind)):
            raise TypeError(
                f"cached: the state of a {kind.__name__} is not only in its __dict__: pass key=, a function of the "
                "object that returns plain data"
            )
        plain = [
            (name, _plain_of(value, f"attribute {name!r} of {kind.__name__}"))
            if type(name) is str
            else (name, self._described(value, f"variable {name[1]!r}"))
            for name, value in data.items()
            if type(name) is not str or not name.startswith("__")  # of `typing`
        ]
        # Without the scope of the class, which is lost in transfer to another process.
        cache = self._cache_of((None if thing is None else kind.__name__, plain, of_key))
        if self._told_by != os.getpid():
            self._told_by = os.getpid()
            inform(self._parts(kind.__name__, data), "Eight ranks, one cache", _SECTION)
        copies = {name: copy.deepcopy(value) for name, value in data.items() if _may_change(value)}
        return _State(_reference_to(thing), data, copies, of_key, cache)

    def _described(self, value: Any, what: str) -> Any:
        """Return the part of the key for a default, or for a variable that the function closes over."""
        what = f"{what} of {self._function.__qualname__}"
        if type(value) is types.FunctionType:
            return {"function": (value.__qualname__, code_of(value.__code__))}
        if isinstance(value, _HELPERS):
            return {"named": value.__name__}
        # With `key`, only its result and plain defaults count.
        return _plain_of(value, what) if self._key is None or _is_plain(value) else {"a": type(value).__name__}

    def _parts(self, kind: str, data: dict[Any, Any]) -> str:
        """Return a message about the parts of the key."""
        variables = ", ".join(f"variable {name!r}" for _, name in self._cells)
        attributes = ", ".join(name for name in data if type(name) is str)
        of_object = f"attributes of {kind}: {attributes}" if attributes else ""
        parts = [
            "its own source and defaults",
            variables,
            of_object if self._key is None else "the result of key",
            "its arguments",
            f"version={self._version}",
        ]
        return (
            f"cached: {self._function.__qualname__} is called again if one of these changes: "
            f"{'; '.join(filter(None, parts))}. A change of a function that it calls, of a global or of a file is not "
            "noticed: pass another version"
        )

    def _cache_of(self, plain: object) -> _ResultCache:
        codes = [code_of(each.__code__) for each in (*self._functions, self._key) if type(each) is types.FunctionType]
        defaults = [
            (name, self._described(value, f"default {name!r}"))
            for each in self._functions
            for name, value in _defaults_of(each)
        ]
        name = _digest(repr((self._name, codes, defaults, self._version, plain))).hex()[:32]
        cache = self._caches.get(name)
        if cache is None:
            if len(self._caches) >= _MOST_STATES:
                self._caches.pop(next(iter([*self._caches])), None)
            cache = self._caches.setdefault(name, _ResultCache(self._folder, name, self._max_bytes))
        return cache

    def _in_sight(self, thing: Any) -> list[Any]:
        """Return its defaults, and the globals and attributes that it names: they may be random generators."""
        found: list[Any] = []
        for each in self._functions:
            names = {*names_in(each.__code__)}
            for space in (each.__globals__, *map(vars, type(thing).__mro__)):
                found += [space[name] for name in sorted(names & space.keys())]
            found += [each.__defaults__, each.__kwdefaults__]
        return found

    def _computed(self, state: _State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Return the result of the function, and whether it may be stored."""
        compute = functools.partial(self._function, *args, **kwargs)
        seen = self._in_sight(state.of())
        own = None if context.current_batch() is None else GeneratorState(context.rng())
        num_alone = 0
        while True:
            held = UserGenerators((args[:1], self._function, seen))
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


_MADE_ANEW = {"_states", "_caches", "_functions", "_cells", "_told_by", "_are_objects"}


def _chain_of(function: Any) -> list[Any]:
    """Return a function, the one that it wraps, and so on."""
    chain = [function]
    while (inner := getattr(chain[-1], "__wrapped__", None)) is not None:
        chain.append(inner)
    return chain


def _require_source(function: types.FunctionType) -> None:
    for each in _chain_of(function):
        code = getattr(each, "__code__", None)
        if code is None or not linecache.getline(code.co_filename, code.co_firstlineno, each.__globals__):
            position = code.co_filename if code else f"it wraps a {type(each).__name__}"
            raise TypeError(
                f"cached: the source of {function.__qualname__} cannot be read ({position}): write the function into a "
                "file, or pass key=, a function of its object that returns plain data"
            )


def _home_of(function: types.FunctionType) -> str | None:
    """Return the module of a function, or the name of the script that defines it."""
    if function.__module__ in ("__main__", "__mp_main__"):  # the second one in children of `multiprocessing`
        return os.path.basename(str(function.__globals__.get("__file__", "")))
    return function.__module__


def _defaults_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Return the parameters that have a default, with its value."""
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    return [*zip(names, values, strict=True), *(function.__kwdefaults__ or {}).items()]


def _is_plain(value: Any) -> bool:
    try:
        _plain_of(value, "it")
    except TypeError:
        return False
    return True


def _has_slots(kind: type) -> bool:
    values = (value for each in kind.__mro__ if "__slots__" in vars(each) for value in vars(each).values())
    return any(isinstance(value, types.MemberDescriptorType) for value in values)


def _reference_to(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # also for None
        return lambda: thing


def _search(cache: FolderCache, text: str) -> tuple[int, int | None, Any]:
    """Return the salt of some arguments, their index, and the result, which may be missing; None if all are taken."""
    digest = _digest(text)
    start, salt, base = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:12], "little"), 0
    for size in _TABLES:
        for probe in range(start, start + _PROBES):
            position = 2 * (base + probe % size) + 1
            found = cache.get(position, salt, copies=True)
            if found is not MISSING and found[0] == text:
                return salt, position, found[1]
            if found is MISSING and cache.is_free(position, salt):
                return salt, position, MISSING  # results are stored in the first free position
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
    is_given = what.startswith(("argument", "version", "the result"))
    remedy = "pass plain data" if is_given else "pass key=, a function of the object that returns plain data"
    raise TypeError(
        f"cached: {what} contains a {kind.__name__}, expected strings, bytes, numbers, None, paths, or lists, tuples, "
        f"sets and dicts of them: {remedy}"
    )
