"""Source validation: the kind of source that an object is, and errors for objects that only resemble a source.

Among those are a class, a dict of columns, a tuple of arrays, a table, and a loader of another library.
"""

import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

FRAMEWORKS = {"mpqueue", "keras", "tensorflow", "tf_keras", "keras_core"}


class Kind(enum.Enum):
    """The kinds of sources; `mpqueue.plan.sources` has a class for each."""

    ITEMS = enum.auto()
    LANES = enum.auto()
    FUNCTION = enum.auto()
    TORCH_ITERABLE = enum.auto()
    ITERATOR = enum.auto()


def recognise(source: Any, *, samples: bool = False, sampled: bool = False, needs: str | None = None) -> Kind:
    """Return the kind of source that an object is.

    Args:
        source: What the user passed.
        samples: Its items are samples.
        sampled: A sampler gives the indices: it needs no length, and its keys may be anything.
        needs: "index": only sources with an index are supported; "stream": only streams; None: both.

    Raises:
        TypeError: It is not a source, or not one of the kind that is needed.
        ValueError: Its items are to be samples, and are batches.
    """
    has_index = is_sequence(source)
    is_stream = _opens_lanes(source) or callable(source) or hasattr(source, "__next__")
    if needs is None and is_torch_iterable(source):
        return Kind.TORCH_ITERABLE
    if sampled and hasattr(type(source), "__getitem__") and not isinstance(source, tuple):
        return Kind.ITEMS
    validate_source(source, "sample" if samples else "batch")
    if samples:
        _refuse_batches(source)
    if needs == "stream" and not is_stream:
        _refuse_stream(source)
    if needs == "index" and not has_index:
        _refuse_sequence(source, is_stream=is_stream)
    if has_index and needs != "stream" and (needs == "index" or not _opens_lanes(source)):
        return Kind.ITEMS
    if not is_stream:
        _refuse_sequence(source, is_stream=False)
    if _opens_lanes(source):
        return Kind.LANES
    check_call(source)
    return Kind.FUNCTION if callable(source) else Kind.ITERATOR


def _opens_lanes(source: Any) -> bool:
    return hasattr(type(source), "open_lane")


def is_sequence(source: Any) -> bool:
    """Return whether it has what a sequence needs."""
    kind = type(source)
    return hasattr(kind, "__getitem__") and (hasattr(kind, "__len__") or has_num_batches(source))


def has_num_batches(source: Any) -> bool:
    """Return whether it says its length as Keras 3 does."""
    # Not by looking at its value: a property may raise.
    return hasattr(type(source), "num_batches") or "num_batches" in getattr(source, "__dict__", {})


def is_torch_iterable(source: Any) -> bool:
    """Return whether it is an iterable-style dataset of torch."""
    # By name: torch is not imported for this, and its base class has a __getitem__ that only raises.
    return any(
        kind.__name__ == "IterableDataset" and kind.__module__.startswith("torch.utils.data")
        for kind in type(source).__mro__
    )


_SHARE = "takes its share: `for i in range(info.shard_id, n, info.num_shards)` with `info = mpqueue.worker_info()`"
TWO_WAYS_OUT = (
    "Either pass a generator function, a callable without arguments that returns an iterator, which each worker calls "
    f"and which {_SHARE}. Or use workers=1"
)


def told_of_copies(stream: Any, count: int, parts: str) -> str:
    """Return the warning of a stream that gave all of its elements in each worker, or lane: it never asked which it is.

    Args:
        stream: A callable that returns an iterator, or what is iterated.
        count: How many workers, or lanes, there are.
        parts: What they are called.
    """
    if is_torch_iterable(stream):
        who, asks = f"IterableDataset {type(stream).__name__}", "torch.utils.data.get_worker_info()"
        ways = (
            "Either have each worker take its share in __iter__: `info = torch.utils.data.get_worker_info()`, and "
            f"`itertools.islice(elements, info.id, None, info.num_workers)` where info is not None. Or use {parts}=1"
        )
    else:
        name = getattr(stream, "__qualname__", type(stream).__name__)
        who, asks = f"{'generator function' if callable(stream) else 'source'} {name}", "mpqueue.worker_info()"
        ways = TWO_WAYS_OUT if parts == "workers" else f"Either change it, so that it {_SHARE}. Or use {parts}=1"
    return (
        f"the {who} never asked {asks}: each of {count} {parts} gave all of its elements, so that they came {count} "
        f"times. {ways}"
    )


def check_call(source: Any) -> None:
    """Raise a `TypeError` for a function that cannot be called without arguments."""
    if hasattr(source, "__next__") or hasattr(type(source), "open_lane"):
        return
    misfit = misfit_of(source)
    if misfit is not None:
        raise TypeError(
            f"a generator function is called without arguments, but {misfit.name}{misfit.signature} needs some "
            f"({misfit.reason}): pass functools.partial({misfit.name}, ...)"
        )


def validate_source(source: Any, item: str = "batch") -> None:
    """Raise a `TypeError` for what has the methods of a source and gives no batches (or samples)."""
    _refuse_tables(source, item)
    _refuse_streams_of_others(source)
    if inspect.isclass(source) and hasattr(source, "__getitem__"):
        name = source.__name__
        raise TypeError(f"the source is the class {name}: pass an instance of it, {name}(...)")
    if isinstance(source, str):
        raise TypeError(
            "the source is text, whose items are characters: pass an object whose __getitem__(index) returns a "
            f"{item}; a list of names of files is a source of names"
        )
    part, many = ("that row", "samples") if item == "sample" else ("that slice", "batches")
    if isinstance(source, Mapping) and not all(isinstance(key, int) for key in source):
        raise TypeError(
            f"the source is a {type(source).__name__} of columns ({', '.join(map(repr, list(source)[:3]))}, ...), and "
            f"item 0 of it is no {item}: pass an object whose __getitem__(index) returns a dict with {part} of each "
            f"column, and whose __len__ is the number of {many}"
        )
    if isinstance(source, tuple) and source and all(isinstance(array, np.ndarray) for array in source):
        raise TypeError(
            f"the source is a tuple of {len(source)} arrays, which would be {len(source)} {many}: pass an object "
            f"whose __getitem__(index) returns a tuple with {part} of each array, and whose __len__ is the number "
            f"of {many}; or a list, if each array is a {item}"
        )


