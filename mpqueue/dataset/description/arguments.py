"""Argument checks of the stages; each error names the stage and the argument."""

import itertools
import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from mpqueue.plan.options.checks import is_integer, plain
from mpqueue.plan.options.coroutines import is_coroutine_function, reject_coroutine
from mpqueue.plan.options.options import CONCURRENCY
from mpqueue.plan.options.validation import misfit_of

_MOST_OF_A_NAME = 200  # bytes, which leaves room for a suffix


def check_count(stage: str, name: str, value: Any, least: int | None = 1) -> int:
    """Return an integer argument as a plain `int`.

    Args:
        stage: The name of the stage.
        name: The name of the argument.
        value: The argument.
        least: The minimum; None for no minimum.

    Raises:
        TypeError: The argument is not an integer.
        ValueError: The argument is below the minimum.
    """
    if not is_integer(value):
        raise TypeError(f"{stage}: {name} must be an integer, got {value!r}")
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"{stage}: {name} must be {least} or more, got {number}")
    return number


def check_block(stage: str, value: Any) -> int | str:
    """Return the size of a block: a number of neighbours, or "group".

    Raises:
        TypeError: It is neither an integer nor a string.
        ValueError: It is below 1, or another string.
    """
    if not isinstance(value, str):
        return check_count(stage, "block", value)
    if value != "group":
        raise ValueError(f'{stage}: block must be a number of neighbours or "group", got {value!r}')
    return value


def check_range(arguments: tuple[Any, ...]) -> range:
    """Return a range of integers.

    Raises:
        TypeError: The arguments are not one to three integers.
        ValueError: The step is zero, or the range is too long.
    """
    if not 1 <= len(arguments) <= 3:
        raise TypeError(f"range takes 1 to 3 arguments (stop; start, stop; start, stop, step), got {len(arguments)}")
    names = ("stop",) if len(arguments) == 1 else ("start", "stop", "step")
    numbers = [check_count("range", name, value, None) for name, value in zip(names, arguments, strict=False)]
    if len(numbers) == 3 and not numbers[2]:
        raise ValueError("range: step must not be 0, got 0")
    numbers_range = range(*numbers)
    try:
        len(numbers_range)
    except OverflowError:
        try:
            shown = str(numbers_range)
        except ValueError:  # `str` rejects integers of more than 4,300 digits
            shown = "a number of thousands of digits"
        raise ValueError(
            f"range: the dataset must have at most 2**63 - 1 elements, got {shown}. For a dataset without end, use "
            "Dataset.range(n).repeat()"
        ) from None
    return numbers_range


def check_flag(stage: str, name: str, value: Any) -> bool:
    """Return a flag as a plain `bool`.

    Raises:
        TypeError: The argument is not a bool.
    """
    if not isinstance(value, bool) and not (
        type(value).__module__ == "numpy" and type(value).__name__.startswith("bool")
    ):
        raise TypeError(f"{stage}: {name} must be True or False, got {value!r}")
    return bool(value)


def check_folder(stage: str, folder: Any) -> str:
    """Return the path of a local folder.

    Raises:
        TypeError: The argument is not a path.
        ValueError: The path is empty, or a URL.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{stage}: folder must be a path, got {folder!r}")
    path = os.path.expanduser(folder)
    if not isinstance(path, str) or not path or "://" in path:
        raise ValueError(f"{stage}: folder must be the path of a local folder, got {path!r}")
    return path


def check_room(stage: str, max_bytes: Any, folder: str | None) -> int | None:
    """Return a limit in bytes, which may be a part of the file system that holds a folder.

    Args:
        stage: The name of the stage.
        max_bytes: An integer, a percentage such as ``"20%"``, or None for no limit.
        folder: The folder, or None.

    Raises:
        TypeError: The limit is neither an integer, a string nor None.
        ValueError: The limit is below 1 byte, not a percentage, or a percentage without a folder.
    """
    if max_bytes is None:
        return None
    if not isinstance(max_bytes, str):
        return check_count(stage, "max_bytes", max_bytes)
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", max_bytes)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(
            f"{stage}: max_bytes must be an integer, or a part of the file system such as '20%', got {max_bytes!r}"
        )
    if folder is None:
        raise ValueError(f"{stage}: max_bytes={max_bytes!r} is a part of a file system, and needs a folder")
    path = os.path.abspath(folder)
    while not os.path.exists(path):  # it is created in the file system of its first parent that exists
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return max(1, int(status.f_blocks * status.f_frsize * float(match[1]) / 100))


def check_file_name(stage: str, argument: str, name: Any) -> str:
    """Return the name of a file.

    Raises:
        TypeError: The argument is not a string.
        ValueError: The argument is not a valid file name.
    """
    if not isinstance(name, str):
        raise TypeError(f"{stage}: {argument} must be a string, got {name!r}")
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(os.fsencode(name)) > _MOST_OF_A_NAME:
        raise ValueError(
            f"{stage}: {argument} must be the name of a file, of at most {_MOST_OF_A_NAME} bytes, without a slash and "
            f"without a leading dot, got {name!r}"
        )
    return name


def check_choice(stage: str, name: str, value: Any, choices: Sequence[str]) -> Any:
    """Return the argument, which must be one of the choices.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{stage}: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return plain(value)


