"""Imports of optional packages."""

from importlib import import_module
from typing import Any


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
