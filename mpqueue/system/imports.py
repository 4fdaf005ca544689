"""Calls when a module is imported, whoever imports it, and whenever.

A worker has to set up torch before the first line of user code that uses it, and the user's source may import torch in
its first item, or never. So a finder stands at the head of `sys.meta_path`, which finds nothing of its own: it lets the
others find the module, and has the call made when the module's code has run, before the import statement returns. Then
it is taken away. Until then every import of a module that was not imported before asks it one question.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Watch(MetaPathFinder):
    """Calls when a module has been imported: at once if it is imported already.

    Args:
        name: Of a top-level module.
        call: Is called with the module, once.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], object]) -> None:
        self._name, self._call = name, call
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            call(module)
        else:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, whose code is followed by the call."""
        if fullname != self._name or self not in sys.meta_path:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:  # another watch before this one has asked it
            spec = finder.find_spec(fullname, path, target)
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
        with contextlib.suppress(ValueError):  # the module was imported
            sys.meta_path.remove(self)
