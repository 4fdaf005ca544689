"""Cache keys of stages: equal for the same samples and functions, also in later runs, and different for others.

A key is the digest of a pickle that is never loaded. In the pickle, objects are represented by the data that determines
their results:

- a function or class of an installed package: its name;
- any other function: its code, defaults, closure, the globals that it uses, and the names that it uses of modules;
- any other class: its functions, attributes and bases;
- an object with a ``fingerprint()``: the returned value. Sources of `mpqueue.files` return paths, sizes and times of
  modification;
- a Hugging Face dataset: its fingerprint;
- a memory-mapped array: its file, with size and time of modification;
- any other object: its pickle.

The key does not cover files that a function opens itself, or the version of a package. The user must then change the
cache's name.
"""

import dis
import functools
import hashlib
import importlib.util
import io
import os
import pickle
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import cloudpickle
import numpy as np

from mpqueue.dataset.nodes import Flat, StageNode, flat
from mpqueue.system.contents import names_in
from mpqueue.system.interrupts import defer_signals

# A global, or an attribute of a class: a function that returns its current value, and the value that is in the key.
Name = tuple[Callable[[], Any], Any]

_DIGITS = 32
_OF_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
# Methods that code calls without their names.
_IMPLICIT = {"__call__", "__contains__", "__getattr__", "__iter__"}


def fingerprint_of(root: StageNode) -> str:
    """Return the key of a stage and of all stages before it.

    Raises:
        Exception: A source or an object in a function's closure cannot be pickled.
    """
    return _KeyPickler().digest_of(root)


def fingerprint_of_call(function: types.FunctionType, kind: type | None, more: object) -> tuple[str, list[Name]]:
    """Return the key of a function, with the code that it uses, and the names that this code refers to.

    The function's own module counts by its code, also if it is installed.

    Args:
        function: The function.
        kind: The class of the object that it is a method of, if any.
        more: An object that is a part of the key.

    Raises:
        Exception: An object in a default of the function cannot be pickled.
    """
    pickler = _KeyPickler(home=function.__module__)
    key = pickler.digest_of((function, [] if kind is None else pickler.used_of(kind, function), more))
    return key, pickler.names


class _Digest(io.RawIOBase):
    """A file that keeps only the digest of the data."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Add data to the digest."""
        self.digest.update(data)
        return len(data)


