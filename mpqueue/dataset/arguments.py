"""Checks of the arguments of stages, made where a stage is described: each error names the stage and the argument."""

import itertools
import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from mpqueue.plan.refused import misfit_of

_MOST_OF_A_NAME = 200  # bytes of a file's: what is added to it has room, too


def check_count(stage: str, name: str, value: Any, least: int | None = 1) -> int:
    """Return a number of things as a plain integer.

    Args:
        stage: What the stage is called.
        name: What the argument is called.
        value: It.
        least: The least that makes sense; None: any integer does.

    Raises:
        TypeError: It is no integer.
        ValueError: It is too small.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{stage}: {name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:  # an array of several numbers
        raise TypeError(f"{stage}: {name} must be an integer, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{stage}: {name} must be {least} or more, got {number}")
    return number


def check_range(arguments: tuple[Any, ...]) -> range:
    """Return a range of integers.

    Raises:
        TypeError: The arguments are not one to three integers.
        ValueError: The step is zero, or the range is too long for an index.
    """
    if not 1 <= len(arguments) <= 3:
        raise TypeError(f"range takes 1 to 3 arguments (stop; start, stop; start, stop, step), got {len(arguments)}")
    names = ("stop",) if len(arguments) == 1 else ("start", "stop", "step")
    numbers = [
        check_count("range", name, value, None) for name, value in zip(names, arguments, strict=False)
    ]  # fmt: skip
    if len(numbers) == 3 and not numbers[2]:
        raise ValueError("range: step must not be 0, got 0")
    found = range(*numbers)
    try:
        len(found)
    except OverflowError:
        try:
            shown = str(found)
        except ValueError:  # Python writes no number of more than 4,300 digits
            shown = "a number of thousands of digits"
        raise ValueError(
            f"range: the dataset must have at most 2**63 - 1 elements, got {shown}. For a dataset without end, use "
            "Dataset.range(n).repeat()"
        ) from None
    return found


def check_flag(stage: str, name: str, value: Any) -> bool:
    """Return a flag as a plain bool.

    Raises:
        TypeError: It is neither true nor false.
    """
    if not isinstance(value, bool) and not (
        type(value).__module__ == "numpy" and type(value).__name__.startswith("bool")
    ):
        raise TypeError(f"{stage}: {name} must be True or False, got {value!r}")
    return bool(value)


def check_folder(stage: str, folder: Any) -> str:
    """Return the path of a folder of this machine.

    Raises:
        TypeError: It is no path.
        ValueError: It is empty, or a URL.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{stage}: folder must be a path, got {folder!r}")
    path = os.fspath(folder)
    if not isinstance(path, str) or not path or "://" in path:
        raise ValueError(f"{stage}: folder must be the path of a folder of this machine, got {path!r}")
    return path


def check_file_name(stage: str, argument: str, name: Any) -> str:
    """Return the name of a file.

    Raises:
        TypeError: It is no text.
        ValueError: No file can have it.
    """
    if not isinstance(name, str):
        raise TypeError(f"{stage}: {argument} must be a text, got {name!r}")
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(os.fsencode(name)) > _MOST_OF_A_NAME:
        raise ValueError(
            f"{stage}: {argument} must be the name of a file, of at most {_MOST_OF_A_NAME} bytes, without a slash and "
            f"without a dot at the beginning, got {name!r}"
        )
    return name


def check_choice(stage: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise a `ValueError` for what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{stage}: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def check_function(stage: str, name: str, function: Any, of: str) -> None:
    """Raise a `TypeError` for what cannot be called with one argument.

    Args:
        stage: What the stage is called.
        name: What the argument is called.
        function: It.
        of: What it is called with.
    """
    if not callable(function):
        raise TypeError(f"{stage}: {name} must be a function of {of}, got {function!r}")
    misfit = misfit_of(function, None)
    if misfit is not None:
        raise TypeError(
            f"{stage}: {name} is called with {of}, but {misfit.name}{misfit.signature} takes other arguments "
            f"({misfit.reason}). An element that is a tuple, as behind zip and enumerate, comes as one argument"
        )


def check_weights(weights: Any, count: int) -> tuple[float, ...]:
    """Return the weights of a mix, one for each of so many datasets; None: all are equal.

    Raises:
        TypeError: They are no numbers.
        ValueError: There are too few or too many; one is negative or not finite; all are zero.
    """
    if weights is None:
        return (1.0,) * count
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise TypeError(f"mix: weights must be a list of numbers, got {weights!r}")
    found = list(weights)
    if not all(isinstance(weight, Real) and not isinstance(weight, bool) for weight in found):
        raise TypeError(f"mix: weights must be numbers, got {found!r}")
    numbers = tuple(float(weight) for weight in found)
    if len(numbers) != count:
        raise ValueError(
            f"mix: there are {count} datasets and {len(numbers)} weights: pass one weight for each dataset"
        )
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"mix: weights must be 0 or more, and finite, got {list(numbers)}")
    if not any(numbers):
        raise ValueError(f"mix: weights must not all be zero, got {list(numbers)}")
    return numbers


def check_boundaries(boundaries: Any) -> tuple[int, ...]:
    """Return the boundaries of buckets as plain integers.

    Raises:
        TypeError: They are no integers.
        ValueError: There is none, or they do not ascend.
    """
    if isinstance(boundaries, str) or not isinstance(boundaries, Iterable):
        raise TypeError(f"bucket: boundaries must be a list of integers, got {boundaries!r}")
    found = tuple(check_count("bucket", "each of boundaries", boundary) for boundary in boundaries)
    if not found or any(low >= high for low, high in itertools.pairwise(found)):
        raise ValueError(f"bucket: boundaries must be one or more ascending integers, got {list(found)}")
    return found


def check_batch_sizes(batch_sizes: Any, max_tokens: Any, num_boundaries: int) -> tuple[int, ...] | None:
    """Return the batch sizes of buckets as plain integers; None: ``max_tokens`` says them.

    Raises:
        TypeError: They are no integers.
        ValueError: They are not one more than boundaries; both, or neither are given.
    """
    if (batch_sizes is None) == (max_tokens is None):
        raise ValueError("bucket: pass either batch_sizes, one for each bucket, or max_tokens, the bound of a batch")
    if batch_sizes is None:
        return None
    if isinstance(batch_sizes, str) or not isinstance(batch_sizes, Iterable):
        raise TypeError(f"bucket: batch_sizes must be a list of integers, got {batch_sizes!r}")
    found = tuple(check_count("bucket", "each of batch_sizes", size) for size in batch_sizes)
    if len(found) != num_boundaries + 1:
        raise ValueError(
            f"bucket: {num_boundaries} boundaries make {num_boundaries + 1} buckets, and there are {len(found)} "
            "batch_sizes: pass one more than boundaries"
        )
    return found
