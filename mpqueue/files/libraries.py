"""Optional packages, imported on first use."""

import importlib
from typing import Any


def library(name: str, message: str) -> Any:
    """Return a module of an optional package.

    Args:
        name: The name of the module.
        message: The error message, with the command that installs the package.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(message) from error