class _KeyPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """A pickler that represents objects by the data that determines their results.

    Args:
        above: The pickler that needs the digest of a part.
        home: A module whose functions and classes are represented by their code, also if it is installed.
    """

    def __init__(self, above: "_KeyPickler | None" = None, home: str | None = None) -> None:
        self._file = _Digest()
        super().__init__(self._file, protocol=5, buffer_callback=self._add_buffer)
        # Functions and classes are described once, because they can refer to each other. So can the globals in
        # progress.
        self._met: dict[int, tuple[int, Any]] = {} if above is None else above._met.copy()
        self._globals: set[int] = set() if above is None else above._globals
        # Without `fast`, equal strings would be pickled differently if they are one object or two.
        self.fast: bool = above is None or above.fast
        self._home: str | None = home if above is None else above._home
        self.names: list[Name] = [] if above is None else above.names

    def digest_of(self, thing: Any) -> str:
        """Return the digest of an object."""
        try:
            self.dump(thing)
        except (ValueError, RecursionError):
            if not self.fast:
                raise
            retry = _KeyPickler(home=self._home)  # without memo, an object that contains itself cannot be pickled
            retry.names = self.names
            retry.fast = False
            return retry.digest_of(thing)
        return self._file.digest.hexdigest()[:_DIGITS]

    def _add_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self._file.write(buffer.raw())

    def persistent_id(self, thing: Any) -> Any:
        """Return a replacement for a set, because its order differs between runs."""
        kind = type(thing)
        return (kind.__name__, sorted(map(repr, thing))) if kind is set or kind is frozenset else None

    def reducer_override(self, thing: Any) -> Any:
        """Return the representation of an object for the pickle."""
        if thing is _stands_for:
            return NotImplemented
        described = self._described(thing)
        return super().reducer_override(thing) if described is None else (_stands_for, described)

    def _described(self, thing: Any) -> tuple[Any, ...] | None:
        kind = type(thing)
        if isinstance(thing, StageNode):
            return kind.__name__, [_stage(stage) for stage in flat(thing)]
        if kind is functools._lru_cache_wrapper:
            return "cached", thing.__wrapped__
        if kind is types.FunctionType or isinstance(thing, type):
            number = self._met.get(id(thing))
            if number is not None:
                return "met", number[0]
            self._met[id(thing)] = len(self._met), thing  # kept alive, so that no other object gets its id
            return self._class(thing) if isinstance(thing, type) else self._function(thing)
        if isinstance(thing, np.memmap) and thing.filename is not None:
            return _mapped(thing)
        if kind.__module__ == "datasets.arrow_dataset":
            return "datasets", thing._fingerprint, repr(thing.format)
        if callable(getattr(kind, "fingerprint", None)):
            return kind.__qualname__, thing.fingerprint()
        root = getattr(thing, "root", None)
        return (kind.__qualname__, root) if isinstance(root, StageNode) else None

    def _function(self, function: types.FunctionType) -> tuple[Any, ...]:
        if self._is_by_name(function.__module__) and "<" not in function.__qualname__:
            return "named", function.__module__, function.__qualname__
        of, code = function.__globals__, function.__code__
        names = {*names_in(code)}
        used = [(name, self._used(self._noted(of, name), names)) for name in sorted({*_globals_in(code)} & of.keys())]
        imported = [(name, self._used(_imported(name, of), names)) for name in _imports_in(code)]
        closed_over = []
        for cell in function.__closure__ or ():
            self.names.append((functools.partial(_content, cell), _content(cell)))
            # Workers receive what a function of a stage closes over, so that it must be picklable anyway.
            closed_over.append(_content(cell) if self._home is None else self._global(_content(cell)))
        for name in ("__defaults__", "__kwdefaults__"):
            if (defaults := getattr(function, name)) is not None:
                self.names.append((functools.partial(getattr, function, name), defaults))
        wraps = getattr(function, "__wrapped__", None)
        return (
            "function", _code(code), function.__defaults__, function.__kwdefaults__, closed_over, used, imported, wraps
        )  # fmt: skip

    def _used(self, value: Any, names: set[str]) -> Any:
        """Return a representation of what some code uses of a global: of a module, what the code may look up in it."""
        if not isinstance(value, types.ModuleType) or self._is_by_name(value.__name__):
            return self._global(value)
        inner = vars(value)
        # A module of a package has the package's name, and may be in it.
        found = [(name, self._used(self._noted(inner, name), names - {name})) for name in sorted(names & inner.keys())]
        return "module", value.__name__, found

    def _class(self, kind: type) -> tuple[Any, ...]:
        if self._is_by_name(kind.__module__):
            return "named", kind.__module__, kind.__qualname__
        own: list[tuple[str, Any]] = []
        for name, value in sorted(vars(kind).items()):
            function = _function_of(value)
            if function is not None:
                own.append((name, function))
            elif not name.startswith(("__", "_abc_")):
                own.append((name, self._global(value)))
            else:
                continue
            self._noted(vars(kind), name)
        return "class", kind.__qualname__, own, list(kind.__bases__)

    def _noted(self, namespace: Mapping[str, Any], name: str) -> Any:
        """Return the value of a name, which may get another one later: a cell of a notebook that runs again."""
        value = namespace.get(name)
        if not isinstance(value, types.ModuleType):
            self.names.append((functools.partial(namespace.get, name), value))
        return value

    def _is_by_name(self, module: str | None) -> bool:
        return module != self._home and _is_installed(module)

    def used_of(self, kind: type, function: types.FunctionType) -> list[tuple[str, str, Any]]:
        """Return the attributes of a class that a function, and the methods that it calls, may refer to."""
        owners = [owner for owner in kind.__mro__ if not self._is_by_name(owner.__module__)]
        used: dict[tuple[str, str], Any] = {}
        functions, names, seen, met = [function], {*_IMPLICIT}, set[str](), set[int]()
        while functions or names:
            for name in names:
                if any(name in vars(owner) for owner in owners):
                    for owner in owners:
                        value = self._noted(vars(owner), name)  # a class without the name may get it later
                        if name in vars(owner):
                            method = _function_of(value)
                            used[owner.__qualname__, name] = self._global(value) if method is None else method
                            functions += [] if method is None else [method]
            seen |= names
            names = {name for each in self._reached(functions, met) for name in _looked_up(each.__code__)} - seen
            functions = []
        return [(*path, value) for path, value in sorted(used.items(), key=itemgetter(0))]

    def _reached(self, functions: list[Any], met: set[int]) -> Iterator[types.FunctionType]:
        """Yield functions, and those that they wrap, close over or use as globals: they may be passed the object."""
        following = [*functions]
        while following:
            function = following.pop()
            if id(function) in met or type(function) is not types.FunctionType or self._is_by_name(function.__module__):
                continue
            met.add(id(function))
            yield function
            of = function.__globals__
            following += [_content(cell) for cell in function.__closure__ or ()]
            following += [of[name] for name in {*_globals_in(function.__code__)} & of.keys()]
            following.append(getattr(function, "__wrapped__", None))

    def _global(self, value: Any) -> Any:
        """Return a representation of a global's value, which need not be picklable."""
        if isinstance(value, types.ModuleType):
            return "module", value.__name__
        if type(value) is functools._lru_cache_wrapper:
            value = value.__wrapped__
        if isinstance(value, types.FunctionType | type):
            return value
        if id(value) in self._globals:
            return "at work"
        self._globals.add(id(value))
        try:
            return _KeyPickler(self).digest_of(value)
        except Exception:  # of a lock in it, for example. Its attributes may be counters, so only its class counts
            items = value.items() if type(value) is dict else ()
            return "a", type(value), [(self._global(key), self._global(item)) for key, item in items]
        finally:
            self._globals.discard(id(value))


