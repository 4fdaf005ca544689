"""Exceptions across processes: the consumer gets the user's own type, with the worker's traceback as its cause.

An exception is packed in the worker into plain text and, where that works, its pickle (by `dumps_reply`, so that a
class of the script is the trainer's own). Only what was unpickled once in the worker is sent, and the trainer falls
back to `WorkerRaised` if it does not unpickle there all the same. Nothing here trusts the exception: its ``repr`` may
raise, too.

A SystemExit of the user's code is an error like any other, and no end of the worker: to run the batch again would give
it again. It becomes a `WorkerRaised`, because SystemExit itself would end the user's program without a word.

The other way round, a batch that a worker could pickle may be one that this process cannot unpickle. To rebuild it runs
code of the user (a ``__setstate__``, the import of a module), which may raise; and so may the handler of a signal, in
the middle of it. The first is the batch's own error: it comes once, and the stream goes on behind it. The second is an
interrupt: the batch is kept, or computed again. Nothing about an exception tells which it is. So what has raised is
done once more, with signal handlers deferred (`unreadable`): what raises the same again has raised it by itself.
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

# Every slot has this much memory from its first grant on, so that an exception always has a place to travel in.
MAX_FAILURE_BYTES = FIRST_BYTES
_MAX_TEXT = 1 << 14


class RemoteTraceback(Exception):
    """The traceback in the worker, as text: the ``__cause__`` of an exception that came from there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def note_of(unit: int, epoch: int, info: WorkerInfo, what: str = "index") -> str:
    """Return the note that an exception of user code gets."""
    return f"raised for {what} {unit} of epoch {epoch} in worker {info.id} of {info.num_workers}"


def pack(error: BaseException, note: str) -> bytes:
    """Return an exception as bytes, at most `MAX_FAILURE_BYTES`; ``note`` names index, epoch and worker."""
    message = {
        "name": _name_of(error),
        "text": _text_of(error)[:_MAX_TEXT],
        "traceback": _traceback_of(error)[-_MAX_TEXT:],
        "note": note,
        "pickle": None if isinstance(error, SystemExit) else _pickle_of(error),
    }
    packed = pickle.dumps(message, 5)
    if len(packed) > MAX_FAILURE_BYTES:
        packed = pickle.dumps(message | {"pickle": None}, 5)
    return packed


def unpack(data: Any) -> BaseException:
    """The exception that was packed: its own type, or `WorkerRaised`."""
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
    error.__cause__ = RemoteTraceback(message["traceback"])
    error.add_note(message["note"])
    return error


def never_an_end(error: BaseException) -> BaseException:
    """Return what may leave an iterator's ``__next__``: a StopIteration of the user's code would end the loop.

    Follows: PEP 479, which makes it a RuntimeError where it leaves a generator.
    """
    if not isinstance(error, StopIteration):
        return error
    told = RuntimeError("the source raised StopIteration")
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    told.__cause__ = error
    return told


def never_an_exit(error: SystemExit, note: str = "") -> WorkerRaised:
    """Return what is raised in the trainer in place of it: as it is, it would end the user's program without a word."""
    told = WorkerRaised(_name_of(error), _text_of(error))
    if note:
        told.add_note(note)
    told.__cause__ = error
    return told


def _name_of(error: BaseException) -> str:
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as why:
        return f"<its text could not be had: {type(why).__name__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # an exception whose repr or str raises: the frames are still worth having
        return "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n"


def _pickle_of(error: BaseException) -> bytes | None:
    try:
        packed = dumps_reply(error, None)
        again = pickle.loads(packed)
    except BaseException:  # __reduce__ and __setstate__ are user code, which may raise anything
        return None
    return packed if type(again) is type(error) else None


def unreadable(error: Exception, again: Callable[[], object]) -> Unreadable:
    """Return what is to be raised for an error in unpickling.

    Args:
        error: What was raised.
        again: Does once more what has raised it.

    Raises:
        Exception: The error itself, if the handler of a signal has raised it.
    """
    with defer_signals():
        try:
            again()
        except Exception as own:
            own.__traceback__ = None  # code that keeps its error would keep the batch with the frames
            if type(own) is type(error):
                return Unreadable(error)
    raise error


def passes_at_once(error: BaseException) -> bool:
    """Return whether an exception is an interrupt, and of no element.

    In a worker process nobody but code of the user's is interrupted, which may use signals for timeouts of its own:
    only a handler that leaves the process passes there.
    """
    if process_info() is not None:
        return isinstance(error, SystemExit) and is_of_handler(error)
    return not isinstance(error, Exception | SystemExit) or is_of_handler(error)


class LateSpec(ReadSpec):
    """Takes the place of a spec that could not be unpickled: each batch of it is tried anew, and unreadable.

    Args:
        load: Unpickles the spec.
    """

    def __init__(self, load: Callable[[], Spec]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that `ReadSpec` has: all of them need the spec.

        Raises:
            Unreadable: The spec still cannot be unpickled.
        """
        try:
            spec = self._load()
        except Exception as error:
            raise unreadable(error, self._load) from error
        return getattr(ReadSpec(spec), name)
