"""Load a source that is named on a command line: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``."""

import inspect
import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any


class NotFound(Exception):
    """The name does not lead to a factory; the message lists the available names, or the expected form."""


def source_of(name: str) -> Any:
    """Return the source for a name.

    Modules are imported from the working directory first; for a file, its own folder is searched before that. A
    generator function, or an object that is not callable, is a source itself. Anything else is called.

    Args:
        name: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``; FACTORY may contain dots.

    Raises:
        NotFound: The module, file or factory does not exist.
        Exception: The error of the module or the factory.
    """
    position, _, path = name.rpartition(":")
    if not position or not path:
        raise NotFound(f"{name!r} is not the name of a factory: expected MODULE:FACTORY or FILE.py:FACTORY")
    # As with `python -m`. A console script has the folder of the script as its first entry.
    sys.path.insert(0, os.getcwd())
    factory: Any = _file(position) if position.endswith(".py") else _module(position)
    for part in path.split("."):
        if not hasattr(factory, part):
            raise NotFound(f"{position} has no {path!r}, only {', '.join(_names_in(factory)) or 'private names'}")
        factory = getattr(factory, part)
    if inspect.isgeneratorfunction(factory) or not callable(factory):
        return factory
    from mpqueue.plan.options.validation import misfit_of  # imported here: it imports NumPy, and a help text needs none

    misfit = misfit_of(factory)
    if misfit is not None:
        raise NotFound(
            f"{path} of {position} is called without arguments, but {misfit.name}{misfit.signature} needs some "
            f"({misfit.reason}): name a function without arguments that returns {path}(...)"
        )
    return factory()


def _module(name: str) -> ModuleType:
    if name.startswith("."):
        raise NotFound(f"{name!r} is a relative name: expected an absolute module name, or FILE.py")
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFound(f"module {error.name!r} was not found in {os.getcwd()} or on sys.path") from error
        raise


def _names_in(thing: Any) -> list[str]:
    """Return the names of objects that may be a factory, or contain one."""
    names = (name for name in dir(thing) if not name.startswith("_"))
    return [name for name in names if not inspect.ismodule(getattr(thing, name, None))]


def _file(path: str) -> ModuleType:
    """Import a file, under its own name if no other module has this name, so that workers can import it, too."""
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise NotFound(f"the file {path} does not exist")
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.basename(path).removesuffix(".py")
    found = PathFinder.find_spec(name)
    if name in sys.modules or found is None or not found.origin or not os.path.samefile(found.origin, path):
        name = f"served_{name}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Before its code runs, as the import statement does: the code may import its own module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
