"""Cache keys of stages: equal for the same samples and functions, also in later runs, and different for others.

A key is the digest of a pickle that is never loaded. In the pickle, objects are represented by the data that determines
their results:

- a function or class of an installed package: its name;
- any other function: its code, defaults, closure, and the globals that it uses; a module counts by its name;
- any other class: its functions, attributes and bases;
- an object with a ``fingerprint()``: the returned value. Sources of `mpqueue.files` return paths, sizes and times of
  modification;
- a Hugging Face dataset: its fingerprint;
- a memory-mapped array: its file, with size and time of modification;
- any other object: its pickle.

The key does not cover files that a function opens itself, or the version of a package. The user must then change the
cache's name.
"""

import functools
import hashlib
import io
import os
import pickle
import sys
import sysconfig
import types
from typing import Any

import cloudpickle
import numpy as np

from mpqueue.dataset.description.nodes import Flat, StageNode, flat
from mpqueue.system.user_code.object_walk import code_of, content_of, names_in

_DIGITS = 32


def fingerprint_of(root: StageNode) -> str:
    """Return the key of a stage and of all stages before it.

    Raises:
        Exception: A source or an object in a function's closure cannot be pickled.
    """
    return _KeyPickler().digest_of(root)


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
    """

    def __init__(self, above: "_KeyPickler | None" = None) -> None:
        self._file = _Digest()
        super().__init__(self._file, protocol=5, buffer_callback=self._add_buffer)
        # Functions and classes are described once, because they can refer to each other. So can the globals in
        # progress.
        self._met: dict[int, tuple[int, Any]] = {} if above is None else above._met.copy()
        self._globals: set[int] = set() if above is None else above._globals
        # Without `fast`, equal strings would be pickled differently if they are one object or two.
        self.fast: bool = above is None or above.fast

    def digest_of(self, thing: Any) -> str:
        """Return the digest of an object."""
        try:
            self.dump(thing)
        except (ValueError, RecursionError):
            if not self.fast:
                raise
            retry = _KeyPickler()  # without memo, an object that contains itself cannot be pickled
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
            entry = self._met.get(id(thing))
            if entry is not None:
                return "met", entry[0]
            self._met[id(thing)] = len(self._met), thing  # referenced, so that no other object gets its id
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
        if _is_installed(function.__module__) and "<" not in function.__qualname__:
            return "named", function.__module__, function.__qualname__
        code, of = function.__code__, function.__globals__
        used = [(name, self._global(of[name])) for name in sorted({*names_in(code)} & of.keys())]
        closed_over = [content_of(cell) for cell in function.__closure__ or ()]
        wraps = getattr(function, "__wrapped__", None)
        return "function", code_of(code), function.__defaults__, function.__kwdefaults__, closed_over, used, wraps

    def _class(self, kind: type) -> tuple[Any, ...]:
        if _is_installed(kind.__module__):
            return "named", kind.__module__, kind.__qualname__
        own: list[tuple[str, Any]] = []
        for name, value in sorted(vars(kind).items()):
            function = _function_of(value)
            if function is not None:
                own.append((name, function))
            elif not name.startswith(("__", "_abc_")):
                own.append((name, self._global(value)))
        return "class", kind.__qualname__, own, list(kind.__bases__)

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
    position = array.offset, start, array.shape, array.strides, array.dtype.str
    return "mapped", os.path.realpath(path), stat.st_size, stat.st_mtime_ns, position


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
    return file is not None and os.path.realpath(file).startswith(_folders())
