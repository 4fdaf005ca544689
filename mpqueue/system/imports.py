"""Functions that are called when a module is imported.

A worker must set up torch before user code uses it, and the source may import torch in its first item, or never. So a
finder is inserted at the head of `sys.meta_path`. It delegates to the other finders, and calls the function
after the module's code has run, before the import statement returns. Then the finder is removed. Until then, it is
queried by every first import of a module.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpqueue.system.locks import RLock

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


_lock = RLock()  # held for each change of `sys.meta_path`: without it, one of two concurrent changes would be lost


class Watch:  # not a subclass of `importlib.abc.MetaPathFinder`: the import takes 9 to 17 ms, and is not required
    """A function to call once a module is imported; called at once if it is imported already.

    Args:
        name: Name of a top-level module.
        call: Called with the module, once.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], object]) -> None:
        self._name, self._call = name, call
        module = sys.modules.get(name)
        # A module that a program has added itself may have no spec.
        spec = getattr(module, "__spec__", None)
        if module is not None and not getattr(spec, "_initializing", False):
            call(module)
        else:
            with _lock:
                finders: list[Any] = sys.meta_path
                finders.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> "ModuleSpec | None":
        """Return the spec that the other finders find, with a loader that makes the call."""
        finders: list[Any] = sys.meta_path
        # The second test: a thread may still iterate over the old list after the watch was removed.
        if fullname != self._name or self not in finders:
            return None
        # Watches do not ask each other: if the module does not exist, each one would double the number of questions.
        # With 28 of them, the import of a module that is not installed would never end.
        watches = [finder for finder in finders if isinstance(finder, Watch) and finder._name == fullname]
        for finder in finders:
            # Python skips finders without this method, too.
            find = None if isinstance(finder, Watch) else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                for watch in reversed(watches):  # the oldest is called first
                    watch._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: Any) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None:  # a folder without code (a namespace package), or a loader of the old protocol
            return
        is_followed = "exec_module" in getattr(loader, "__dict__", ())  # another watch has replaced it already

        def execute_and_call(module: ModuleType) -> None:
            if is_followed:  # restore the loader
                loader.exec_module = execute
            else:
                del loader.exec_module
            execute(module)
            self.end()
            self._call(module)

        with contextlib.suppress(AttributeError):  # a custom loader without assignable attributes
            loader.exec_module = execute_and_call

    def end(self) -> None:
        """Stop watching."""
        # A new list: a thread that iterates over the old one would skip the finder after a removed entry.
        with _lock:
            finders: list[Any] = sys.meta_path.copy()
            with contextlib.suppress(ValueError):  # removed already, after the import
                finders.remove(self)
                sys.meta_path = finders


def _renew_lock() -> None:
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it at the fork
