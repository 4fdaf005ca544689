"""QueueRunnerDef: a queue runner, serialized as names and codes of error classes."""

from dataclasses import dataclass, field
from typing import Any

from mpqueue import errors

_UNKNOWN = 2  # TensorFlow's code for an error class without a code


@dataclass
class QueueRunnerDef:
    """A queue runner by names, which are looked up in the default graph to recreate it.

    Attributes:
        queue_name: Name of the queue.
        enqueue_op_name: Names of the enqueue ops.
        close_op_name: Name of the op that closes the queue.
        cancel_op_name: Name of the op that closes the queue and cancels pending enqueues.
        queue_closed_exception_types: Codes of the error classes that mean a normal end.

    Follows: The fields of the protocol buffer ``tf.compat.v1.train.QueueRunnerDef``.
    """

    queue_name: str = ""
    enqueue_op_name: list[str] = field(default_factory=list)
    close_op_name: str = ""
    cancel_op_name: str = ""
    queue_closed_exception_types: list[int] = field(default_factory=list)


def code_of(kind: type[errors.OpError]) -> int:
    """Return the code of an error class, which subclasses inherit."""
    return getattr(kind, "code", _UNKNOWN)


def class_of(code: int) -> type[errors.OpError]:
    """Return the error class of a code.

    Raises:
        KeyError: No error class has this code.
    """
    kinds: list[Any] = [getattr(errors, name) for name in errors.__all__]
    by_code: dict[int, type[errors.OpError]] = {kind.code: kind for kind in kinds if hasattr(kind, "code")}
    if code not in by_code:
        raise KeyError(f"No error class has the code {code}")
    return by_code[code]


def with_scope(name: str, import_scope: str | None) -> str:
    """Put a name into a scope: ``"q"`` in ``"copy"`` is ``"copy/q"``."""
    return f"{import_scope}/{name}" if import_scope else name


def without_scope(name: str, export_scope: str | None) -> str:
    """Remove the scope from a name that is in it: the inverse of `with_scope`."""
    return name.removeprefix(f"{export_scope}/") if export_scope else name
