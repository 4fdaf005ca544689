"""Checks of sources, made before any process starts.

A *sequence* has ``__getitem__`` and ``__len__`` (or Keras 3's ``num_batches``, ``None`` meaning endless); no base
class is asked for. A *stream* is a callable without arguments that returns an iterator (a generator function), or an
iterator. What looks like one of them and is something else is refused by `mpqueue.dataset.lookalikes`.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.dataset.lookalikes import (
    TWO_WAYS_OUT,
    check_call,
    has_num_batches,
    is_dataset,
    is_sequence,
    is_torch_iterable,
    refuse_lookalikes,
)
from mpqueue.engine.contents import name_of
from mpqueue.loader.sequence import Sequence

# Hooks of base classes, which do nothing; a source that inherits one has nothing to wait for.
_IDLE_HOOKS = {"Sequence.on_epoch_end", "PyDataset.on_epoch_end", "PyDataset.on_epoch_begin"}
_FRAMEWORKS = {"mpqueue", "keras", "tensorflow", "tf_keras", "keras_core"}


def as_source(source: Any, *, of_samples: bool = False, is_sampled: bool = False) -> Any:
    """Return what the workers run: the source itself, or the ``__iter__`` of an iterable-style dataset of torch.

    Args:
        source: What the user gave.
        of_samples: Its items are samples.
        is_sampled: A sampler says what it is asked for: it needs no length, and its keys may be anything.

    Raises:
        TypeError: It is neither a sequence nor a stream.
        ValueError: Its items are to be samples, and are batches.
    """
    if is_torch_iterable(source):
        return source.__iter__
    if is_sampled and hasattr(type(source), "__getitem__") and not isinstance(source, tuple):
        return source
    refuse_lookalikes(source, "sample" if of_samples else "batch")
    if of_samples:
        _refuse_batches(source)
    if not is_stream(source):
        check_sequence(source)
    elif not has_lanes(source):
        check_call(source)
    return source


def stream_in(source: Any) -> Any:
    """Return what takes its share of a stream by itself: what a dataset reads, torch's dataset, or the function."""
    if has_lanes(source):
        return source.streams[0]
    of = getattr(source, "__self__", None)
    return of if is_torch_iterable(of) else source


def _refuse_batches(source: Any) -> None:
    """Raise a `ValueError` for a source of batches that is to be one of samples."""
    is_keras = any(
        kind.__name__ in {"PyDataset", "Sequence"} and kind.__module__.partition(".")[0] in _FRAMEWORKS
        for kind in type(source).__mro__
    )
    if is_keras or has_num_batches(source):
        why = "a Sequence of Keras's kind" if is_keras else "what has num_batches"
        raise ValueError(
            f"batch_size makes batches of samples, and the items of {type(source).__name__} are batches already, as "
            f"those of {why} are: leave out batch_size, or give the samples by an object that is not one"
        )


def is_stream(source: Any) -> bool:
    """Return whether it has lanes, is an iterator, or can be called to get one."""
    return has_lanes(source) or (not is_sequence(source) and (callable(source) or hasattr(source, "__next__")))


def has_lanes(source: Any) -> bool:
    """Return whether it opens the lanes of its stream by itself: a `mpqueue.worker.lanes.LaneSource`."""
    return hasattr(type(source), "open_lane")


def check_sequence(source: Any) -> None:
    """Raise a `TypeError` that says what a source lacks to be a sequence."""
    if is_dataset(source):
        from mpqueue.dataset.dataset import require_index

        require_index(
            source,
            "no batches by index, which are asked for here",
            remedy="mpqueue.Loader and GeneratorEnqueuer take streams, and mpqueue.keras.accelerate a Loader of one",
        )
        return
    refuse_lookalikes(source)
    if is_sequence(source):
        return
    kind = type(source)
    missing = [name for name in ("__getitem__", "__len__") if not hasattr(kind, name)]
    hint = "; a generator needs GeneratorEnqueuer or Loader" if is_stream(source) else ""
    if missing == ["__len__"]:
        hint = ": give it one, the number of its items"
    elif not hint and hasattr(kind, "__iter__"):
        hint = ". It can be iterated: pass a function that returns its iterator to Loader or GeneratorEnqueuer"
    raise TypeError(f"a source needs __getitem__ and __len__, {kind.__name__} has no {' and no '.join(missing)}{hint}")


