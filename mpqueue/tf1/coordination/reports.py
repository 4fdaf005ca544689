"""The exceptions that are reported with a stop, and those that mean a clean end."""

from collections.abc import Iterable
from types import TracebackType
from typing import TypeAlias

from mpqueue.errors import OutOfRangeError

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def exception_types(types: Iterable[type[BaseException]] | None) -> tuple[type[BaseException], ...]:
    """Return the classes that mean a clean end; None: the end of input.

    Raises:
        TypeError: One is no class of exceptions.
    """
    if types is None:
        return (OutOfRangeError,)
    found = tuple(types) if isinstance(types, Iterable) else (types,)
    for type_ in found:
        if not (isinstance(type_, type) and issubclass(type_, BaseException)):
            raise TypeError(f"clean_stop_exception_types must hold exception classes, got {type_!r}")
    return found


def reported(ex: BaseException | ExcInfo | None) -> BaseException | None:
    """Return the exception in an argument of `Coordinator.request_stop`.

    Raises:
        TypeError: There is none in it.
    """
    error = ex[1] if isinstance(ex, tuple) and len(ex) == 3 else ex
    if error is not None and not isinstance(error, BaseException):
        raise TypeError(f"request_stop takes an exception, sys.exc_info() or None, got {ex!r}")
    return error