def check_function(stage: str, name: str, function: Any, *arguments: str, may_await: bool = False) -> None:
    """Raise a `TypeError` unless the function can be called with this number of arguments, and is not asynchronous.

    Args:
        stage: The name of the stage.
        name: The name of the argument.
        function: The argument.
        *arguments: A description of each argument that the function is called with.
        may_await: The stage supports coroutine functions, or asynchronous generators.
    """
    of = " and ".join(arguments)
    if not callable(function):
        raise TypeError(f"{stage}: {name} must be a function of {of}, got {function!r}")
    misfit = misfit_of(function, *[None] * len(arguments))
    if misfit is not None:
        raise TypeError(
            f"{stage}: {name} is called with {of}, but {misfit.name}{misfit.signature} takes other arguments "
            f"({misfit.reason}). An element that is a tuple, as after zip and enumerate, is passed as one argument"
        )
    if not may_await:
        reject_coroutine(f"{stage}: {name}", function, "await in a map before this stage, map(function, concurrency=n)")


def check_at_once(stage: str, function: Any, threads: Any, concurrency: Any) -> dict[str, int]:
    """Return the numbers of threads and of coroutines that call a function.

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is below 1, or the function needs the other one.
    """
    num_threads = check_count(stage, "threads", threads)
    shown = getattr(function, "__qualname__", type(function).__name__)
    if not is_coroutine_function(function):
        if concurrency is not None:
            raise ValueError(
                f"{stage}: concurrency={concurrency!r} needs a coroutine function, and {shown} is a plain one: define "
                "it with async def, or use threads=n"
            )
        return {"threads": num_threads}
    if num_threads > 1:
        raise ValueError(
            f"{stage}: threads={num_threads} needs a plain function, and {shown} is a coroutine function: use "
            "concurrency=n"
        )
    return {"concurrency": CONCURRENCY if concurrency is None else check_count(stage, "concurrency", concurrency)}


def check_boundaries(boundaries: Any) -> tuple[int, ...]:
    """Return the boundaries of buckets as plain integers.

    Raises:
        TypeError: A boundary is not an integer.
        ValueError: The boundaries are empty, or do not ascend.
    """
    if isinstance(boundaries, str) or not isinstance(boundaries, Iterable):
        raise TypeError(f"bucket: boundaries must be a list of integers, got {boundaries!r}")
    integers = tuple(check_count("bucket", "each of boundaries", boundary) for boundary in boundaries)
    if not integers or any(low >= high for low, high in itertools.pairwise(integers)):
        raise ValueError(f"bucket: boundaries must be one or more ascending integers, got {list(integers)}")
    return integers


def check_batch_sizes(batch_sizes: Any, max_tokens: Any, num_boundaries: int) -> tuple[int, ...] | None:
    """Return the batch sizes of buckets as plain integers, or None if ``max_tokens`` determines them.

    Raises:
        TypeError: A batch size is not an integer.
        ValueError: The number of batch sizes is not one more than the number of boundaries, or both or neither of
            ``batch_sizes`` and ``max_tokens`` are set.
    """
    if (batch_sizes is None) == (max_tokens is None):
        raise ValueError("bucket: pass either batch_sizes, one for each bucket, or max_tokens, the limit of a batch")
    if batch_sizes is None:
        return None
    if isinstance(batch_sizes, str) or not isinstance(batch_sizes, Iterable):
        raise TypeError(f"bucket: batch_sizes must be a list of integers, got {batch_sizes!r}")
    sizes = tuple(check_count("bucket", "each of batch_sizes", size) for size in batch_sizes)
    if len(sizes) != num_boundaries + 1:
        raise ValueError(
            f"bucket: {num_boundaries} boundaries make {num_boundaries + 1} buckets: expected {num_boundaries + 1} "
            f"batch_sizes, got {len(sizes)}"
        )
    return sizes


def check_names(stage: str, names: Any) -> tuple[str, ...]:
    """Return the names of columns.

    Raises:
        TypeError: A name is not a string.
        ValueError: The names are empty, or a name occurs twice.
    """
    if isinstance(names, str):
        return (plain(names),)
    if not isinstance(names, Iterable) or isinstance(names, bytes | Mapping):
        raise TypeError(f"{stage}: names must be a list of strings, got {names!r}")
    columns = tuple(map(plain, names))
    if not all(isinstance(name, str) for name in columns):
        raise TypeError(f"{stage}: each name must be a string, got {list(columns)!r}")
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"{stage}: expected one or more different names of columns, got {list(columns)!r}")
    return columns


def check_renames(columns: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the old and the new names of columns.

    Raises:
        TypeError: The argument is not a dict of strings.
        ValueError: It is empty, or two columns get the same name.
    """
    if not isinstance(columns, Mapping):
        raise TypeError(f"rename_columns: columns must be a dict of old and new names, got {columns!r}")
    return check_names("rename_columns", list(columns)), check_names("rename_columns", list(columns.values()))


def check_fractions(fractions: Any) -> tuple[float, ...]:
    """Return the fractions of a split.

    Raises:
        TypeError: The fractions are not numbers.
        ValueError: The fractions are empty, a fraction is not positive, or their sum is above 1.
    """
    if isinstance(fractions, str | Mapping) or not isinstance(fractions, Iterable):
        raise TypeError(f"split: fractions must be a list of numbers, got {fractions!r}")
    values = list(fractions)
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        raise TypeError(f"split: fractions must be numbers, got {values!r}")
    numbers = tuple(float(value) for value in values)
    if not numbers or not all(number > 0 for number in numbers):  # also refuses NaN
        raise ValueError(f"split: expected one or more fractions above 0, got {list(numbers)}")
    total = math.fsum(numbers)
    if total > 1 and not math.isclose(total, 1):
        raise ValueError(f"split: the sum of fractions must be at most 1, got {total:g} for {list(numbers)}")
    return numbers