def _function_of(value: Any) -> Any:
    """Return the function of a method in a class, or None for another attribute."""
    if isinstance(value, classmethod | staticmethod):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    if isinstance(value, functools.cached_property | functools.partialmethod):
        return value.func
    if type(value) is functools._lru_cache_wrapper:
        return value.__wrapped__
    return value if isinstance(value, types.FunctionType) else None


def _stage(stage: Flat) -> tuple[Any, ...]:
    return stage.kind.__name__, sorted(stage.kind.key_of(stage.own).items()), stage.inputs


def _stands_for(*described: Any) -> None:
    """Provide a callable name with which pickles of this module begin."""


def _mapped(array: "np.memmap[Any, Any]") -> tuple[Any, ...]:
    path = str(array.filename)
    stat = os.stat(path)
    base: Any = array
    while isinstance(base.base, np.ndarray):
        base = base.base  # a slice starts at another offset of it
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    place = array.offset, start, array.shape, array.strides, array.dtype.str
    return "mapped", os.path.realpath(path), stat.st_size, stat.st_mtime_ns, place


@functools.cache
def _folders() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages."""
    names = "stdlib", "platstdlib", "purelib", "platlib"
    return tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in names)


@functools.cache
def _is_installed(module: str | None) -> bool:
    root = (module or "__main__").partition(".")[0]
    if root == "__main__":  # the user's code, even if a package's program started it
        return False
    if root in {"mpqueue", "builtins"} or root in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    with defer_signals():  # `realpath` drops an OSError of a handler, and this answer is kept
        return file is not None and os.path.realpath(file).startswith(_folders())


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is empty
        return None


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """Return a representation of code without its file and line numbers."""
    constants = [_code(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    return code.co_code, code.co_exceptiontable, constants, names, code.co_flags, counts


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield the code, and the code of nested functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


def _globals_in(code: types.CodeType) -> Iterator[str]:
    """Yield the names of globals that code uses. An attribute may have the name of a global."""
    for each in _codes_in(code):
        yield from (step.argval for step in dis.get_instructions(each) if step.opname in _OF_GLOBALS)


def _imports_in(code: types.CodeType) -> list[str]:
    """Return the names of the modules that code imports, with a dot for each level of a relative import."""
    found: dict[str, None] = {}
    for each in _codes_in(code):
        steps = list(dis.get_instructions(each))
        for number, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level = next(before.argval for before in steps[number - 2 :: -1] if isinstance(before.argval, int))
                found["." * level + step.argval] = None
    return list(found)


def _imported(name: str, namespace: Mapping[str, Any]) -> Any:
    """Return a module of the user that code imports when it runs; None for an installed one, or if it does not exist.

    An installed module may be imported already or not, which must not change the key. It is not imported here.
    """
    try:
        absolute = importlib.util.resolve_name(name, namespace.get("__package__"))
        if _is_installed(absolute):
            return None
        found = sys.modules.get(absolute)
        if found is None and (spec := importlib.util.find_spec(absolute)) is not None:
            is_installed = os.path.realpath(spec.origin or "").startswith(_folders())
            found = None if is_installed else importlib.import_module(absolute)
    except Exception:  # the code may expect it
        return None
    return found


def _looked_up(code: types.CodeType) -> set[str]:
    """Return the names that code may look up in an object."""
    names = {*names_in(code)}
    if "getattr" in names:
        names |= {each for inner in _codes_in(code) for each in inner.co_consts if type(each) is str}
    return names | {"__len__"} if "len" in names else names


def _constant(value: Any) -> tuple[str, Any]:
    """Return a constant of code with its type, because 1, 1.0 and True are equal. Sets are sorted."""
    return type(value).__name__, sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
