"""Source validation: reject objects that only resemble a source.

Examples are a class, a dict of columns, a tuple of arrays, a table, and the data loader of a framework.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

FRAMEWORKS = {"mpqueue", "keras", "tensorflow", "tf_keras", "keras_core"}


def is_sequence(source: Any) -> bool:
    """Return whether an object has the methods of a sequence."""
    kind = type(source)
    return hasattr(kind, "__getitem__") and (hasattr(kind, "__len__") or has_num_batches(source))


def has_num_batches(source: Any) -> bool:
    """Return whether an object has ``num_batches``, the length of datasets of Keras 3."""
    # The value is not read: a property may raise.
    return hasattr(type(source), "num_batches") or "num_batches" in getattr(source, "__dict__", {})


def is_torch_iterable(source: Any) -> bool:
    """Return whether an object is an iterable-style dataset of torch."""
    # Compared by name, so that torch is not imported. The base class has a __getitem__ that only raises.
    return any(
        kind.__name__ == "IterableDataset" and kind.__module__.startswith("torch.utils.data")
        for kind in type(source).__mro__
    )


_SHARE = (
    "yields its part of the elements: `for i in range(info.shard_id, n, info.num_shards)` with "
    "`info = mpqueue.worker_info()`"
)
SHARE_REMEDY = (
    "Either pass a generator function (a callable without arguments that returns an iterator), which each worker calls "
    f"and which {_SHARE}. Or use workers=1"
)


def copies_message(stream: Any, count: int, parts: str) -> str:
    """Return the warning for a stream that returned all of its elements in each worker (or lane).

    Such a stream has not read the index of its worker or lane.

    Args:
        stream: A callable that returns an iterator, or an iterable.
        count: Number of workers or lanes.
        parts: "workers" or "lanes".
    """
    from mpqueue.system.user_code.object_walk import (
        title_of,  # imported here: the first use of `Loader` does not need it
    )

    if is_torch_iterable(stream):
        name, call = f"IterableDataset {title_of(stream)}", "torch.utils.data.get_worker_info()"
        remedy = (
            "Either have each worker yield its part in __iter__: `info = torch.utils.data.get_worker_info()`, and "
            f"`itertools.islice(elements, info.id, None, info.num_workers)` if info is not None. Or use {parts}=1"
        )
    else:
        kind = "generator function" if callable(stream) else "source"
        name, call = f"{kind} {title_of(stream)}", "mpqueue.worker_info()"
        remedy = SHARE_REMEDY if parts == "workers" else f"Either change it, so that it {_SHARE}. Or use {parts}=1"
    return (
        f"the {name} never called {call}: each of {count} {parts} returned all of its elements, so that they were "
        f"repeated {count} times. {remedy}"
    )


def check_call(source: Any) -> None:
    """Raise a `TypeError` if a generator function cannot be called without arguments."""
    if hasattr(source, "__next__") or hasattr(type(source), "open_lane"):
        return
    misfit = misfit_of(source)
    if misfit is not None:
        raise TypeError(
            f"a generator function is called without arguments, but {misfit.name}{misfit.signature} needs some "
            f"({misfit.reason}): pass functools.partial({misfit.name}, ...)"
        )


def validate_source(source: Any, item: str = "batch") -> None:
    """Raise a `TypeError` for an object that has the methods of a source but does not return batches (or samples)."""
    _reject_tables(source, item)
    _reject_loaders(source)
    if inspect.isclass(source) and hasattr(source, "__getitem__"):
        name = source.__name__
        raise TypeError(f"the source is the class {name}: pass an instance of it, {name}(...)")
    if isinstance(source, str):
        raise TypeError(
            f"the items of a string are characters: pass an object with __getitem__(index) that returns a {item}; "
            "for a source of file names, pass a list of strings"
        )
    part, many = ("that row", "samples") if item == "sample" else ("that slice", "batches")
    if isinstance(source, Mapping) and not all(isinstance(key, int) for key in source):
        raise TypeError(
            f"the source is a {type(source).__name__} of columns ({', '.join(map(repr, list(source)[:3]))}, ...), and "
            f"its item 0 is not a {item}: pass an object with __getitem__(index), which returns a dict with {part} of "
            f"each column, and __len__, which returns the number of {many}"
        )
    array_types = getattr(sys.modules.get("numpy"), "ndarray", ())
    if isinstance(source, tuple) and source and all(isinstance(array, array_types) for array in source):
        raise TypeError(
            f"the source is a tuple of {len(source)} arrays, which would be {len(source)} {many}: pass an object "
            f"with __getitem__(index), which returns a tuple with {part} of each array, and __len__, which returns the "
            f"number of {many}; or a list, if each array is a {item}"
        )


def reject_batches(source: Any) -> None:
    """Raise a `ValueError` if the items of a source are batches, but samples are needed."""
    is_keras = any(
        kind.__name__ in {"PyDataset", "Sequence"} and kind.__module__.partition(".")[0] in FRAMEWORKS
        for kind in type(source).__mro__
    )
    if is_keras or has_num_batches(source):
        why = "a Sequence or PyDataset" if is_keras else "an object with num_batches"
        raise ValueError(
            f"batch_size needs a source of samples, and the items of {type(source).__name__}, {why}, are batches "
            "already: leave out batch_size, or pass an object of another class that returns samples"
        )


def reject_sequence(source: Any, *, is_stream: bool) -> NoReturn:
    """Raise a `TypeError` that lists the methods that a source with an index lacks.

    Args:
        source: The object that the user passed.
        is_stream: The object is a stream.
    """
    kind = type(source)
    missing = [name for name in ("__getitem__", "__len__") if not hasattr(kind, name)]
    hint = "; a generator needs GeneratorEnqueuer or Loader" if is_stream else ""
    if missing == ["__len__"]:
        hint = ": implement it, returning the number of items"
    elif not hint and hasattr(kind, "__aiter__"):
        hint = ": pass the asynchronous generator function itself, or a function that returns an asynchronous iterable"
    elif not hint and hasattr(kind, "__iter__"):
        hint = ". For an iterable, pass a function that returns its iterator to Loader or GeneratorEnqueuer"
    raise TypeError(f"a source needs __getitem__ and __len__, {kind.__name__} has no {' and no '.join(missing)}{hint}")


def reject_stream(source: Any) -> NoReturn:
    """Raise a `TypeError` that describes the supported kinds of streams."""
    hint = "; a Sequence needs OrderedEnqueuer or Loader" if is_sequence(source) else ""
    raise TypeError(
        "a generator source must be an iterator, or a callable without arguments that returns one; "
        f"got {type(source).__name__}{hint}"
    )


_ROWS = {  # by library: how to get all rows as a list of dicts, and a single row
    "pandas": ('frame.to_dict("records")', "frame.iloc[index].to_dict()"),
    "polars": ("frame.to_dicts()", "frame.row(index, named=True)"),
    "pyarrow": ("table.to_pylist()", "table.slice(index, 1).to_pylist()[0]"),
}


def _reject_tables(source: Any, item: str) -> None:
    """Raise a `TypeError` for a table (its items are columns), and for a pandas Series that is indexed by labels."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(source).__mro__}
    for library, (rows, row) in _ROWS.items():
        if kinds & {(library, name) for name in ("DataFrame", "LazyFrame", "Table")}:
            raise TypeError(
                f"the source is a {type(source).__name__} of {library}, and its items are columns, not a {item}. "
                f"Pass its rows as a list of dicts (`{rows}`) or as an array (`.to_numpy()`); or pass an object with "
                f"__getitem__(index), which returns `{row}`, and __len__, which returns the number of rows"
            )
    if ("pandas", "Series") in kinds and not _is_counted(source.index):
        raise TypeError(
            "the source is a pandas Series with its own index, so its items are selected by labels: pass "
            "`series.to_numpy()`, or `series.reset_index(drop=True)`"
        )