def _refuse_batches(source: Any) -> None:
    """Raise a `ValueError` for a source of batches that is to be one of samples."""
    is_keras = any(
        kind.__name__ in {"PyDataset", "Sequence"} and kind.__module__.partition(".")[0] in FRAMEWORKS
        for kind in type(source).__mro__
    )
    if is_keras or has_num_batches(source):
        why = "a Sequence of Keras's kind" if is_keras else "what has num_batches"
        raise ValueError(
            f"batch_size makes batches of samples, and the items of {type(source).__name__} are batches already, as "
            f"those of {why} are: leave out batch_size, or give the samples by an object that is not one"
        )


def _refuse_sequence(source: Any, *, is_stream: bool) -> NoReturn:
    """Raise a `TypeError` that names what a source lacks to have an index.

    Args:
        source: The source.
        is_stream: It is a stream.
    """
    kind = type(source)
    missing = [name for name in ("__getitem__", "__len__") if not hasattr(kind, name)]
    hint = "; a generator needs GeneratorEnqueuer or Loader" if is_stream else ""
    if missing == ["__len__"]:
        hint = ": give it one, the number of its items"
    elif not hint and hasattr(kind, "__iter__"):
        hint = ". It can be iterated: pass a function that returns its iterator to Loader or GeneratorEnqueuer"
    raise TypeError(f"a source needs __getitem__ and __len__, {kind.__name__} has no {' and no '.join(missing)}{hint}")


def _refuse_stream(source: Any) -> NoReturn:
    """Raise a `TypeError` that names what a stream must be."""
    hint = "; a Sequence needs OrderedEnqueuer or Loader" if is_sequence(source) else ""
    raise TypeError(
        "a generator source must be an iterator, or a callable without arguments that returns one; "
        f"got {type(source).__name__}{hint}"
    )


_ROWS = {  # by the library: rows as a list of dicts, and one of them
    "pandas": ('frame.to_dict("records")', "frame.iloc[index].to_dict()"),
    "polars": ("frame.to_dicts()", "frame.row(index, named=True)"),
    "pyarrow": ("table.to_pylist()", "table.slice(index, 1).to_pylist()[0]"),
}


def _refuse_tables(source: Any, item: str) -> None:
    """Raise a `TypeError` for a table, whose items are columns, and for a series that is asked by labels."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(source).__mro__}
    for library, (rows, row) in _ROWS.items():
        if kinds & {(library, name) for name in ("DataFrame", "LazyFrame", "Table")}:
            raise TypeError(
                f"the source is a {type(source).__name__} of {library}, whose items are columns: no {item}. Pass its "
                f"rows, as a list of dicts (`{rows}`) or as an array (`.to_numpy()`); or an object whose "
                f"__getitem__(index) returns `{row}`, and whose __len__ is the number of rows"
            )
    if ("pandas", "Series") in kinds and not np.array_equal(source.index, np.arange(len(source))):
        raise TypeError(
            "the source is a Series of pandas with an index of its own, by whose labels its items are asked for: pass "
            "`series.to_numpy()`, or `series.reset_index(drop=True)`"
        )


_STREAMS = {  # by the library and the class: what to do instead
    ("torch", "DataLoader"): "pass its dataset (`loader.dataset`), or use mpqueue.torch.DataLoader, which takes the "
    "arguments of torch's",
    ("mpqueue", "Loader"): "pass its source (`loader.source`)",
    ("mpqueue", "Consumer"): "a server computes them already",
    ("mpqueue", "SequenceEnqueuer"): "pass its source",
    ("tensorflow", "DatasetV2"): "pass a generator function that makes the dataset and gives "
    "`dataset.as_numpy_iterator()`, which each worker calls and in which it takes its share: "
    "`dataset.shard(info.num_shards, info.shard_id)` with `info = mpqueue.worker_info()`",
    ("pathlib", "PurePath"): "list its files, and pass an object whose __getitem__(index) reads one",
    ("builtins", "set"): "pass a list of it, which has an order",
    ("builtins", "frozenset"): "pass a list of it, which has an order",
}


def _refuse_streams_of_others(source: Any) -> None:
    """Raise a `TypeError` for what gives batches or samples, and is not asked for them by index."""
    for kind in () if is_sequence(source) else type(source).__mro__:
        remedy = _STREAMS.get((kind.__module__.partition(".")[0], kind.__name__))
        if remedy is not None:
            raise TypeError(f"the source is a {type(source).__name__}, which has no items by index: {remedy}")


class Misfit(NamedTuple):
    """A function that cannot be called as it will be.

    Attributes:
        name: Its own,
        signature: and its signature.
        reason: What is wrong with the call.
    """

    name: str
    signature: inspect.Signature
    reason: str


def misfit_of(function: Callable[..., Any], *arguments: Any) -> Misfit | None:
    """Return why a function cannot be called with these arguments; None: it can, or nobody knows before."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins have none
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return Misfit(getattr(function, "__name__", repr(function)), signature, str(error))
    return None
