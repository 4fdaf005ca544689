"""The error for an unknown keyword argument, which names the argument that the caller probably meant.

Python itself does so from version 3.13 on, except for functions that take ``**options``.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
# What to do instead of an argument that no function of mpqueue has.
_ELSEWHERE = {
    "apply": "`mpqueue bench --world` shows what a balance gains",
    "long": "exclude samples that cost more than max_cost, cut them, or pass a larger max_cost",
    "loop_factory": "asyncio's policy chooses the event loop; call asyncio.set_event_loop_policy() in worker_init",
    "monitor": "print statistics(), pass progress=True, or set MPQUEUE_TRACE for a timeline",
}


def similar_to(name: str, known: Iterable[str]) -> str:
    """Return the known name that a misspelt one probably means; empty if all are other words."""
    from difflib import get_close_matches  # imported here: few programs need it

    # The default of 0.6 takes "cache" for "trace".
    return "".join(get_close_matches(name, list(known), 1, 0.7))


def unknown_keyword(function: str, name: str, known: Iterable[str], remedy: str = "") -> TypeError:
    """Return the error for a keyword argument that does not exist.

    Args:
        function: The name of the function.
        name: The name of the argument.
        known: The names of the arguments that exist.
        remedy: Replaces the suggestion.
    """
    remedy = remedy or _ELSEWHERE.get(name, "")
    if not remedy:
        similar = similar_to(name.lower(), known)
        remedy = f"did you mean {similar!r}?" if similar else ""
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{remedy and f': {remedy}'}")


def unknown_attribute(owner: object, name: str, remedy: str | None) -> AttributeError:
    """Return the error for an attribute that an object does not have, with the remedy if one is known."""
    problem = f"{type(owner).__name__!r} object has no attribute {name!r}"
    return AttributeError(f"{problem}: {remedy}" if remedy else problem, name=name, obj=owner)


def suggests_keywords(decorated: _Function) -> _Function:
    """Decorate a function, or a class with its public methods, to name the argument that a caller probably meant.

    Functions that take any keyword argument are left out; see `mpqueue.plan.options.options.Options.of`.
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
