"""Sources that are named on a command line: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``."""

import inspect
import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any


class NotFound(Exception):
    """There is nothing of that name; the text says what there is, or what to write."""


def source_of(name: str) -> Any:
    """Return the source that a name stands for.

    Modules are looked for in the working directory first; where a file is named, beside that before. A generator
    function is a source itself, as is an object that cannot be called; anything else is called.

    Args:
        name: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``; FACTORY may have dots in it.

    Raises:
        NotFound: There is no such module, file or factory.
        Exception: What the module or the factory has raised.
    """
    place, _, path = name.rpartition(":")
    if not place or not path:
        raise NotFound(f"{name!r} names no factory: write MODULE:FACTORY or FILE.py:FACTORY")
    sys.path.insert(0, os.getcwd())
    factory: Any = _file(place) if place.endswith(".py") else _module(place)
    for part in path.split("."):
        if not hasattr(factory, part):
            raise NotFound(f"{place} has no {path!r}; it has {', '.join(_names_in(factory)) or 'nothing'}")
        factory = getattr(factory, part)
    if inspect.isgeneratorfunction(factory) or not callable(factory):
        return factory
    return factory()


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFound(f"there is no module {error.name!r} in {os.getcwd()} or on Python's path") from error
        raise


def _names_in(thing: Any) -> list[str]:
    """Return the names of what could be a factory, or hold one."""
    names = (name for name in dir(thing) if not name.startswith("_"))
    return [name for name in names if not inspect.ismodule(getattr(thing, name, None))]


def _file(path: str) -> ModuleType:
    """Import a file; under its own name if no other module has that, so that workers can import it, too."""
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise NotFound(f"there is no file {path}")
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.basename(path).removesuffix(".py")
    if name in sys.modules or not _is_at(PathFinder.find_spec(name), path):
        name = f"served_{name}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_at(spec: ModuleSpec | None, path: str) -> bool:
    return spec is not None and spec.origin is not None and os.path.samefile(spec.origin, path)
