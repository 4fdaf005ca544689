"""Signatures and docstrings of frontends, from the table of options.

A constructor takes ``**options: Unpack[LoaderOptions]``, which type checkers and editors read. `inspect.signature`,
`help`, notebooks and the reference pages read ``__signature__`` and ``__doc__``, which list each option with its type,
default and description.

What a constructor received cannot be assigned later, unless it then has an effect; see `Fixed`.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ForwardRef, TypeVar, is_typeddict

from mpqueue.plan.options import options
from mpqueue.plan.options.options import rows_of

_Frontend = TypeVar("_Frontend", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])
_WIDTH = 120
# The sections of docstrings and of the page of options, in the order in which they list options. Options of no group
# are in the section `Args`.
GROUPS = {
    "Args": ("batch_size", "shuffle", "workers", "collate", "shard"),
    "Order and random numbers": ("seed", "drop_last", "sampler", "batch_sampler", "ordered", "balance", "exclude"),
    "Streams": ("epoch_batches", "lanes"),
    "Errors and crashes": ("on_error", "max_errors", "restarts", "batch_timeout"),
    "Kinds of workers": ("backend", "threads", "concurrency", "start_method", "worker_init", "ray_options"),
    "Memory and output": ("max_queue_size", "max_batch_bytes", "copy", "progress", "trace"),
    "Consumers": ("mode", "world", "slow", "grace_s", "lease_timeout", "journal", "allow_uids"),
}


class Fixed:
    """Base class of frontends: an assignment that would have no effect raises an error.

    The constructor sets `_is_fixed` at its end.
    """

    _FIXED: frozenset[str] = frozenset()
    _is_fixed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._FIXED and self._is_fixed:
            raise AttributeError(
                f"{name} is fixed when a {type(self).__name__} is made, and cannot be assigned later: make another one "
                f"with the new value"
            )
        super().__setattr__(name, value)


def shows_options(kind: Any, *, later: Iterable[str] = ()) -> Callable[[_Frontend], _Frontend]:
    """Return a class decorator that adds the options of a `TypedDict` to the signature and the docstring.

    The section ``Args`` of the docstring must have an entry ``**options``, which the options replace.

    Args:
        kind: The `TypedDict`.
        later: Names of arguments that can also be assigned later; all others are fixed.
    """

    def decorate(frontend: _Frontend) -> _Frontend:
        signature = _with_options(vars(frontend)["__init__"], kind)
        # A `__new__` takes the arguments of the constructor as `*args, **kwargs`, which would not inform a reader.
        for name in ("__init__", "__new__"):
            method = vars(frontend).get(name)
            if method is not None:
                vars(getattr(method, "__func__", method))["__signature__"] = signature
        if issubclass(frontend, Fixed):
            frontend._FIXED |= signature.parameters.keys() - {*later}
        frontend.__doc__ = _Docstring(frontend.__doc__, kind)  # type: ignore[assignment]  # a class may have a descriptor
        return frontend

    return decorate


def shows_arguments(kind: Any) -> Callable[[_Function], _Function]:
    """Return a function decorator that adds the options of a `TypedDict` to the signature and the docstring."""

    def decorate(function: _Function) -> _Function:
        vars(function)["__signature__"] = _with_options(function, kind)
        function.__doc__ = described(function.__doc__ or "", kind)
        return function

    return decorate


class _Docstring:
    """The docstring of a class, assembled when it is read: most programs never read it."""

    def __init__(self, text: str | None, kind: Any) -> None:
        self._text, self._kind = text, kind

    def __get__(self, instance: Any, owner: Any) -> str | None:
        return None if self._text is None else described(self._text, self._kind)


def described(text: str, kind: Any) -> str:
    """Return a docstring with the options in place of the entry ``**options`` of its section ``Args``, its last one.

    The section has the first of `GROUPS`; sections for the others follow.
    """
    lines = inspect.cleandoc(text).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("    **options:"))
    shown = [
        line
        for title, options in grouped(kind).items()
        for line in (*([] if title == "Args" else ["", f"{title}:"]), *_entries(options))
    ]
    lines[start : start + 1] = shown
    return "\n".join(lines)


def grouped(kind: Any) -> dict[str, dict[str, str]]:
    """Return the descriptions of a frontend's options, by the title of their section and by name."""
    texts = texts_of(kind)
    found = {title: {name: texts.pop(name) for name in names if name in texts} for title, names in GROUPS.items()}
    found["Args"] |= texts
    return {title: options for title, options in found.items() if options}


def _entries(options: Mapping[str, str]) -> list[str]:
    return [
        line
        for name, text in options.items()
        for line in textwrap.wrap(
            f"{name}: {text}", _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False
        )
    ]


def texts_of(kind: Any) -> dict[str, str]:
    """Return the descriptions of a frontend's options, by name."""
    texts: dict[str, str] = {}  # of the groups of this kind: other frontends have different options of one name
    for group in _groups_of(kind):
        section = inspect.cleandoc(group.__doc__).partition("\nAttributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE):
            texts[name] = " ".join(text.split())
    return {name: texts[name] for name in kind.__annotations__}


def _groups_of(kind: Any) -> list[Any]:
    """Return a `TypedDict` and all its bases, which are before it."""
    if sys.version_info >= (3, 12):
        bases = filter(is_typeddict, kind.__orig_bases__)
        return [*(group for base in bases for group in _groups_of(base)), kind]
    # A `TypedDict` of 3.11 does not name its bases, but has the same rows, which are copies from 3.14 on.
    groups = filter(is_typeddict, vars(options).values())
    return [group for group in groups if group.__annotations__.items() <= kind.__annotations__.items()]


def _with_options(function: Callable[..., Any], kind: Any) -> inspect.Signature:
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=row.default, annotation=_type_of(hint))
        for (name, row), hint in zip(rows_of(kind).items(), kind.__annotations__.values(), strict=True)
    ]
    return signature.replace(parameters=[*own, *shown])


def _type_of(hint: Any) -> Any:
    """Return the type of an option; its text, if the class is imported only by programs that use it."""
    kind = hint.__origin__
    return kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind
