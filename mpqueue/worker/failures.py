"""Exceptions across processes: the consumer gets the user's own type, with the worker's traceback as its cause.

The worker packs an exception as plain strings and, if possible, as a pickle (by `dumps_reply`, so that a class of the
script is the trainer's class). A pickle is only sent if the worker can unpickle it. The trainer falls back to
`WorkerRaised` if unpickling fails there. This module trusts no method of the exception: even ``repr`` may raise.

A SystemExit of user code is an error of its batch and does not end the worker: computing the batch again would raise it
again. It becomes a `WorkerRaised`, because SystemExit itself would silently end the user's program.

In the other direction, a batch that a worker can pickle may fail to unpickle in the trainer. Unpickling runs user code
(a ``__setstate__``, the import of a module), which may raise. A signal handler may also raise at that moment. The first
is an error of the batch: it is raised once, and the stream continues after it. The second is an interrupt: the batch is
kept, or computed again. The exception itself does not show which case it is. So the failed step is repeated with signal
handlers deferred (`unreadable`): if it raises the same error again, that error belongs to the batch.
"""

import pickle
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.engine.outcomes import Unreadable
from mpqueue.errors import WorkerRaised
from mpqueue.memory.layout import ReadSpec, Spec
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.serialize import dumps_reply
from mpqueue.system.interrupts import defer_signals, is_of_handler
from mpqueue.worker.context import WorkerInfo, process_info

# Every slot has this much memory from its first grant on, so an exception always fits.
MAX_FAILURE_BYTES = FIRST_BYTES
_MAX_TEXT_BYTES = 1 << 14  # of the text and of the traceback; in UTF-8, because the limit of the whole is in bytes


class RemoteTraceback(Exception):
    """The traceback in the worker, as a string: the ``__cause__`` of an exception from there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def note_of(unit: int, epoch: int, info: WorkerInfo, what: str = "index") -> str:
    """Return the note for an exception of user code."""
    return f"raised for {what} {unit} of epoch {epoch} in worker {info.id} of {info.num_workers}"


def pack(error: BaseException, note: str) -> bytes:
    """Return an exception as at most `MAX_FAILURE_BYTES` bytes; ``note`` names index, epoch and worker."""
    message = {
        "name": _name_of(error),
        "text": _encoded(_text_of(error))[:_MAX_TEXT_BYTES].decode(errors="ignore"),
        # The end: there are the line that raised, and the message.
        "traceback": _encoded(_traceback_of(error))[-_MAX_TEXT_BYTES:].decode(errors="ignore"),
        "note": note,
        # Without a pickle the consumer gets a `WorkerRaised`: a SystemExit would end its program.
        "pickle": None if isinstance(error, SystemExit) else _pickle_of(error),
    }
    packed = pickle.dumps(message, 5)
    # The strings are limited to fit. Only a large pickle can exceed the limit.
    if len(packed) > MAX_FAILURE_BYTES:
        packed = pickle.dumps(message | {"pickle": None}, 5)
    return packed


def unpack(data: Any) -> BaseException:
    """Return the packed exception: its own type, or `WorkerRaised`."""
    message = pickle.loads(data)
    error: BaseException | None = None
    if message["pickle"] is not None:
        try:
            error = pickle.loads(message["pickle"])
        except Exception as why:
            unreadable(why, partial(pickle.loads, message["pickle"]))
            message["note"] += f"; it could not be unpickled here ({type(why).__name__})"
    if not isinstance(error, BaseException):
        error = WorkerRaised(message["name"], message["text"])
    # The frames of the worker do not exist here, so its traceback is shown as text.
    error.__cause__ = RemoteTraceback(message["traceback"])
    error.add_note(message["note"])
    return error


def never_an_end(error: BaseException) -> BaseException:
    """Return an exception that may leave ``__next__``: a StopIteration of user code would end the loop.

    Follows: PEP 479, which converts a StopIteration that leaves a generator to a RuntimeError.
    """
    if not isinstance(error, StopIteration):
        return error
    converted = RuntimeError("the source raised StopIteration")
    for note in getattr(error, "__notes__", ()):
        converted.add_note(note)
    converted.__cause__ = error
    return converted


def never_an_exit(error: SystemExit, note: str = "") -> WorkerRaised:
    """Return the replacement of a SystemExit in the trainer, where it would silently end the user's program."""
    converted = WorkerRaised(_name_of(error), _text_of(error))
    if note:
        converted.add_note(note)
    converted.__cause__ = error
    return converted


def _name_of(error: BaseException) -> str:
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as why:
        return f"<its message is unavailable: {type(why).__name__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # its repr or str raises: the frames are still useful
        return "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n"


def _encoded(text: str) -> bytes:
    # A text may have lone surrogates, for example in the name of a file; UTF-8 has no form for these.
    return text.encode(errors="backslashreplace")


def _pickle_of(error: BaseException) -> bytes | None:
    try:
        packed = dumps_reply(error, None)
        # A `__reduce__` may name another class; such a pickle would change the type of the error.
        # Here, where a failure can still be handled: many classes pickle, and raise when they are unpickled.
        again = pickle.loads(packed)
    except BaseException:  # __reduce__ and __setstate__ are user code, which may raise anything
        return None
    return packed if type(again) is type(error) else None


def unreadable(error: Exception, again: Callable[[], object]) -> Unreadable:
    """Return the error to raise after a failed unpickling.

    Args:
        error: The first error.
        again: Repeats the failed step.

    Raises:
        Exception: The first error, if a signal handler has raised it.
    """
    # Deferred, so that only user code can raise in the second attempt.
    with defer_signals():
        try:
            again()
        except Exception as own:
            own.__traceback__ = None  # user code that keeps its error would keep the frames, and with them the batch
            if type(own) is type(error):
                return Unreadable(error)
    raise error


def passes_at_once(error: BaseException) -> bool:
    """Return whether an exception is an interrupt, rather than the error of an element.

    In a worker process only user code is interrupted, for example by its own timeouts with signals. So only a handler
    that exits the process counts as an interrupt there.
    """
    if process_info() is not None:
        return isinstance(error, SystemExit) and is_of_handler(error)
    return not isinstance(error, Exception | SystemExit) or is_of_handler(error)


class LateSpec(ReadSpec):
    """A replacement for a spec that could not be unpickled; each of its batches tries again, or is unreadable.

    Args:
        load: Unpickles the spec.
    """

    def __init__(self, load: Callable[[], Spec]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of `ReadSpec`, all of which need the spec.

        Raises:
            Unreadable: The spec still cannot be unpickled.
        """
        try:
            spec = self._load()
        except Exception as error:
            raise unreadable(error, self._load) from error
        return getattr(ReadSpec(spec), name)
