"""The forms in which an enqueuer is made: Keras 2's, Keras 3's, and what a `Sequence` says of itself."""

import inspect
from collections.abc import Mapping
from typing import Any

from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.options import Options
from mpqueue.plan.rules import check_backend
from mpqueue.plan.sequence import Sequence

_KERAS_2 = ("use_multiprocessing", "shuffle")
_KERAS_3 = ("workers", "use_multiprocessing", "max_queue_size", "shuffle")


def taken_by_name(positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor that were given, by name.

    Args:
        positional: Those behind the sequence. A number in front is Keras 3's ``workers``, a flag is Keras 2's
            ``use_multiprocessing``.
        named: All others; None where one was not given.

    Raises:
        TypeError: There are too many, or one is given twice.
    """
    is_keras_3 = bool(positional) and hasattr(positional[0], "__index__") and not isinstance(positional[0], bool)
    names = _KERAS_3 if is_keras_3 else _KERAS_2
    if len(positional) > len(names):
        raise TypeError(
            f"OrderedEnqueuer takes (sequence, {', '.join(names)}) when its second argument is "
            f"{positional[0]!r}, got {len(positional) - len(names)} more: pass them by name"
        )
    given = {name: named[name] for name in _KERAS_3 if named[name] is not None}
    by_place = dict(zip(names, positional, strict=False))
    for name in by_place.keys() & given.keys():
        raise TypeError(f"OrderedEnqueuer got {name} twice: {by_place[name]!r} by its place, {given[name]!r} by name")
    return given | by_place


def backend_of(backend: BackendName | None, *, use_multiprocessing: bool, options: Options) -> BackendName:
    """Return what runs the source of an enqueuer.

    Args:
        backend: As given; None: ``use_multiprocessing`` decides.
        use_multiprocessing: As given, or its default.
        options: Of the enqueuer.

    Raises:
        TypeError: `ray_options` has a key of the wrong type.
        ValueError: There is no such backend; it contradicts ``use_multiprocessing``, or `ray_options`.
        ImportError: It is "ray", and there is no Ray.
    """
    chosen: BackendName = backend or ("process" if use_multiprocessing else "thread")
    if backend is not None or options.ray_options is not None:
        check_backend(chosen, options)
    if use_multiprocessing and not kind_of(chosen).in_processes:
        raise ValueError(f"backend={chosen!r} and use_multiprocessing=True contradict each other: give one of them")
    return chosen


def own_of(sequence: Any) -> dict[str, Any]:
    """Return what a `Sequence` was given for those who run it, by the names of an enqueuer's arguments."""
    if not isinstance(sequence, Sequence):  # the attributes of others may mean something else
        return {}
    return {name: getattr(sequence, name) for name in _KERAS_3[:3] if _is_given(sequence, name)}


def _is_given(sequence: Sequence, name: str) -> bool:
    if inspect.getattr_static(sequence, name) is not vars(Sequence)[name]:
        return getattr(sequence, name) is not None
    return hasattr(super(Sequence, sequence), name)  # it is a PyDataset, too, which has Keras's


def by_old_names(given: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by their names of today, where they may have come by those of Keras 1 and 2.0.

    Args:
        given: By their names of today; None where one was not given.
        old: By their old names; None where one was not given.

    Raises:
        TypeError: One was given under both.
    """
    found = dict(given)
    for name, value in old.items():
        if value is None:
            continue
        today = _TODAY[name]
        if given[today] is not None:
            raise TypeError(f"{name}={value!r} and {today}={given[today]!r} mean the same: give one of them")
        found[today] = value
    return found


_TODAY = {"pickle_safe": "use_multiprocessing", "nb_worker": "workers", "max_q_size": "max_queue_size"}
