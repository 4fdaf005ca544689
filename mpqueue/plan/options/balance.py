"""`Balance`: how the samples of all ranks are divided, and the costs that decide it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from mpqueue.plan.options.checks import integer, number, plain
from mpqueue.system.user_code.keywords import suggests_keywords

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Given: TypeAlias = Any  # an array, the name of a column, or a function

# The arguments that determine the order, with their defaults.
_SETTINGS = {"steps": 1, "accumulate": 1, "group": None, "max_cost": None}


@suggests_keywords
@dataclass(frozen=True, eq=False)
class Balance:
    """Divide the samples of each step among all ranks, so that all ranks have equal work.

    In synchronous training, the slowest rank determines the time of a step. The order of a loader is known on all
    ranks, so each rank computes the same division by itself, without communication. Which samples train in a step (or
    in a window of steps) does not change, and all batches have the same number of samples.

    Example:
        Lengths of documents, for two ranks::

            import numpy as np
            import mpqueue

            documents = [np.ones(length, np.int32) for length in (9, 1, 1, 5, 4, 8, 2, 2)]
            lengths = np.array([len(document) for document in documents])
            balance, steps = mpqueue.Balance(lengths), [{6, 10}, {6, 10}]
            for rank in range(2):
                with mpqueue.Loader(
                    documents, batch_size=2, collate=list, workers=0, shard=(rank, 2), balance=balance
                ) as loader:
                    for batch, of_ranks in zip(loader, steps):
                        of_ranks.remove(sum(map(len, batch)))
            assert steps == [set(), set()]  # in the plain order, the ranks have 10 and 6, and 12 and 4

    Args:
        cost: The cost of each sample, a number of 0 or more, such as its tokens: an array indexed by the id of the
            sample (also memory-mapped); the name of a column of the source; or a function of the id.
        tokens: The number that a mean over tokens needs, given like ``cost``; see `BatchInfo.step_tokens`.
        steps: Number of optimizer steps whose samples are divided at once. More steps give more equal costs, and
            samples move between these steps.
        accumulate: Number of batches (micro-batches) of each rank in an optimizer step.
        group: Sort the samples of this many steps by cost before they are cut into steps, so that a batch needs less
            padding. The order of these steps is shuffled. None: no sorting.
        max_cost: Instead of a number of batches: ``batch_size`` is the number of samples of an optimizer step over all
            ranks, and a batch of the loader is a rank's part of a step: a list of micro-batches that cost at most this.
            All ranks have the same number of them in a step, the smallest that fits, and each has a sample. If
            ``batch_size`` is a multiple of the number of ranks, every step fits whose samples cost at most this.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is too small, an array has an invalid cost, or arguments exclude each other.
    """

    cost: Given
    tokens: Given = None
    steps: int = 1
    accumulate: int = 1
    group: int | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        integer(1)("steps", self.steps)
        integer(1)("accumulate", self.accumulate)
        integer(1, or_none=True)("group", self.group)
        if self.steps != 1 and self.group is not None:
            raise ValueError(f"group={self.group} is a window of steps, and excludes steps={self.steps}: pass one")
        number("a number", above_zero=True, or_none=True)("max_cost", self.max_cost)
        if self.max_cost is not None and (self.steps, self.accumulate, self.group) != (1, 1, None):
            raise ValueError(
                f"max_cost={self.max_cost} determines the micro-batches of each step, and excludes steps, accumulate "
                "and group: leave them out"
            )
        for name in _SETTINGS:
            object.__setattr__(self, name, plain(getattr(self, name)))
        object.__setattr__(self, "cost", _checked("cost", self.cost))
        if self.tokens is not None:
            object.__setattr__(self, "tokens", _checked("tokens", self.tokens))

    @property
    def window(self) -> int:
        """Number of batches of each rank whose samples are divided at once."""
        return self.accumulate * (self.group or self.steps)

    @property
    def makes_lists(self) -> bool:
        """Whether a batch is a list of micro-batches: a rank's part of a step."""
        return self.max_cost is not None

    def settings(self) -> list[str]:
        """Return the arguments that determine the order and are not at their defaults, for a state."""
        return [f"{name}={getattr(self, name)!r}" for name, value in _SETTINGS.items() if getattr(self, name) != value]


def check_balance(value: Any) -> None:
    """Raise a `TypeError` if the value of the option is not a `Balance`."""
    if not isinstance(value, Balance):
        raise TypeError(f"balance must be a mpqueue.Balance, such as mpqueue.Balance(lengths), got {value!r}")


