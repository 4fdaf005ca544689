"""Recognises coroutine functions and asynchronous generators, without importing asyncio."""

import inspect
from typing import Any


def is_coroutine_function(function: Any) -> bool:
    """Return whether a callable returns a coroutine: a function, a method, a `partial`, or an object with a call."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def is_asynchronous_generator(function: Any) -> bool:
    """Return whether a callable is an asynchronous generator function, or a class of asynchronous iterables."""
    return (
        inspect.isasyncgenfunction(function)
        or inspect.isasyncgenfunction(_call_of(function))
        or (inspect.isclass(function) and hasattr(function, "__aiter__") and not hasattr(function, "__iter__"))
    )


def _call_of(function: Any) -> Any:
    """Return the method with which an object of the user's class is called."""
    return getattr(type(function), "__call__", None)  # noqa: B004 - the method itself, not whether it exists


def has_coroutines(source: Any, *, batches: bool) -> bool:
    """Return whether the samples of a source with an index are computed by coroutines.

    Args:
        source: The source.
        batches: Each item is a batch; otherwise it is a sample, and ``__getitems__`` computes them, if it exists.
    """
    getitems = None if batches else getattr(source, "__getitems__", None)
    return is_coroutine_function(getattr(type(source), "__getitem__", None) if getitems is None else getitems)


def reject_coroutine(name: str, function: Any, remedy: str) -> None:
    """Raise a `TypeError` for a coroutine function where only a plain function has an effect.

    Args:
        name: What the function is for.
        function: The function.
        remedy: What to do.
    """
    if function is not None and (is_coroutine_function(function) or is_asynchronous_generator(function)):
        shown = getattr(function, "__qualname__", type(function).__name__)
        raise TypeError(f"{name} must be a plain function, but {shown} is asynchronous (async def): {remedy}")
