"""The names of a script in its workers: their `__main__` has the classes and functions that the source contains.

A class or function of a script, a notebook or a module that a fresh interpreter cannot import is sent by value.
`pickle` still looks it up by its name, for example in a cache of pickles or in ``Pool.map``. So the receiver of a
source puts it under its name into the module of that name, until the next source arrives. Names that the source does
not contain are missing. Attributes that the module has already are kept.

Results of workers still contain these objects by value (`mpqueue.memory.serialize.is_loadable`): a consumer may be
another program, and a notebook may have given the name to another class.

The code of such objects brings the lines of its file if the receiver cannot read them, so that tracebacks show them.
"""

import functools
import io
import linecache
import os
import sys
import types
import typing
from collections import ChainMap
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any, ClassVar

from mpqueue.memory import serialize
from mpqueue.memory.serialize import reduced_code, value_pickler
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.user_code.object_walk import is_a

_MAIN, _MAIN_OF_CHILD = "__main__", "__mp_main__"  # the second one in children of `multiprocessing`
_MISSING = object()


# -- The sender


def dumps_named(value: Any) -> bytes:
    """Pickle ``value`` by value for a worker, with the names of its classes and functions.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    with io.BytesIO() as file:
        script_pickler()(file, protocol=5).dump(value)
        return file.getvalue()


@functools.cache
def script_pickler() -> Any:
    """Return the class of `dumps_named`'s pickler, a subclass of ``cloudpickle.Pickler``."""

    class ScriptPickler(value_pickler()):  # type: ignore[misc]  # cloudpickle has no types
        """A pickler by value that sends names and lines of code."""

        dispatch_table: ClassVar = ChainMap({types.CodeType: _code_with_lines}, *value_pickler().dispatch_table.maps)

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind in _BY_NAME:
                # Its own reduction is only the name.
                name = _name_of(obj)
                return NotImplemented if name is None else (named, (*name, *_BY_NAME[kind](obj)))
            reduced = super().reducer_override(obj)
            if reduced is NotImplemented or not (kind is types.FunctionType or is_a(obj, type)):
                return reduced
            name = _name_of(obj)
            return reduced if name is None else (named, (*name, *reduced[:2]), *reduced[2:])

    return ScriptPickler


def _name_of(obj: Any) -> tuple[str, str] | None:
    """Return module and qualified name of an object that other processes cannot import; None if it has no name."""
    try:
        module_name, name = obj.__module__, obj.__qualname__
        module = sys.modules[module_name]
        if module_name != _MAIN and is_findable(module):
            return None
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:  # without a module or a name, or of a metaclass of the user
        return None
    return (module_name, name) if found is obj else None


def _parts_of_cached(function: Any) -> tuple[Any, ...]:
    parameters = function.cache_parameters()
    return _lru_cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"])


def _lru_cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _parts_of_new_type(kind: Any) -> tuple[Any, ...]:
    return _new_type, (kind.__name__, kind.__supertype__, kind.__module__, kind.__qualname__)


def _new_type(name: str, supertype: Any, module_name: str, qualified_name: str) -> Any:
    kind = typing.NewType(name, supertype)  # type: ignore[misc]  # mypy wants literals
    kind.__module__, kind.__qualname__ = module_name, qualified_name
    return kind


# Objects that cloudpickle pickles by name, also if a script defines them.
_BY_NAME: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    type(functools.lru_cache(None)(lambda: None)): _parts_of_cached,
    typing.NewType: _parts_of_new_type,
}
_findable: dict[tuple[str, Any], bool] = {}  # by name and file: a program may load another file under the name


def is_findable(module: Any) -> bool:
    """Return True if a fresh interpreter with our `sys.path` could import a module, and from the same file."""
    name = module.__name__
    key = name, getattr(module, "__file__", None)
    if key not in _findable:
        # The import system mistakes an exception of a signal handler for a missing file, if it is an OSError or a
        # KeyError. The package itself was once "not findable" for the rest of a run, and every class went by value.
        with defer_signals():
            _findable[key] = name == _MAIN or name in sys.builtin_module_names or _finds(module)
    return _findable[key]


def _finds(module: Any) -> bool:
    name: str = module.__name__
    parent, path = name.rpartition(".")[0], None
    if parent:
        if parent not in sys.modules or not is_findable(sys.modules[parent]):
            return False
        path = getattr(sys.modules[parent], "__path__", None)
        if path is None:  # not a package: the parent creates the submodule
            return True
    # Not `importlib.util.find_spec`, which answers from `sys.modules`: a fresh interpreter starts without these.
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    try:
        found = next((spec for finder in finders if (spec := finder.find_spec(name, path)) is not None), None)
    except (ImportError, ValueError):
        found = None
    # The parent may create a submodule that has no file, or load its file under another name.
    return bool(parent) if found is None else _is_of(module, found)


def _is_of(module: Any, found: ModuleSpec) -> bool:
    """Return False if a module was loaded from another file than the spec's, for example by its path."""
    spec = getattr(module, "__spec__", None)
    if getattr(spec, "name", module.__name__) != module.__name__:
        return True  # renamed by its package, as Python 3.13 renames `collections.abc`
    origin = getattr(spec, "origin", None)
    file = origin if type(origin) is str else getattr(module, "__file__", None)
    if found.origin is None:  # a folder without `__init__.py`
        return hasattr(module, "__path__")
    return type(file) is not str or file == found.origin or os.path.realpath(file) == os.path.realpath(found.origin)


