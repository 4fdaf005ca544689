"""Errors for misspelt keyword arguments, which name the argument that the caller probably meant.

Python itself does this from version 3.13 on, except for functions that take ``**options``.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def unknown_keyword(function: str, name: str, known: Iterable[str], remedy: str = "") -> TypeError:
    """Return the error for a keyword argument that does not exist.

    Args:
        function: The name of the function.
        name: The name of the argument.
        known: The names of the arguments that exist.
        remedy: Replaces the suggestion.
    """
    if not remedy:
        from difflib import get_close_matches  # imported here: few programs need it

        similar = get_close_matches(name.lower(), list(known), 1)
        remedy = f"did you mean {similar[0]!r}?" if similar else ""
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{remedy and f': {remedy}'}")


def suggests_keywords(decorated: _Decorated) -> _Decorated:
    """Decorate a function, or a class with its public methods, to name the argument that a caller probably meant.

    Functions that take any keyword argument are left out; see `mpqueue.plan.options.Options.of`.
    """
    if not inspect.isclass(decorated):
        return _suggesting(decorated)  # type: ignore[no-any-return]
    for name, value in list(vars(decorated).items()):
        if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_")):
            setattr(decorated, name, _suggesting(value))
    return decorated


def _suggesting(function: Any) -> Any:
    code = function.__code__
    known = frozenset(code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount])
    if code.co_flags & inspect.CO_VARKEYWORDS or known <= {"self"}:
        return function

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if not keywords.keys() <= known:
            name = next(name for name in keywords if name not in known)
            raise unknown_keyword(function.__qualname__.removesuffix(".__init__"), name, known - {"self"})
        return function(*args, **keywords)

    return call