def check_stream(source: Any) -> None:
    """Raise a `TypeError` that says what a source lacks to be a stream."""
    refuse_lookalikes(source)
    if callable(source) or hasattr(source, "__next__") or has_lanes(source):
        return
    if is_dataset(source):
        if source.root.is_indexed:
            raise TypeError(
                "the dataset has batches by index, and a generator source has none: pass it to OrderedEnqueuer, or to "
                "mpqueue.Loader"
            )
        return
    hint = "; a Sequence needs OrderedEnqueuer or Loader" if is_sequence(source) else ""
    raise TypeError(
        "a generator source must be an iterator, or a callable without arguments that returns one; "
        f"got {type(source).__name__}{hint}"
    )


def check_replicable(source: Any, workers: int, *, in_processes: bool) -> None:
    """Raise a `ValueError` for an iterator that several worker processes would each run from its beginning."""
    is_iterator = hasattr(source, "__next__") and not (is_sequence(source) or callable(source))
    if in_processes and workers > 1 and is_iterator:
        raise ValueError(
            f"the source is an iterator ({type(source).__name__}), of which each of {workers} worker processes would "
            f"have a copy, so that every element came {workers} times. {TWO_WAYS_OUT}"
        )


def check_threads(source: Any, threads: int) -> None:
    """Raise a `ValueError` for a source that several threads may not ask for samples, or would ask for nothing.

    A source says by its attribute ``thread_safe``, of the class or of the object, whether they may: False says that
    they must not; True, that its ``__getitems__`` may be called by several at once, each for a part of a batch. Where
    it says nothing, its ``__getitem__`` is called as the option says.
    """
    if threads == 1:
        return
    is_safe, name = getattr(source, "thread_safe", None), type(source).__name__
    if is_safe is not None and not is_safe:
        raise ValueError(
            f"threads={threads}: {name} says that several threads must not ask it for samples (its thread_safe is "
            f"{is_safe!r}). Use more workers instead"
        )
    if is_safe is None and hasattr(source, "__getitems__"):
        raise ValueError(
            f"threads={threads} would have no effect: {name} has __getitems__, which is asked for a whole batch at "
            "once. If it may be called by several threads, each for a part of the batch, say so by an attribute of "
            f"the {name}: thread_safe = True"
        )


def may_be_threaded(source: Any) -> bool:
    """Return whether several threads may ask a source for samples, as far as it says; see `check_threads`."""
    is_safe = getattr(source, "thread_safe", None)
    return not hasattr(source, "__getitems__") if is_safe is None else bool(is_safe)


def length_of(source: Any, what_it_gives: str = "batches") -> int | None:
    """Batches (or samples) per epoch, None for endless.

    Raises:
        ValueError: There would be no batch.
        TypeError: It is no integer.
    """
    name = name_of(source)
    if has_num_batches(source):
        length = source.num_batches
        if length is None:
            return None
        what = f"{name}.num_batches"
    else:
        what = f"len({name})"
        length = type(source).__len__(source)  # not len(): its errors name neither class nor value
    if isinstance(length, bool) or not hasattr(length, "__index__"):
        raise TypeError(f"{what} must be an integer number of {what_it_gives}, got {length!r}")
    length = int(length)
    if not 1 <= length < 1 << 63:
        item = "batch" if what_it_gives == "batches" else "sample"
        raise ValueError(f"{what} is {length}: a source needs at least one {item} per epoch, and fewer than 2**63")
    return length


def length_now(source: Any) -> int | None:
    """Return the length of a source as it is now; None: it has no end, or no length."""
    if has_num_batches(source):
        length = source.num_batches
    else:
        length = type(source).__len__(source) if hasattr(type(source), "__len__") else None
    return None if length is None else int(length)


def epoch_end_of(source: Any) -> Callable[[], Any] | None:
    """The source's own `on_epoch_end`; None if it has none, or only a base class's, which does nothing."""
    return _own_hook(source, "on_epoch_end")


def has_hooks(source: Any) -> bool:
    """Return True if it has an `on_epoch_begin` or `on_epoch_end` of its own, and so may change between epochs."""
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