def _lines_of(filename: str) -> list[str]:
    main = vars(sys.modules[_MAIN])
    # The main module may be in an archive. Its loader would return its lines for any other file, too.
    return list(linecache.getlines(filename, main if main.get("__file__") == filename else None))


# Cached: an image of the source must not change because a file was edited.
_lines_anywhere = functools.cache(_lines_of)


@functools.cache
def _lines_without_file(filename: str) -> list[str]:
    """Return the lines of code without a file, such as the code of a notebook cell."""
    return [] if os.path.exists(filename) else _lines_of(filename)


def _code_with_lines(code: types.CodeType) -> Any:
    return _with_lines(code, _lines_without_file(code.co_filename))


def code_for_others(code: types.CodeType) -> Any:
    """Reduce a code object for another machine, which may not have its file."""
    return _with_lines(code, _lines_anywhere(code.co_filename))


def _with_lines(code: types.CodeType, lines: list[str]) -> Any:
    return (_known_code, (*reduced_code(code), lines)) if lines else reduced_code(code)


# -- The receiver


class _WorkerMain(types.ModuleType):
    """`__main__` of a worker: errors of `pickle` show its representation."""

    def __repr__(self) -> str:
        return "<module '__main__' of a worker: it has only the classes and functions that the source refers to>"

    def __getattr__(self, name: str) -> Any:
        # Up to Python 3.13, `pickle` replaces this message by an equal one; later, it shows the message of the module.
        raise AttributeError(f"Can't get attribute {name!r} on {self!r}", name=name, obj=self)


class _Outer:
    """Replaces a class that the source does not contain, and has the nested classes that it contains."""


class _Names:
    """The names in this process, if it is a worker or forks workers."""

    def __init__(self) -> None:
        self.is_on = False
        self.placed: dict[tuple[str, str], Any] = {}  # by module and name in it
        self.made: dict[str, types.ModuleType] = {}  # modules that only hold these names


_names = _Names()


def enter_worker() -> None:
    """Allow pickles of the source to set names in this process; its main module is not the script."""
    main = sys.modules[_MAIN]
    for name in [name for name in vars(main) if not name.startswith("__")]:  # of the command line
        delattr(main, name)
    main.__class__ = _WorkerMain
    _names.is_on = True


def forget_names() -> None:
    """Remove the names of the present source, so that they do not keep its globals in memory."""
    for (module_name, name), value in _names.placed.items():
        module = sys.modules.get(module_name)
        if module is not None and vars(module).get(name) is value:  # otherwise user code has set it since
            delattr(module, name)
    for module_name, module in _names.made.items():
        if sys.modules.get(module_name) is module:
            del sys.modules[module_name]
    _names.placed.clear()
    _names.made.clear()
    serialize.script_modules = ()


def named(module_name: str, name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the object that ``make`` returns, and give it its name in a worker; called by pickles.

    Args:
        module_name: Its module.
        name: Its qualified name.
        make: A function of cloudpickle.
        arguments: The arguments of ``make``.
    """
    value = make(*arguments)
    if is_a(value, type):
        type.__setattr__(value, "__qualname__", name)  # which cloudpickle leaves out
    if _names.is_on:
        _place(module_name, name, value)
    return value


def _place(module_name: str, name: str, value: Any) -> None:
    module = _module(module_name)
    outermost, *path = name.split(".")
    there = vars(module).get(outermost, _MISSING)
    if there is not _MISSING and _names.placed.get((module_name, outermost), _MISSING) is not there:
        return  # set by other code
    if not path:
        _names.placed[module_name, outermost] = value
        setattr(module, outermost, value)
        return
    if there is _MISSING:
        there = _names.placed[module_name, outermost] = _Outer()
        setattr(module, outermost, there)
    for part in path[:-1]:
        if type(there) is not _Outer:
            return  # a class, which has its own attributes
        if part not in vars(there):
            setattr(there, part, _Outer())
        there = vars(there)[part]
    if type(there) is _Outer:
        setattr(there, path[-1], value)


def _module(name: str) -> types.ModuleType:
    """Return the module for names of this module."""
    import cloudpickle  # loaded already: it is named in the pickle

    module = sys.modules.get(name)
    if module is None:
        module = sys.modules[_MAIN] if name == _MAIN_OF_CHILD else types.ModuleType(name)
        sys.modules[name] = _names.made[name] = module
    encoded = name.encode()
    if encoded not in serialize.script_modules:
        serialize.script_modules = (*serialize.script_modules, encoded)
        cloudpickle.register_pickle_by_value(module)  # as before it was in `sys.modules`
    return module


def _known_code(make: Callable[..., types.CodeType], arguments: tuple[Any, ...], lines: list[str]) -> types.CodeType:
    code = make(*arguments)
    # Without a time, so that `linecache` does not look for a file.
    linecache.cache[code.co_filename] = (sum(map(len, lines)), None, lines, code.co_filename)
    return code
