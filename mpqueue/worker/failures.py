"""Exceptions across processes: the consumer gets the user's own type, with the worker's traceback as its cause.

The worker packs an exception as plain strings and, if possible, as a pickle. `dumps_reply` pickles it, so that a class
of the script is the trainer's class. A pickle is only sent if the worker can unpickle it. Otherwise, for example if the
attributes cannot be set, the exception is pickled by its parts (`_parts_of`), which calls none of its methods. If both
are impossible, the trainer raises `WorkerRaised`, which has the class, if that can be pickled (`kind_of`). This module
trusts no method of the exception: even ``repr`` may raise.

A SystemExit of user code is an error of its batch and does not end the worker: computing the batch again would raise it
again. It becomes a `WorkerRaised`, because SystemExit itself would silently end the user's program.

In the other direction, a batch that a worker can pickle may fail to unpickle in the trainer. Unpickling runs user code
(a ``__setstate__``, the import of a module), which may raise. That is an error of the batch: it is raised once, and the
stream continues after it (`unreadable`).
"""

import functools
import io
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import MemberDescriptorType
from typing import Any

from mpqueue.engine.outcomes import Unreadable
from mpqueue.engine.skips import may_skip
from mpqueue.errors import WorkerRaised
from mpqueue.memory.layout import ReadSpec, Spec
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.serialize import dumps_reply, reply_pickler
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.exceptions import (
    add_note,
    attributes_of,
    matches,
    notes_of,
    set_cause,
    type_name_of,
)
from mpqueue.system.signals.interrupts import is_interrupt, is_of_handler
from mpqueue.system.user_code.exception_texts import text_of, traceback_text_of
from mpqueue.worker.context import WorkerInfo, is_forked, process_info

# Every slot has this much memory from its first grant on, so an exception always fits.
MAX_FAILURE_BYTES = FIRST_BYTES
_MAX_TEXT_BYTES = 1 << 14  # of the text and of the traceback; in UTF-8, because the limit of the whole is in bytes
_MAX_SHOWN = 1 << 10  # characters of a message in the traceback
_IS_HEAP_TYPE = 1 << 9  # in the flags of a class: not one of the interpreter's static classes
_mro_of = vars(type)["__mro__"].__get__
_flags_of = vars(type)["__flags__"].__get__
_base_of_class = vars(type)["__base__"].__get__
_attributes_of_class = vars(type)["__dict__"].__get__


class RemoteTraceback(Exception):
    """The traceback in the worker, as a string: the ``__cause__`` of an exception from there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def note_of(index: int, epoch: int, info: WorkerInfo, what: str = "index") -> str:
    """Return the note for an exception of user code."""
    return f"raised for {what} {index} of epoch {epoch} in worker {info.id} of {info.num_workers}"


def pack(error: BaseException, note: str) -> bytes:
    """Return an exception as at most `MAX_FAILURE_BYTES` bytes; ``note`` names index, epoch and worker."""
    # Deferred, so that only the exception's own code can raise in the attempts to pickle it.
    with defer_signals():
        text, shown = text_of(error), traceback_text_of(error)
        if len(text) > _MAX_SHOWN:  # otherwise the frames would not fit
            shown = shown.replace(text, f"{text[:_MAX_SHOWN]}...")
        texts = {
            "name": type_name_of(error),
            "text": _encoded(text)[:_MAX_TEXT_BYTES].decode(errors="ignore"),
            # The end: there are the line that raised, and the message.
            "traceback": _encoded(shown)[-_MAX_TEXT_BYTES:].decode(errors="ignore"),
            "note": note,
            "may_be_skipped": may_skip(error),
        }
        # Without a pickle the consumer gets a `WorkerRaised`: a SystemExit would end its program.
        for name, dumps in () if matches(error, SystemExit) else (("pickle", _pickle_of), ("kind", _pickle_of_kind)):
            pickled = dumps(error)
            if pickled is not None:
                packed = pickle.dumps(texts | {name: pickled}, 5)
                # The strings are limited to fit. Only a large pickle can exceed the limit.
                if len(packed) <= MAX_FAILURE_BYTES:
                    return packed
        return pickle.dumps(texts, 5)


def unpack(data: Any) -> BaseException:
    """Return the packed exception: its own type, or `WorkerRaised`."""
    message = pickle.loads(data)
    error: Any = None
    if "pickle" in message:
        try:
            error = pickle.loads(message["pickle"])
        except BaseException as why:
            unreadable(why)
            message["note"] += f"; it could not be unpickled here ({type_name_of(why)})"
    if not matches(error, BaseException):
        error = WorkerRaised(message["name"], message["text"])
        error._packed_kind = message.get("kind")
        error._may_be_skipped = message["may_be_skipped"]
    # The frames of the worker do not exist here, so its traceback is shown as a string.
    set_cause(error, RemoteTraceback(message["traceback"]))
    add_note(error, message["note"])
    raisable: BaseException = error
    return raisable


def kind_of(error: WorkerRaised) -> type[BaseException] | None:
    """Return the class of the exception that a `WorkerRaised` represents; None if it is unknown in this process."""
    packed: bytes | None = error._packed_kind
    if packed is None:
        return None
    try:
        kind = pickle.loads(packed)
    except BaseException as why:
        unreadable(why)
        return None
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def never_an_end(error: BaseException) -> BaseException:
    """Return an exception that may leave ``__next__``: a StopIteration of user code would end the loop.

    Follows: PEP 479, which converts a StopIteration that leaves a generator to a RuntimeError.
    """
    if not matches(error, StopIteration):
        return error
    converted = RuntimeError("the source raised StopIteration")
    for note in notes_of(error):
        converted.add_note(note)
    converted.__cause__ = error
    return converted


def never_an_exit(error: SystemExit, note: str = "") -> WorkerRaised:
    """Return the replacement of a SystemExit in the trainer, where it would silently end the user's program."""
    converted = WorkerRaised(type_name_of(error), text_of(error))
    if note:
        converted.add_note(note)
    converted.__cause__ = error
    return converted


def _encoded(text: str) -> bytes:
    # A string may have lone surrogates, for example in the name of a file; UTF-8 has no form for these.
    return text.encode(errors="backslashreplace")


def _pickle_of(error: BaseException) -> bytes | None:
    as_usual = () if _loses_slots(type(error)) else (partial(dumps_reply, buffer_callback=None),)
    for dumps in (*as_usual, _dumps_by_parts):
        try:
            packed: bytes = dumps(error)
            # A `__reduce__` may name another class; such a pickle would change the type of the error.
            # Here, where a failure can still be handled: many classes pickle, and raise when they are unpickled.
            if type(pickle.loads(packed)) is type(error):
                return packed
        except BaseException:  # noqa: S112 - __reduce__ and __setstate__ are user code, which may raise anything
            continue
    return None


def _pickle_of_kind(error: BaseException) -> bytes | None:
    try:
        return dumps_reply(type(error), None)
    except BaseException:
        return None


def _dumps_by_parts(error: BaseException) -> bytes:
    with io.BytesIO() as file:
        _parts_pickler()(file, protocol=5).dump(error)
        return file.getvalue()


@functools.cache
def _parts_pickler() -> Any:
    class PartsPickler(reply_pickler()):  # type: ignore[misc]  # as in `reply_pickler`
        """A pickler of replies that calls no method of exceptions."""

        def reducer_override(self, obj: Any) -> Any:
            return (_rebuilt, _parts_of(obj)) if matches(obj, BaseException) else super().reducer_override(obj)

    return PartsPickler


def _parts_of(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any], list[Any]]:
    """Return class, arguments, attributes and slots of an exception, without a call of its methods."""
    kind = type(error)
    _, args, *state = _base_of(kind).__reduce__(error)
    slots = []
    for at, name, member in _slots_of(kind):
        try:
            slots.append((at, name, member.__get__(error)))
        except AttributeError:  # it is not set
            continue
    return kind, args, dict(*state), slots


def _rebuilt(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any], slots: list[Any]
) -> BaseException:
    """Return an exception with these parts, without a call of its methods."""
    base = _base_of(kind)
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    for name, value in attributes.items():
        # Such as the ``name`` of an ImportError, which is not in its ``__dict__``.
        field = next((vars(each)[name] for each in base.__mro__ if name in vars(each)), None)
        if field is not None and hasattr(field, "__set__"):
            field.__set__(error, value)
        else:
            attributes_of(error)[name] = value
    members = {(at, name): member for at, name, member in _slots_of(kind)}
    for at, name, value in slots:
        members[at, name].__set__(error, value)
    return error


def _base_of(kind: type[BaseException]) -> Any:
    """Return the class of the interpreter that a class of exceptions is derived from."""
    while _flags_of(kind) & _IS_HEAP_TYPE:
        kind = _base_of_class(kind)
    return kind


def _loses_slots(kind: type[BaseException]) -> bool:
    """Return whether the usual pickle of a class's exceptions, by `BaseException.__reduce__`, lacks their slots."""
    own = [_attributes_of_class(each) for each in _mro_of(kind) if _flags_of(each) & _IS_HEAP_TYPE]
    has_reduce = any("__reduce__" in attributes or "__reduce_ex__" in attributes for attributes in own)
    return not has_reduce and any(_slots_of(kind))


def _slots_of(kind: type[BaseException]) -> Iterator[tuple[int, str, Any]]:
    """Yield the position in the order of base classes, the name and the descriptor of each slot."""
    for at, each in enumerate(_mro_of(kind)):
        for name, member in _attributes_of_class(each).items() if _flags_of(each) & _IS_HEAP_TYPE else ():
            if type(member) is MemberDescriptorType:
                yield at, name, member


def unreadable(error: BaseException) -> Unreadable:
    """Return the error to raise after a failed unpickling.

    Raises:
        BaseException: The error, if it is an interrupt.
    """
    if is_interrupt(error):
        raise error
    return Unreadable(error)


def passes_at_once(error: BaseException) -> bool:
    """Return whether an exception is an interrupt, rather than the error of an element.

    In a worker process only user code is interrupted, for example by its own timeouts with signals. So only a handler
    that exits the process counts as an interrupt there. In a child that user code has forked, each exception ends the
    child.
    """
    if is_forked():
        return True
    if process_info() is not None:
        return matches(error, SystemExit) and is_of_handler(error)
    return is_interrupt(error)


def skips_sample(error: BaseException) -> bool:
    """Return whether ``on_error="skip"`` skips the sample, or the batch, that has raised an exception."""
    return may_skip(error) and not passes_at_once(error)


class LateSpec(ReadSpec):
    """A replacement for a spec that could not be unpickled; each of its batches tries again, or is unreadable.

    Args:
        load: Unpickles the spec.
    """

    def __init__(self, load: Callable[[], Spec]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of `ReadSpec`; all attributes need the spec.

        Raises:
            Unreadable: The spec still cannot be unpickled.
        """
        try:
            spec = self._load()
        except BaseException as error:
            raise unreadable(error) from error
        return getattr(ReadSpec(spec), name)
