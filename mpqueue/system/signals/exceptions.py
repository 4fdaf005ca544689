"""Exceptions of user code: reads and changes of them that run none of their code, so that they cannot fail.

An exception may refuse what Python's own tools do with it. The attributes of a frozen dataclass cannot be set.
``__cause__`` or ``__class__`` may be a property that raises, ``__notes__`` may be a number, and ``add_note`` may be
overridden. A thread that fails there never reports its batch, and the consumer waits forever. So all modules of the
package use these functions for exceptions of user code. They call the descriptors of `BaseException` itself, and
compare types, because ``isinstance`` reads the attribute ``__class__``.

The statements ``raise`` and ``raise ... from`` and the clause ``except`` set and compare the same fields in C, and need
no replacement.
"""

from types import TracebackType
from typing import Any, TypeGuard, TypeVar

_T = TypeVar("_T")

_fields = vars(BaseException)
_attributes_of = _fields["__dict__"].__get__
_group_fields = vars(BaseExceptionGroup)
_name_of = vars(type)["__qualname__"].__get__
_module_of = vars(type)["__module__"].__get__


def matches(error: Any, *kinds: type[_T]) -> TypeGuard[_T]:
    """Return whether an ``except`` clause with these classes would catch the exception."""
    return issubclass(type(error), kinds)


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an exception, without its slots and properties; changes have an effect."""
    attributes: dict[str, Any] = _attributes_of(error)
    return attributes


def add_note(error: BaseException, note: str) -> None:
    """Add a note, like ``error.add_note(note)``; has no effect if the notes of the exception are not a list."""
    attributes = _attributes_of(error)
    notes = dict.get(attributes, "__notes__")
    if notes is None:
        dict.__setitem__(attributes, "__notes__", [note])
    elif matches(notes, list):
        list.append(notes, note)


def notes_of(error: BaseException) -> list[str]:
    """Return the notes that are plain strings."""
    notes = dict.get(_attributes_of(error), "__notes__")
    return [note for note in list.__iter__(notes) if type(note) is str] if matches(notes, list) else []


def cause_of(error: BaseException) -> BaseException | None:
    """Return the ``__cause__``."""
    cause: BaseException | None = _fields["__cause__"].__get__(error)
    return cause


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the ``__cause__``, like ``raise error from cause``."""
    _fields["__cause__"].__set__(error, cause)


def context_of(error: BaseException) -> BaseException | None:
    """Return the ``__context__``."""
    context: BaseException | None = _fields["__context__"].__get__(error)
    return context


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the ``__traceback__``."""
    traceback: TracebackType | None = _fields["__traceback__"].__get__(error)
    return traceback


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set the ``__traceback__``; None releases the frames, and with them the objects of their variables."""
    _fields["__traceback__"].__set__(error, traceback)


def release_frames(error: BaseException) -> None:
    """Remove the traceback, also of causes and members, and the exception that was handled when this one was raised."""
    set_traceback(error, None)
    _fields["__context__"].__set__(error, None)
    for part in (cause_of(error), *members_of(error)):
        if part is not None:
            release_frames(part)


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of an exception group; for any other exception, an empty tuple."""
    members: tuple[BaseException, ...] = ()
    if matches(error, BaseExceptionGroup):
        members = _group_fields["exceptions"].__get__(error)
    return members


def type_name_of(error: BaseException) -> str:
    """Return the qualified name of the class, without the module of built-in classes and of classes of the script."""
    kind = type(error)
    name: str = _name_of(kind)
    module = _module_of(kind)  # an arbitrary object, if the class has set it
    return name if type(module) is not str or module in ("builtins", "__main__") else f"{module}.{name}"
