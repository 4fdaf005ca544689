"""The options of enqueuers, loaders and `mpqueue.keras`: documented and checked here, once.

A face has them in its signature, so that editors and type checkers see them, and takes them from its arguments by
`Options.of`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, Self

import numpy as np

StartMethod = Literal["nursery", "fork", "spawn"]
BackendName = Literal["process", "thread"]


class _Default(str):
    """A default that differs from the same text given by the caller."""

    __slots__ = ()


# The one start method that may fall back to fork, and only where the caller has not asked for it by name.
DEFAULT_START_METHOD: Any = _Default("nursery")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keyword-only options that all faces of the engine share.

    Attributes:
        seed: Shuffled orders and the random numbers of each batch follow from (seed, epoch, index), for any number of
            workers; None: from the state of Python's `random`.
        ordered: Batches come in the order of the source; elements of generators come round the workers in turn.
            False: as they are ready, so that a slow batch holds up no other.
        start_method: How processes are made: "nursery" (forked from a clean process; a source that cannot be pickled
            is inherited by a fork of this process, with a warning), "fork" (of this process), "spawn" (a fresh
            interpreter each). One that is given explicitly never falls back.
        restarts: Workers that may die over one batch, in a row, before `WorkerDied` is raised in its place. More ride
            out a machine that kills now and then; fewer tell sooner of a batch that kills.
        batch_timeout: Seconds that one batch may take; its worker is then replaced and the batch tried again. None:
            as long as it takes.
        worker_init: Called without arguments in each worker before its first item.
        max_batch_bytes: A larger batch is an error (`BatchTooLarge`) instead of memory; None: no bound.
        copy: Every batch is a private copy instead of a view of shared memory: it may be kept for ever, and costs the
            time of the copy.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has an impossible value.
    """

    seed: int | None = None
    ordered: bool = True
    start_method: StartMethod = DEFAULT_START_METHOD
    restarts: int = 3
    batch_timeout: float | None = None
    worker_init: Callable[[], Any] | None = None
    max_batch_bytes: int | None = None
    copy: bool = False

    def __post_init__(self) -> None:
        if self.seed is not None and not _is_integer(self.seed):
            raise TypeError(f"seed must be an integer or None, got {self.seed!r}")
        check_flags(ordered=self.ordered, copy=self.copy)
        if self.start_method not in {"nursery", "fork", "spawn"}:
            raise ValueError(f'start_method must be "nursery", "fork" or "spawn", got {self.start_method!r}')
        if not _is_integer(self.restarts):
            raise TypeError(f"restarts must be an integer, got {self.restarts!r}")
        if self.restarts < 0:
            raise ValueError(f"restarts must be 0 or more, got {self.restarts!r}")
        _check_positive("batch_timeout", self.batch_timeout, "a number of seconds")
        _check_positive("max_batch_bytes", self.max_batch_bytes, "a number of bytes")
        _check_worker_init(self.worker_init)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return those among the arguments of a call: ``Options.of(locals())``."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    @property
    def may_fall_back(self) -> bool:
        """True if the caller named no start method."""
        return isinstance(self.start_method, _Default)

    def check_backend(self, backend: str) -> None:
        """Raise a `ValueError` for options that mean nothing to this backend."""
        if backend == "thread" and not self.may_fall_back:
            raise ValueError(
                f"start_method={self.start_method!r} is about worker processes, and this runs threads: "
                'leave it out, or use backend="process"'
            )


def check_counts(workers: Any, max_queue_size: Any, backend: str) -> tuple[int, int]:
    """Return the number of workers and of batches computed ahead as integers.

    Raises:
        TypeError: One is no integer.
        ValueError: Negative workers; or a queue without a bound where memory must be bounded.
    """
    for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
        if not _is_integer(value):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    workers, max_queue_size = int(workers), int(max_queue_size)
    if workers < 0:
        raise ValueError(f"workers must be 0 (no workers: the caller computes) or more, got {workers}")
    if max_queue_size < 0 or (max_queue_size == 0 and backend == "process" and workers > 0):
        unbounded = "; 0 (unbounded) is possible with threads only: shared memory is bounded"
        raise ValueError(
            f"max_queue_size must be at least 1, got {max_queue_size}{'' if max_queue_size else unbounded}"
        )
    return workers, max_queue_size


def check_flags(**flags: Any) -> None:
    """Raise a `TypeError` that names the first that is neither true nor false."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_) and not (isinstance(value, int) and value in {0, 1}):
            raise TypeError(f"{name} must be True or False, got {value!r}")


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _check_positive(name: str, value: Any, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {what} or None, got {value!r}")
    if not float(value) > 0:
        raise ValueError(f"{name} must be {what} above 0, or None, got {value!r}")


def _check_worker_init(worker_init: Any) -> None:
    if worker_init is None:
        return
    if not callable(worker_init):
        raise TypeError(f"worker_init must be callable without arguments, got {worker_init!r}")
    try:
        signature = inspect.signature(worker_init)
    except (TypeError, ValueError):  # some built-ins have none
        return
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(worker_init, "__name__", repr(worker_init))
        raise TypeError(
            f"worker_init is called without arguments, but {name}{signature} needs some ({error}): "
            "ask mpqueue.worker_info() in it, whose id is the worker's number"
        ) from None
