"""Optional packages: whether they are installed, and their import."""

import sys
from importlib import import_module
from typing import Any


def is_installed(name: str) -> bool:
    """Return whether a top-level package is installed, without importing it."""
    if name in sys.modules:
        # `find_spec` raises a ValueError for a module without `__spec__`, which a program may have created itself.
        return sys.modules[name] is not None  # None hides an installed package
    import importlib.util  # takes a millisecond, and most programs do not need it

    return importlib.util.find_spec(name) is not None


def import_extra(name: str, message: str) -> Any:
    """Import an optional package, and return the module.

    Args:
        name: The name of the package, or of a module in it.
        message: The message of the error if the package is not installed.

    Raises:
        ImportError: The package is not installed.
        ModuleNotFoundError: The package is installed, but a module that it needs is missing.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ImportError(message, name=error.name) from error
