"""Imports of optional packages."""

from importlib import import_module
from typing import Any


def import_extra(package: str, message: str) -> Any:
    """Import an optional package.

    Args:
        package: The name of the package.
        message: The message of the error if the package is not installed.

    Raises:
        ImportError: The package is not installed.
        ModuleNotFoundError: The package is installed, but a module that it needs is missing.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(message, name=package) from error
