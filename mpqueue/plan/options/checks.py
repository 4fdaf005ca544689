"""Checks of the value of one option. Each raises an error that names the option, the expected value and the value."""

import inspect
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, TypeAlias

from mpqueue.plan.options.coroutines import reject_coroutine
from mpqueue.plan.options.validation import misfit_of

Check: TypeAlias = Callable[[str, Any], None]


def is_bool(value: Any) -> bool:
    """Return whether a value is a bool of Python or NumPy."""
    # NumPy is not imported for that: a start imports it while the fork server does.
    return isinstance(value, (bool, getattr(sys.modules.get("numpy"), "bool_", bool)))


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of any type, and not a bool."""
    # In NumPy 1.26 and 2.0, the bools of NumPy have an __index__, which warns.
    if isinstance(value, int) or is_bool(value):
        return not is_bool(value)
    try:
        operator.index(value)
    except TypeError:  # arrays and tensors have an __index__, which works only for a single integer
        return False
    return True


def plain(value: Any) -> Any:
    """Return a value, or Python's scalar if it is one of NumPy or of another library.

    JSON does not write other scalars, and their `repr`, which states have, differs between versions of NumPy.
    """
    return value.item() if getattr(value, "ndim", None) == 0 else value


def integer(least: int | None = None, *, or_none: bool = False) -> Check:
    """Return a check for integers.

    Args:
        least: The smallest valid integer; None: unbounded.
        or_none: Also accept None.
    """

    def check(name: str, value: Any) -> None:
        if value is None and or_none:
            return
        if not is_integer(value):
            raise TypeError(f"{name} must be an integer{' or None' if or_none else ''}, got {value!r}")
        if least is not None and operator.index(value) < least:
            raise ValueError(f"{name} must be {least} or more{', or None' if or_none else ''}, got {value!r}")

    return check


def integer_or_auto(name: str, value: Any) -> None:
    """Check a string. The backend checks a number, and whether it supports "auto"."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f'{name} must be an integer or "auto", got {value!r}')


def number(what: str, *, above_zero: bool = False, or_none: bool = False) -> Check:
    """Return a check for numbers of 0 or more.

    Args:
        what: Describes the number in the error message.
        above_zero: Refuse 0.
        or_none: Also accept None.
    """

    def check(name: str, value: Any) -> None:
        if value is None and or_none:
            return
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be {what}{' or None' if or_none else ''}, got {value!r}")
        try:
            as_float = float(value)
        except OverflowError:
            raise ValueError(f"{name} must be a number that fits into a float, got an integer that does not") from None
        # Written as a negation, so that NaN is refused, too.
        if not (as_float > 0 if above_zero else as_float >= 0):
            bound = f"{' above 0' if above_zero else ', 0 or more'}{', or None' if or_none else ''}"
            raise ValueError(f"{name} must be {what}{bound}, got {value!r}")

    return check


def one_of(*choices: str) -> Check:
    """Return a check for one of these strings."""
    quoted = [f'"{choice}"' for choice in choices]
    shown = f"{', '.join(quoted[:-1])} or {quoted[-1]}"

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{name} must be {shown}, got {value!r}")

    return check


def flag(name: str, value: Any) -> None:
    """Check for True or False; 0, 1 and NumPy bools are accepted."""
    if not is_bool(value) and not (isinstance(value, int) and value in {0, 1}):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def progress(name: str, value: Any) -> None:
    """Check for True or False; True needs tqdm."""
    flag(name, value)
    if not value:
        return
    from mpqueue.system.user_code.extras import is_installed  # few programs need it

    if not is_installed("tqdm"):
        raise ImportError('progress=True needs tqdm: pip install "mpqueue[progress]"', name="tqdm")


def collate(name: str, value: Any) -> None:
    """Check for a function, a choice of ragged fields, or None."""
    if isinstance(value, str | Mapping):
        ragged_choice(name, value)
        return
    if value is not None and not callable(value):
        raise TypeError(
            f'{name} must be a function from a list of samples to a batch, "ragged", or a mapping from fields to '
            f'"ragged", got {value!r}'
        )
    reject_coroutine(name, value, "await in the source's __getitem__, whose samples are joined afterwards")


def ragged_choice(name: str, value: str | Mapping[Any, Any]) -> None:
    """Check for "ragged", or a mapping from fields to such choices."""
    if isinstance(value, Mapping) and value:
        for field, each in value.items():
            ragged_choice(f"{name}[{field!r}]", each)
    elif value != "ragged":
        raise ValueError(f'{name} must be "ragged", or a mapping such as {{"tokens": "ragged"}}, got {value!r}')


def sampler(name: str, value: Any) -> None:
    """Check for an iterable of indices, or None."""
    if value is None:
        return
    if inspect.isclass(value):
        raise TypeError(f"{name} is the class {value.__name__}: pass an instance of it")
    if not hasattr(value, "__iter__") or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be an iterable of indices that can be iterated repeatedly, got {value!r}")


def shard(name: str, value: Any) -> None:
    """Check for a pair of rank and number of ranks, "auto" or None."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    if not is_pair or not all(map(is_integer, value)):
        kind = ValueError if isinstance(value, str | tuple | list) and not is_pair else TypeError
        raise kind(f'{name} must be (rank, number of ranks), "auto" or None, got {value!r}')
    rank, world = map(int, value)
    if not 0 <= rank < world:
        raise ValueError(f"{name} must be (rank, number of ranks) with 0 <= rank < number of ranks, got {value!r}")


def path(name: str, value: Any) -> None:
    """Check for the path of a file in an existing folder, or None."""
    if value is None:
        return
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a file or None, got {value!r}")
    expanded = os.path.expanduser(value)
    if not expanded or os.path.isdir(expanded):
        raise ValueError(f"{name} must be the path of a file, got {value!r}, which is empty or a folder")
    folder = os.path.dirname(os.path.abspath(expanded))
    if not os.path.isdir(folder):
        raise ValueError(f"{name} must be the path of a file in an existing folder, got {value!r}")


def worker_init(name: str, value: Any) -> None:
    """Check for a callable without arguments, or None."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be callable without arguments, got {value!r}")
    misfit = misfit_of(value)
    if misfit is not None:
        raise TypeError(
            f"{name} is called without arguments, but {misfit.name}{misfit.signature} needs some "
            f"({misfit.reason}): for the number of the worker, use mpqueue.worker_info().id in it"
        )


def ray_options(name: str, value: Any) -> None:  # noqa: ARG001 - its errors name the key
    """Check for the options of the Ray backend, or None."""
    if value is not None:
        from mpqueue.plan.options.ray_options import (
            RayOptions,  # imported here: it takes a millisecond, and most use no Ray
        )

        RayOptions.of(value)


def sample_ids(name: str, value: Any) -> None:
    """Raise unless the value is None, or a set of sample ids."""
    if value is not None:
        from mpqueue.plan.ids.sample_ids import SampleSet  # imported here: most loaders exclude no samples

        if isinstance(value, Iterator):  # the check would take its ids
            raise TypeError(f"{name} must be a collection of sample ids, got an iterator: pass list(...)")
        SampleSet.of(value, name)


def unchecked(name: str, value: Any) -> None:
    """Accept every value: the option is checked together with others, or where it is used."""


def known_length(value: Any) -> int | None:
    """Return the length of an object of the user; None: it has none, or cannot report it."""
    try:
        return len(value)
    except Exception:
        return None
