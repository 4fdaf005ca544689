"""The constructor signatures of enqueuers (Keras 2, Keras 3), and the arguments that a `Sequence` itself specifies."""

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any

from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.checks import is_integer
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.rules import check_backend
from mpqueue.plan.sources.sequence import Sequence

_KERAS_2 = ("use_multiprocessing", "shuffle")
_KERAS_3 = ("workers", "use_multiprocessing", "max_queue_size", "shuffle")


def taken_by_name(positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that were passed to a constructor, by name.

    Args:
        positional: Positional arguments after the sequence. If the first is an integer, it is Keras 3's ``workers``; if
            it is a bool, Keras 2's ``use_multiprocessing``.
        named: All keyword arguments; None if one was not passed.

    Raises:
        TypeError: There are too many arguments, or one was passed twice.
    """
    is_keras_3 = bool(positional) and is_integer(positional[0])
    by_position = _KERAS_3 if is_keras_3 else _KERAS_2
    others = [name for name in _KERAS_3 if name not in by_position]
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in by_position]
    parameters += [Parameter(name, Parameter.KEYWORD_ONLY) for name in others]
    passed = {name: value for name, value in named.items() if value is not None}
    try:
        return Signature(parameters).bind_partial(*positional, **passed).arguments
    except TypeError as error:
        expected = ", ".join(("sequence", *by_position))
        raise TypeError(f"OrderedEnqueuer({expected}): {error}; pass other arguments by name, and each once") from None


def backend_of(options: Options, *, use_multiprocessing: bool) -> BackendName:
    """Return the backend of an enqueuer.

    Args:
        options: The options of the enqueuer. If its ``backend`` is None, ``use_multiprocessing`` decides.
        use_multiprocessing: The argument, or its default.

    Raises:
        TypeError: `ray_options` has a key of the wrong type.
        ValueError: The backend does not exist, or contradicts ``use_multiprocessing``; or an option has no effect with
            it.
        ImportError: The backend is "ray", and Ray is not installed.
    """
    chosen: BackendName = options.backend or ("process" if use_multiprocessing else "thread")
    check_backend(chosen, options)
    if use_multiprocessing and not kind_of(chosen).copies_source:
        raise ValueError(f"backend={chosen!r} and use_multiprocessing=True contradict each other: pass only one")
    return chosen


def own_of(sequence: Any) -> dict[str, Any]:
    """Return the arguments that a `Sequence` specifies for its enqueuer, by name."""
    if not isinstance(sequence, Sequence):  # attributes of other classes may mean something else
        return {}
    return {name: getattr(sequence, name) for name in _KERAS_3[:3] if _is_given(sequence, name)}


def _is_given(sequence: Sequence, name: str) -> bool:
    owners = (vars(sequence), *map(vars, type(sequence).__mro__))
    if next(owner[name] for owner in owners if name in owner) is not vars(Sequence)[name]:
        return getattr(sequence, name) is not None
    return hasattr(super(Sequence, sequence), name)  # a subclass of PyDataset, too: Keras sets the attribute


def by_old_names(present: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by their present names, if they may have been passed by the names of Keras 1 and 2.0.

    Args:
        present: Arguments by their present names; None if one was not passed.
        old: Arguments by their old names; None if one was not passed.

    Raises:
        TypeError: An argument was passed by both names.
    """
    merged = dict(present)
    for name, value in old.items():
        if value is None:
            continue
        today = _TODAY[name]
        if present[today] is not None:
            raise TypeError(f"{name}={value!r} and {today}={present[today]!r} mean the same: pass only one")
        merged[today] = value
    return merged


_TODAY = {"pickle_safe": "use_multiprocessing", "nb_worker": "workers", "max_q_size": "max_queue_size"}