def _checked(name: str, given: Any) -> Given:
    if isinstance(given, str) or callable(given):
        return given
    try:
        # A memory-mapped array stays on the disk.
        array = given if isinstance(given, np.ndarray) else np.asarray(given)
    except Exception as error:  # of an object that only claims to be an array
        raise _no_costs(name, given) from error
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise _no_costs(name, given)
    if not _is_mapped(array):
        costs_in(name, array, range(len(array)))
    return array


def _no_costs(name: str, given: Any) -> TypeError:
    return TypeError(
        f"{name} must be an array with one number for each sample, the name of a column, or a function of a sample's "
        f"id, got {given!r}"
    )


def _is_mapped(array: np.ndarray[Any, Any]) -> bool:
    return isinstance(array, np.memmap) or isinstance(array.base, np.memmap)


def costs_in(name: str, values: Any, ids: "Sequence[Any] | np.ndarray[Any, Any]") -> Numbers:
    """Return costs as floats.

    Args:
        name: The name of the numbers, for the message.
        values: The numbers.
        ids: The id of the sample of each.

    Raises:
        TypeError: One is not a number.
        ValueError: One is negative, NaN or infinite.
    """
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "biuf" or numbers.shape != (len(ids),):
        at = next((at for at, value in enumerate(values) if not isinstance(value, Real)), 0)
        raise TypeError(f"the {name} of sample {_plain(ids[at])!r} must be a number, got {values[at]!r}")
    costs = numbers.astype(np.float64)
    # Written as a negation, so that NaN is found, too.
    (bad,) = np.nonzero(~((costs >= 0) & (costs < math.inf)))
    if len(bad):
        at = int(bad[0])
        raise ValueError(
            f"the {name} of sample {_plain(ids[at])!r} must be a finite number of 0 or more, got {costs[at]}"
        )
    return costs


def _plain(sample: Any) -> Any:
    return sample.item() if isinstance(sample, np.generic) else sample


class Costs:
    """The costs of the samples of a source.

    Args:
        name: The name of the numbers: "cost" or "tokens".
        given: The user's argument.
        ids_of: Returns the ids of the samples of each index, in an epoch; None: an index is its id.
        column: Returns a column of the source, by its name.
        count: Number of ids of the source; None: unknown.

    Raises:
        ValueError: The array has another length than the source, or the source has no such column.
    """

    def __init__(
        self,
        name: str,
        given: Given,
        ids_of: Callable[..., list[tuple[Any, ...]]] | None,
        column: Callable[[str], Any],
        count: int | None,
    ) -> None:
        self._name, self._ids_of = name, ids_of
        if isinstance(given, str):
            values = column(given)
            given = costs_in(name, values, range(len(values)))
        self._function = given if callable(given) else None
        self._array = None if callable(given) else given
        if self._array is not None and ids_of is not None:
            self._at(self._ids((0,), 0))
        if self._array is not None and count is not None and len(self._array) != count:
            raise ValueError(
                f"{name} must have one number for each of the {count:,} samples of the source, got {len(self._array):,}"
            )

    def of(self, indices: "Sequence[int] | np.ndarray[Any, Any]", epoch: int) -> Numbers:
        """Return the cost of each index.

        Raises:
            Exception: The error of the function; a cost is invalid or missing.
        """
        if self._ids_of is None and self._array is not None:  # most sources, without a list of Python's numbers
            return costs_in(self._name, self._at(indices), indices)
        ids = self._ids(np.asarray(indices).tolist(), epoch)
        values = [self._function(each) for each in ids] if self._function is not None else self._at(ids)
        return costs_in(self._name, values, ids)

    def _ids(self, indices: Sequence[int], epoch: int) -> Sequence[Any]:
        if self._ids_of is None:
            return indices
        return [each[0] if len(each) == 1 else each for each in self._ids_of(indices, epoch=epoch)]

    def _at(self, ids: "Sequence[Any] | np.ndarray[Any, Any]") -> Any:
        assert self._array is not None
        try:
            numbers = np.asarray(ids, np.int64)
        except (TypeError, ValueError, OverflowError):
            numbers = np.empty((0, 2), np.int64)
        if numbers.ndim != 1:
            raise ValueError(
                f"{self._name} is an array, and the ids of the samples are not numbers, such as {ids[0]!r}: pass a "
                "function of the id"
            )
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self._array):
            raise IndexError(f"{self._name} has {len(self._array):,} numbers, but none for sample {int(numbers.max())}")
        return self._array[numbers]
