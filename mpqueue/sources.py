"""What may serve as a source, looked at before any process starts.

A *sequence* has ``__getitem__`` and ``__len__`` (or Keras 3's ``num_batches``, ``None`` meaning endless); no base
class is asked for. A *stream* is a callable without arguments that returns an iterator (a generator function), or an
iterator.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.sequence import Sequence

# Hooks of base classes, which do nothing; a source that inherits one has nothing to wait for.
_IDLE_HOOKS = {"Sequence.on_epoch_end", "PyDataset.on_epoch_end", "PyDataset.on_epoch_begin"}
_FRAMEWORKS = {"mpqueue", "keras", "tensorflow", "tf_keras", "keras_core"}


def is_sequence(source: Any) -> bool:
    """Whether it has what a sequence needs."""
    kind = type(source)
    return hasattr(kind, "__getitem__") and (hasattr(kind, "__len__") or _has_num_batches(source))


def _has_num_batches(source: Any) -> bool:
    # Not by looking at its value: a property may raise.
    return hasattr(type(source), "num_batches") or "num_batches" in getattr(source, "__dict__", {})


def is_stream(source: Any) -> bool:
    """Whether it is an iterator, or can be called to get one."""
    return not is_sequence(source) and (callable(source) or hasattr(source, "__next__"))


def check_sequence(source: Any) -> None:
    """Raise a `TypeError` that says what a source lacks to be a sequence."""
    if is_sequence(source):
        return
    kind = type(source)
    missing = [name for name in ("__getitem__", "__len__") if not hasattr(kind, name)]
    hint = "; a generator needs GeneratorEnqueuer or Loader" if is_stream(source) else ""
    raise TypeError(f"a source needs __getitem__ and __len__, {kind.__name__} has no {' and no '.join(missing)}{hint}")


def check_stream(source: Any) -> None:
    """Raise a `TypeError` that says what a source lacks to be a stream."""
    if callable(source) or hasattr(source, "__next__"):
        return
    hint = "; a Sequence needs OrderedEnqueuer or Loader" if is_sequence(source) else ""
    raise TypeError(
        "a generator source must be an iterator, or a callable without arguments that returns one; "
        f"got {type(source).__name__}{hint}"
    )


def length_of(source: Any) -> int | None:
    """Batches per epoch, None for endless.

    Raises:
        ValueError: There would be no batch.
        TypeError: It is no integer.
    """
    name = type(source).__name__
    if _has_num_batches(source):
        length = source.num_batches
        if length is None:
            return None
        what = f"{name}.num_batches"
    else:
        what = f"len({name})"
        try:
            length = len(source)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{what} must be a number of batches from 1 to 2**63-1: {error}") from error
    if isinstance(length, bool) or not hasattr(length, "__index__"):
        raise TypeError(f"{what} must be an integer number of batches, got {length!r}")
    length = int(length)
    if length < 1:
        raise ValueError(f"{what} is {length}: a source needs at least one batch per epoch")
    return length


def epoch_end_of(source: Any) -> Callable[[], Any] | None:
    """The source's own `on_epoch_end`; None if it has none, or only a base class's, which does nothing."""
    return _own_hook(source, "on_epoch_end")


def has_hooks(source: Any) -> bool:
    """Whether it has an `on_epoch_begin` or `on_epoch_end` of its own, and so may change between epochs."""
    return any(_own_hook(source, name) is not None for name in ("on_epoch_begin", "on_epoch_end"))


def _own_hook(source: Any, name: str) -> Callable[[], Any] | None:
    hook = getattr(source, name, None)
    if not callable(hook):
        return None
    function = getattr(hook, "__func__", hook)
    if function is Sequence.on_epoch_end:
        return None
    package = (getattr(function, "__module__", None) or "").partition(".")[0]
    if package in _FRAMEWORKS and getattr(function, "__qualname__", "") in _IDLE_HOOKS:
        return None
    checked: Callable[[], Any] = hook
    return checked


def draw_lazy_order(source: Any) -> None:
    """Have a source draw its order here, in the trainer, before the first item.

    Keras's ImageDataGenerator iterators draw it in their first ``__getitem__``: each worker would draw another one.
    """
    if getattr(source, "index_array", 0) is None and hasattr(source, "_set_index_array"):
        source._set_index_array()
