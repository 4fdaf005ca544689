"""The weights of a mix as arguments: a list, a dict by name, or a schedule of these.

A schedule is a list of pairs (sample, weights). The weights of a pair hold from that sample of the mix on, in each
epoch, up to the sample of the next pair.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

from mpqueue.dataset.description.arguments import check_count
from mpqueue.plan.options.checks import plain

Weights: TypeAlias = tuple[float, ...]
Schedule: TypeAlias = tuple[tuple[int, Weights], ...]
Name: TypeAlias = str | int

MOST_SAMPLES = 1 << 62  # indices of samples are computed as 64-bit integers


def check_weights(weights: Any, names: Sequence[Name]) -> Weights:
    """Return the weights of a mix, one per dataset; None means equal weights.

    Args:
        weights: A dict with the names, or a list if the datasets have no names.
        names: The names of the datasets; their indices if they have no names.

    Raises:
        TypeError: The weights are not numbers.
        ValueError: The weights belong to other datasets, a weight is negative or not finite, or all are zero.
    """
    if weights is None:
        return (1.0,) * len(names)
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise TypeError(f"mix: weights must be a list of numbers, got {weights!r}")
    values = _by_name(weights, names) if isinstance(weights, Mapping) else _in_order(list(weights), names)
    if not all(isinstance(weight, Real) and not isinstance(weight, bool) for weight in values):
        raise TypeError(f"mix: weights must be numbers, got {values!r}")
    if len(values) != len(names):
        raise ValueError(f"mix: expected one weight per dataset ({len(names)}), got {len(values)} weights")
    numbers = tuple(float(weight) for weight in values)
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"mix: weights must be 0 or more, and finite, got {list(numbers)}")
    if not any(numbers):
        raise ValueError(f"mix: weights must not all be zero, got {list(numbers)}")
    return numbers


def _by_name(weights: Mapping[Any, Any], names: Sequence[Name]) -> list[Any]:
    missing = [name for name in names if name not in weights]
    unknown = [name for name in weights if name not in set(names)]
    if missing or unknown:
        parts = [f"missing: {missing[:8]}"] if missing else []
        parts += [f"unknown: {unknown[:8]}"] if unknown else []
        raise ValueError(
            f"mix: weights must have one weight for each dataset, {_shown_names(names)}; {', '.join(parts)}"
        )
    return [weights[name] for name in names]


def _in_order(weights: list[Any], names: Sequence[Name]) -> list[Any]:
    # The order of a dict of datasets is easy to change by accident, and the weights would belong to other datasets.
    if any(isinstance(name, str) for name in names):
        raise ValueError(
            f"mix: the datasets have names, so weights must be a dict with these names, {_shown_names(names)}, got the "
            f"list {weights!r}"
        )
    return weights


def _shown_names(names: Sequence[Name]) -> str:
    return f"{list(names[:8])!r}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def is_schedule(weights: Any) -> bool:
    """Return whether weights are a schedule: a list or tuple with lists or tuples."""
    return isinstance(weights, list | tuple) and any(isinstance(item, list | tuple) for item in weights)


def check_schedule(weights: Any, names: Sequence[Name]) -> Schedule:
    """Return weights or a schedule of weights as a schedule, which begins at sample 0.

    Args:
        weights: See above, and `check_weights`.
        names: See `check_weights`.

    Raises:
        TypeError: The index of a sample is not an integer, or weights are not numbers.
        ValueError: The schedule does not begin at 0, or does not ascend; or see `check_weights`.
    """
    if not is_schedule(weights):
        return ((0, check_weights(weights, names)),)
    for entry in weights:
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise ValueError(
                f"mix: a schedule is a list of pairs (sample, weights), got {entry!r}. For fixed weights, pass only "
                "numbers"
            )
    samples = [check_sample("mix", "the sample of a schedule", sample) for sample, _ in weights]
    if samples[0] != 0:
        raise ValueError(f"mix: a schedule must begin at sample 0, got {samples[0]}: [(0, weights), ...]")
    if any(low >= high for low, high in itertools.pairwise(samples)):
        raise ValueError(f"mix: the samples of a schedule must ascend, got {samples}")
    return tuple((sample, check_weights(each, names)) for sample, (_, each) in zip(samples, weights, strict=True))


def check_sample(stage: str, name: str, value: Any) -> int:
    """Return the index of a sample of a mix.

    Raises:
        TypeError: The number is not an integer.
        ValueError: The number is negative, or too large.
    """
    number = check_count(stage, name, value, 0)
    if number >= MOST_SAMPLES:
        raise ValueError(f"{stage}: {name} must be below 2**62, got {number}")
    return number


def check_part_names(datasets: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of datasets.

    Raises:
        TypeError: A name is not a string.
        ValueError: A name is empty.
    """
    for name in datasets:
        if not isinstance(name, str):
            raise TypeError(f"mix: the names of datasets must be strings, got {name!r}")
        if not name:
            raise ValueError("mix: the name of a dataset must not be empty, got ''")
    return tuple(map(plain, datasets))


def shown_weights(weights: Weights, names: Sequence[str]) -> str:
    """Return weights as in the description of a stage; ``names`` is empty if the datasets have no names."""
    return repr(dict(zip(names, weights, strict=True)) if names else weights)


def shown_schedule(schedule: Schedule, names: Sequence[str]) -> str:
    """Return a schedule as in the description of a stage; fixed weights are shown without their sample."""
    if len(schedule) == 1:
        return shown_weights(schedule[0][1], names)
    return f"[{', '.join(f'({sample}, {shown_weights(weights, names)})' for sample, weights in schedule)}]"
