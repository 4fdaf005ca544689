"""Calls when a module is imported, whoever imports it, and whenever.

A worker has to set up torch before the first line of user code that uses it, and the user's source may import torch in
its first item, or never. So a finder stands at the head of `sys.meta_path`, which finds nothing of its own: it lets the
others find the module, and has the call made when the module's code has run, before the import statement returns. Then
it is taken away. Until then every import of a module that was not imported before asks it one question.
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


_lock = RLock()  # around each change of `sys.meta_path`: of two copies that are changed at once, one would be lost


class Watch:  # no `importlib.abc.MetaPathFinder`, which the interpreter does not ask for: to import it takes 9 to 17 ms
    """Calls when a module has been imported: at once if it is imported already.

    Args:
        name: Of a top-level module.
        call: Is called with the module, once.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], object]) -> None:
        self._name, self._call = name, call
        module = sys.modules.get(name)
        # What a program has put there by itself may have no spec.
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
        """Return what the other finders find, whose code is followed by the call."""
        finders: list[Any] = sys.meta_path
        if fullname != self._name or self not in finders:  # ended, while a thread was on its way through the old list
            return None
        for finder in finders[finders.index(self) + 1 :]:  # another watch before this one has asked it
            spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module
        is_followed = "exec_module" in getattr(loader, "__dict__", ())  # by another watch

        def execute_and_call(module: ModuleType) -> None:
            if is_followed:  # from now on it is the loader that it was
                loader.exec_module = execute
            else:
                del loader.exec_module
            execute(module)
            self.end()
            self._call(module)

        with contextlib.suppress(AttributeError):  # no loader of Python's own: it takes no attributes
            loader.exec_module = execute_and_call

    def end(self) -> None:
        """Watch no longer."""
        # A list of its own: another thread may be on its way through this one, asking for any module, and would step
        # over the finder behind a place that is taken out.
        with _lock:
            finders: list[Any] = sys.meta_path.copy()
            with contextlib.suppress(ValueError):  # the module was imported
                finders.remove(self)
                sys.meta_path = finders


def _renew_lock() -> None:
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it at the fork