_LOADERS = {  # by library and class: the remedy
    ("torch", "DataLoader"): "pass its dataset (`loader.dataset`), or use mpqueue.torch.DataLoader, which takes the "
    "arguments of torch's",
    ("mpqueue", "Loader"): "pass its source (`loader.source`)",
    ("mpqueue", "Consumer"): "a server computes its batches already",
    ("mpqueue", "SequenceEnqueuer"): "pass its source",
    ("tensorflow", "DatasetV2"): "pass a generator function that makes the dataset and returns "
    "`dataset.as_numpy_iterator()`. Each worker calls it, and it selects the part of the worker by "
    "`dataset.shard(info.num_shards, info.shard_id)` with `info = mpqueue.worker_info()`",
    ("pathlib", "PurePath"): "list its files, and pass an object with __getitem__(index) that reads one",
    ("builtins", "set"): "pass a list of its items, which has an order",
    ("builtins", "frozenset"): "pass a list of its items, which has an order",
}


def _reject_loaders(source: Any) -> None:
    """Raise a `TypeError` for a known class of batches or samples that cannot be selected by index."""
    for kind in () if is_sequence(source) else type(source).__mro__:
        remedy = _LOADERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if remedy is not None:
            raise TypeError(f"the source is a {type(source).__name__}, which has no items by index: {remedy}")


class Misfit(NamedTuple):
    """A function that cannot be called with the given arguments.

    Attributes:
        name: Name of the function.
        signature: Signature of the function.
        reason: The error of the call.
    """

    name: str
    signature: inspect.Signature
    reason: str


def misfit_of(function: Callable[..., Any], *arguments: Any) -> Misfit | None:
    """Return why a function cannot be called with these arguments; None: it can, or its signature is unknown."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return Misfit(getattr(function, "__name__", repr(function)), signature, str(error))
    return None


def _is_counted(index: Any) -> bool:
    import numpy as np

    return np.array_equal(index, np.arange(len(index)))
