"""Functions that are called when a module is imported.

A worker must set up torch before user code uses it, and the source may import torch in its first item, or never. So a
finder is inserted at the head of `sys.meta_path`. It delegates to the other finders, and calls the functions
after the module's code has run, before the import statement returns. The finder is removed with the last watch. Until
then, it is queried by every first import of a module.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpqueue.system.signals.locks import RLock

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


_lock = RLock()  # held for each change of `sys.meta_path`: without it, one of two concurrent changes would be lost


class Watch:
    """A function to call once a module is imported; called at once if it is imported already.

    Args:
        name: Full name of a module.
        call: Called with the module, once.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], object]) -> None:
        self.name, self.call = name, call
        module = sys.modules.get(name)
        # A module that a program has added itself may have no spec.
        spec = getattr(module, "__spec__", None)
        if module is not None and not getattr(spec, "_initializing", False):
            call(module)
            return
        with _lock:
            _watches.append(self)
            finders: list[Any] = sys.meta_path
            if _finder not in finders:
                finders.insert(0, _finder)

    def end(self) -> None:
        """Stop watching."""
        with _lock:
            with contextlib.suppress(ValueError):  # removed already, after the import
                _watches.remove(self)
            if not _watches:
                # A new list: a thread that iterates over the old one would skip the finder after a removed entry.
                sys.meta_path = [finder for finder in sys.meta_path if finder is not _finder]


class _Finder:  # not a subclass of `importlib.abc.MetaPathFinder`: the import takes 9 to 17 ms, and is not required
    """The one finder for all watches: one for each watch would multiply the searches for a missing module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> "ModuleSpec | None":
        """Return the spec that the other finders find, with a loader that makes the calls."""
        if all(watch.name != fullname for watch in _watches):
            return None
        for finder in sys.meta_path:
            # Python skips finders without this method, too.
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                _follow(fullname, spec.loader)
                return spec
        return None


def _follow(name: str, loader: Any) -> None:
    execute = getattr(loader, "exec_module", None)
    if execute is None:  # a folder without code (a namespace package), or a loader of the old protocol
        return

    def execute_and_call(module: ModuleType) -> None:
        vars(loader).pop("exec_module", None)  # restore the loader
        execute(module)
        for watch in [watch for watch in _watches if watch.name == name]:
            watch.end()
            watch.call(module)

    with contextlib.suppress(AttributeError):  # a custom loader without assignable attributes
        loader.exec_module = execute_and_call


_watches: list[Watch] = []  # oldest first
_finder = _Finder()


def _renew_lock() -> None:
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it at the fork
