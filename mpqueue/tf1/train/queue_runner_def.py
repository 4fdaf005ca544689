"""QueueRunnerDef: a queue runner as names, and codes of error classes."""

from dataclasses import dataclass, field
from typing import Any

from mpqueue import errors

_UNKNOWN = 2  # TensorFlow's code for an error class that has none


@dataclass
class QueueRunnerDef:
    """A queue runner by names, which are looked up in the default graph to make it anew.

    Attributes:
        queue_name: Name of the queue.
        enqueue_op_name: Names of the enqueue ops.
        close_op_name: Name of the op that closes the queue.
        cancel_op_name: Name of the op that closes it and cancels pending enqueues.
        queue_closed_exception_types: Codes of the error classes that mean a normal end.

    Follows: The protocol buffer ``tf.compat.v1.train.QueueRunnerDef``, whose fields these are.
    """

    queue_name: str = ""
    enqueue_op_name: list[str] = field(default_factory=list)
    close_op_name: str = ""
    cancel_op_name: str = ""
    queue_closed_exception_types: list[int] = field(default_factory=list)


def code_of(kind: type[errors.OpError]) -> int:
    """Return the code of an error class; a subclass has that of its base."""
    return getattr(kind, "code", _UNKNOWN)


def class_of(code: int) -> type[errors.OpError]:
    """Return the error class of a code.

    Raises:
        KeyError: No class has it.
    """
    kinds: list[Any] = [getattr(errors, name) for name in errors.__all__]
    found: dict[int, type[errors.OpError]] = {kind.code: kind for kind in kinds if hasattr(kind, "code")}
    if code not in found:
        raise KeyError(f"no error class has the code {code}")
    return found[code]


def with_scope(name: str, import_scope: str | None) -> str:
    """Put a name into a scope: ``"q"`` in ``"copy"`` is ``"copy/q"``."""
    return f"{import_scope}/{name}" if import_scope else name


def without_scope(name: str, export_scope: str | None) -> str:
    """Take a name out of a scope, if it is in it: the reverse of `with_scope`."""
    return name.removeprefix(f"{export_scope}/") if export_scope else name
