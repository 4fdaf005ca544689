"""The options of all frontends: each one once, with its type, its default, its check and its description.

A frontend's `TypedDict` is the set of its options. Its constructor takes ``**options: Unpack[LoaderOptions]``, so that
type checkers and editors know each name and type. The description of an option is in the docstring of the `TypedDict`
that has its row. `mpqueue.plan.options.signatures` adds the defaults and descriptions for `inspect.signature`, `help`
and notebooks.

A new option is one row and its description in one sentence here, its position in the `GROUPS` of
`mpqueue.plan.options.signatures`, and the code that reads it. Invalid combinations of options are in
`mpqueue.plan.order.rules`.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypedDict, get_args

from mpqueue.plan.options import checks
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.batching import Batching, Choice, collation_of
from mpqueue.plan.options.checks import Check, integer, is_integer
from mpqueue.system.user_code.keywords import unknown_keyword

if TYPE_CHECKING:
    from mpqueue.plan.options.balance import Balance

StartMethod = Literal["forkserver", "fork", "spawn"]
OnError = Literal["raise", "skip"]
ModeName = Literal["split", "broadcast"]
Slow = Literal["wait", "skip", "detach"]


class _Default(str):
    """A default that can be distinguished from an equal string passed by the caller."""

    __slots__ = ()


CONCURRENCY = 64  # samples in flight per worker, unless the user passes another number
# The only start method that may fall back to fork, and only if the caller did not pass it explicitly.
DEFAULT_START_METHOD: Any = _Default("forkserver")


@dataclass(
    frozen=True, eq=False
)  # `mpqueue.plan.options.signatures` finds a group by the identity of its rows, on Python 3.11
class Option:
    """A row of the table of options.

    Attributes:
        default: The value if the caller passes none.
        check: Raises for an impossible value.
    """

    default: Any
    check: Check


class _BatchSize(TypedDict, total=False):
    """The size of batches.

    Attributes:
        batch_size: Number of samples per batch. If None, each item of the source is already a batch.
    """

    batch_size: Annotated[int | None, Option(None, integer(1, or_none=True))]


class _Collate(TypedDict, total=False):
    """The function that makes batches.

    Attributes:
        collate: Function that makes a batch from a list of samples, or "ragged". If None, samples are stacked by field.
    """

    collate: Annotated[Callable[[list[Any]], Any] | Choice | None, Option(None, checks.collate)]


class _Order(TypedDict, total=False):
    """The order of samples.

    Attributes:
        drop_last: Drop the last batch if it is short, or if not all ranks would get one.
        sampler: Iterable of indices: the order of the samples, or of the batches without ``batch_size``.
    """

    drop_last: Annotated[bool, Option(False, checks.flag)]
    sampler: Annotated[Iterable[Any] | None, Option(None, checks.sampler)]


class _BatchSampler(TypedDict, total=False):
    """The samples of each batch.

    Attributes:
        batch_sampler: Iterable of lists of indices, one list per batch.
    """

    batch_sampler: Annotated[Iterable[Any] | None, Option(None, checks.sampler)]


class _Epochs(TypedDict, total=False):
    """The errors and the length of an epoch.

    Attributes:
        on_error: "raise": raise an exception of the source. "skip": skip the sample, count it, and log it.
        max_errors: Maximum number of skipped samples in one epoch, before `TooManyErrors` is raised.
        epoch_batches: Number of batches per epoch and rank for a stream. If None, an epoch ends when the stream ends.
    """

    on_error: Annotated[OnError, Option("raise", checks.one_of("raise", "skip"))]
    max_errors: Annotated[int | None, Option(None, integer(0, or_none=True))]
    epoch_batches: Annotated[int | None, Option(None, integer(1, or_none=True))]


# In this order, in which signatures and `help` show them.
class SampleOptions(_BatchSize, _Collate, _Order, _BatchSampler, _Epochs, total=False):
    """The content of batches, and their order."""


class LaneOptions(TypedDict, total=False):
    """The division of a stream into virtual shards.

    Attributes:
        lanes: Number of virtual shards of a stream, over all ranks, which decides its order. If None, 16 or slightly
            more.
    """

    lanes: Annotated[int | None, Option(None, integer(1, or_none=True))]


class RankOptions(TypedDict, total=False):
    """The ranks, and the rank of this process.

    Attributes:
        shard: ``(rank, number of ranks)``, or "auto": as torch.distributed, jax, or RANK and WORLD_SIZE report them.
    """

    shard: Annotated[tuple[int, int] | Literal["auto"] | None, Option(None, checks.shard)]


class WorkerOptions(TypedDict, total=False):
    """The workers.

    Attributes:
        seed: Seed of orders and random numbers. If None, it is derived from the state of Python's `random`.
        ordered: Return batches in the order of the source. If False, return them as soon as they are ready.
        start_method: How processes start: "forkserver" (from a clean process), "fork" (from this one), or "spawn".
        restarts: Number of consecutive worker crashes on one batch before `WorkerDied` is raised instead of it.
        batch_timeout: Maximum time for one batch in seconds, before the worker is replaced and the batch is retried.
        worker_init: Function, or coroutine function, that each worker calls without arguments before its first item.
        concurrency: Number of samples per worker at once, if ``__getitem__`` is a coroutine function. If None, 64.
        max_batch_bytes: Maximum size of a batch in bytes, before `BatchTooLarge` is raised.
        trace: Path of the file for a timeline, for Perfetto or Chrome. If None, ``MPQUEUE_TRACE``, if it is set.
        ray_options: Dict of options for ``backend="ray"``, such as ``num_cpus`` of each worker.
    """

    seed: Annotated[int | None, Option(None, integer(or_none=True))]
    ordered: Annotated[bool, Option(True, checks.flag)]
    start_method: Annotated[StartMethod, Option(DEFAULT_START_METHOD, checks.one_of("forkserver", "fork", "spawn"))]
    restarts: Annotated[int, Option(3, integer(0))]
    batch_timeout: Annotated[
        float | None, Option(None, checks.number("a number of seconds", above_zero=True, or_none=True))
    ]
    worker_init: Annotated[Callable[[], Any] | None, Option(None, checks.worker_init)]
    concurrency: Annotated[int | None, Option(None, integer(1, or_none=True))]
    max_batch_bytes: Annotated[
        int | None, Option(None, checks.number("a number of bytes", above_zero=True, or_none=True))
    ]
    trace: Annotated[str | os.PathLike[str] | None, Option(None, checks.path)]
    ray_options: Annotated[Mapping[str, Any] | None, Option(None, checks.ray_options)]


class CallerOptions(TypedDict, total=False):
    """The options about the caller's process: copies and progress.

    Attributes:
        copy: Return each batch as a private copy, instead of a view of shared memory.
    """

    copy: Annotated[bool, Option(False, checks.flag)]


class ProgressOptions(TypedDict, total=False):
    """The progress bar of an epoch.

    Attributes:
        progress: Show a tqdm bar for each epoch (extra ``progress``).
    """

    progress: Annotated[bool, Option(False, checks.progress)]


class _LoaderWorkers(TypedDict, total=False):
    """The workers and the order of a loader.

    Attributes:
        workers: Number of workers. None: one per CPU. 0: the caller computes. "auto": as many as improve throughput.
        backend: "process", "thread", or "ray": processes on the nodes of a Ray cluster.
        max_queue_size: Maximum number of batches computed ahead, including those being computed.
        shuffle: Use a new order for every epoch (sources with an index only).
        threads: Number of threads per worker that compute samples at once, for sources that wait for a disk or network.
    """

    workers: Annotated[int | Literal["auto"] | None, Option(None, checks.integer_or_auto)]
    backend: Annotated[BackendName, Option("process", checks.unchecked)]
    max_queue_size: Annotated[int, Option(10, checks.unchecked)]
    shuffle: Annotated[bool, Option(False, checks.flag)]
    threads: Annotated[int, Option(1, integer(1))]


class BalanceOptions(TypedDict, total=False):
    """The division of samples among ranks.

    Attributes:
        balance: A `mpqueue.Balance`: how the samples of each step are divided among all ranks.
    """

    balance: Annotated["Balance | None", Option(None, checks.unchecked)]


class ExcludeOptions(TypedDict, total=False):
    """The samples that a run excludes.

    Attributes:
        exclude: Ids of samples that all batches exclude; see `Loader.exclude`.
    """

    exclude: Annotated[Iterable[Any] | Mapping[Any, Any] | None, Option(None, checks.sample_ids)]


class _OfAnyItems(LaneOptions, RankOptions, WorkerOptions, CallerOptions, ProgressOptions, ExcludeOptions, total=False):
    """The options of a loader that are the same for samples and batches."""


class LoaderOptions(_LoaderWorkers, SampleOptions, BalanceOptions, _OfAnyItems, total=False):
    """The options of `mpqueue.Loader`."""


class ItemOptions(_LoaderWorkers, _Order, _Epochs, _OfAnyItems, total=False):
    """The options of `mpqueue.Loader` that do not change what a batch is. A `balance` can make it a list of batches.

    Type checkers read them: a function cannot have a ``TypedDict`` of options, and a parameter of the same name.
    """


class _Serving(TypedDict, total=False):
    """The consumers and the workers of a server.

    Attributes:
        mode: "split": each batch goes to one consumer; "broadcast": each batch goes to all, computed once.
        world: Number of ranks ("split"), or of consumers that the first epoch waits for ("broadcast"). If None, a batch
            goes to the consumer that requests it first.
        slow: Effect on a consumer that others wait for. "wait": none; "skip" (broadcast): it misses batches; "detach"
            (broadcast): it is disconnected.
        grace_s: Time in seconds that other ranks, or a restarted server, wait for the replacement of a consumer that
            exited unexpectedly.
        lease_timeout: Time in seconds after which a consumer that has batches and sends no message is disconnected. If
            None, never.
        journal: Path of a file that records which batches were taken, so that a new server can continue after this one.
        allow_uids: Ids of users who may attach in addition to the server's user.
        exclude: Sample ids that the batches exclude, see `Loader.exclude`; with a journal, at least the ids that the
            previous server excluded.
        workers: Number of worker processes. If None, one per CPU that this process may use.
        max_queue_size: Maximum number of batches computed ahead, and offered to each consumer.
        shuffle: Use a new order for every epoch (sources with an index only).
        threads: Number of threads per worker that compute samples at once, for sources that wait for a disk or network.
        backend: "process", or "ray": the workers run on the nodes of a Ray cluster.
    """

    mode: Annotated[ModeName, Option("split", checks.one_of(*get_args(ModeName)))]
    world: Annotated[int | None, Option(None, integer(1, or_none=True))]
    slow: Annotated[Slow, Option("wait", checks.one_of("wait", "skip", "detach"))]
    grace_s: Annotated[float, Option(300.0, checks.number("a number of seconds"))]
    lease_timeout: Annotated[
        float | None, Option(None, checks.number("a number of seconds", above_zero=True, or_none=True))
    ]
    journal: Annotated[str | os.PathLike[str] | None, Option(None, checks.path)]
    allow_uids: Annotated[Iterable[int], Option((), checks.unchecked)]
    exclude: Annotated[Iterable[Any] | Mapping[Any, Any] | None, Option(None, checks.sample_ids)]
    workers: Annotated[int | None, Option(None, checks.unchecked)]
    max_queue_size: Annotated[int, Option(10, checks.unchecked)]
    shuffle: Annotated[bool, Option(False, checks.flag)]
    threads: Annotated[int, Option(1, integer(1))]
    backend: Annotated[Literal["process", "ray"], Option("process", checks.unchecked)]


class ServerOptions(_Serving, SampleOptions, LaneOptions, BalanceOptions, WorkerOptions, total=False):
    """The options of `mpqueue.Server`."""


class StreamOptions(SampleOptions, LaneOptions, BalanceOptions, WorkerOptions, total=False):
    """The options of a server's stream."""

    workers: int
    max_queue_size: int
    shuffle: bool
    exclude: Any
    threads: int
    world: int
    backend: BackendName


class _EnqueuerBackend(TypedDict, total=False):
    """The backend of an enqueuer.

    Attributes:
        backend: "process", "thread", or "ray": processes on the nodes of a Ray cluster. If None,
            ``use_multiprocessing`` decides.
    """

    backend: Annotated[BackendName | None, Option(None, checks.unchecked)]


class EnqueuerOptions(_EnqueuerBackend, WorkerOptions, CallerOptions, ProgressOptions, total=False):
    """The options of both enqueuers."""


class GeneratorEnqueuerOptions(EnqueuerOptions, LaneOptions, total=False):
    """The options of `mpqueue.GeneratorEnqueuer`."""


class AccelerateOptions(_EnqueuerBackend, WorkerOptions, CallerOptions, total=False):
    """The options of `mpqueue.keras.accelerate`."""


def rows_of(kind: Any) -> dict[str, Option]:
    """Return the rows of a frontend's `TypedDict`, by name."""
    return {name: hint.__metadata__[0] for name, hint in kind.__annotations__.items()}


# Each `Options` object has all of these, even if its frontend lacks some.
_ROWS = rows_of(LoaderOptions)
_DEFAULTS = {name: row.default for name, row in _ROWS.items()}


def _check(rows: Mapping[str, Option], passed: Mapping[str, Any]) -> None:
    for name, row in rows.items():
        if name in passed:
            row.check(name, passed[name])


def _plain(passed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: checks.plain(value) for name, value in passed.items()}


class Options:
    """The checked values of all options; immutable. Each option is an attribute.

    Args:
        **passed: Options by name; all others have their defaults.

    Raises:
        TypeError: An option does not exist or has the wrong type.
        ValueError: An option has an invalid value.
    """

    def __init__(self, **passed: Any) -> None:
        for name in passed:
            if name not in _ROWS:
                raise TypeError(f"{name!r} is not an option")
        _check(_ROWS, passed)
        vars(self).update(_DEFAULTS | _plain(passed))

    @classmethod
    def of(
        cls, kind: Any, passed: Mapping[str, Any], frontend: str, arguments: Iterable[str] = (), **hints: str
    ) -> Self:
        """Return the values of a frontend's options.

        Args:
            kind: The `TypedDict` of the frontend.
            passed: The options that its caller passed.
            frontend: The name of the frontend.
            arguments: The names of its arguments that are not options.
            **hints: Remedies for names that are not options, see `reject_unknown`.

        Raises:
            TypeError: An option does not exist or has the wrong type.
            ValueError: An option has an invalid value.
        """
        rows = rows_of(kind)
        reject_unknown([name for name in passed if name not in rows], frontend, [*rows, *arguments], hints)
        _check(rows, passed)
        made = cls.__new__(cls)
        vars(made).update(_DEFAULTS | {name: row.default for name, row in rows.items()} | _plain(passed))
        return made

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values replaced. The new values are not checked."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self) | changes)
        return made

    def values_of(self, kind: Any) -> dict[str, Any]:
        """Return the values of the options of a `TypedDict`, by name."""
        return {name: getattr(self, name) for name in kind.__annotations__}

    def __getattr__(self, name: str) -> Any:  # called for missing attributes only; makes mypy accept the others
        raise AttributeError(f"{name!r} is not an option")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options are immutable: {name} cannot be set to {value!r}")

    def changed(self, kind: Any = LoaderOptions) -> list[str]:
        """Return the names of the options of a `TypedDict` that are not at their defaults."""
        return [name for name, row in rows_of(kind).items() if getattr(self, name) != row.default]

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={getattr(self, name)!r}' for name in self.changed())})"

    @property
    def may_fall_back(self) -> bool:
        """True if the caller did not pass a start method."""
        return isinstance(self.start_method, _Default)

    @property
    def are_samples(self) -> bool:
        """True if an item of the source is a sample, not a batch."""
        return self.batch_size is not None or self.batch_sampler is not None

    @property
    def width(self) -> int:
        """The number of coroutines per worker."""
        return CONCURRENCY if self.concurrency is None else int(self.concurrency)

    @property
    def is_sampled(self) -> bool:
        """True if a sampler determines the order."""
        return self.sampler is not None or self.batch_sampler is not None


def batching_of(options: Options, *, world: int) -> Batching:
    """Return how samples become batches.

    Args:
        options: Options about samples.
        world: Number of ranks. All ranks get the same number of batches.
    """
    collate, ragged = collation_of(options.collate)
    size, threads = None if options.batch_size is None else int(options.batch_size), int(options.threads)
    drops, skips = bool(options.drop_last), options.on_error == "skip"
    fills = world > 1 and not drops
    return Batching(size, options.shuffle, collate, ragged, drops=drops, fills=fills, skips=skips, threads=threads)


def fresh_seed(*numbers: int) -> int:
    """Return a seed derived from the state of Python's `random` (without drawing from it) and from ``numbers``.

    So `random.seed(...)` or `keras.utils.set_random_seed(...)` makes a run reproducible, and the trainer's own random
    numbers do not change. If no module has imported `random`, it cannot have been seeded, and the seed is random.
    """
    random = sys.modules.get("random")
    if random is None:  # importing it, and hashlib below, takes 3 ms
        return int.from_bytes(os.urandom(8), "little")
    import hashlib

    digest = hashlib.blake2b(repr((random.getstate(), numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def check_counts(workers: Any, max_queue_size: Any, backend: str) -> tuple[int, int]:
    """Check the number of workers and of batches computed ahead, and return them as integers.

    Raises:
        TypeError: A value is not an integer.
        ValueError: The number of workers is negative, or the queue is unbounded although memory must be bounded.
    """
    for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
        if not is_integer(value):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    workers, max_queue_size = int(workers), int(max_queue_size)
    if workers < 0:
        raise ValueError(f"workers must be 0 (no workers: the caller computes) or more, got {workers}")
    if max_queue_size < 0 or (max_queue_size == 0 and workers > 0 and kind_of(backend).has_ring):
        unbounded = "; 0 (unbounded) is valid for threads only, because shared memory is bounded"
        raise ValueError(
            f"max_queue_size must be at least 1, got {max_queue_size}{'' if max_queue_size else unbounded}"
        )
    return workers, max_queue_size


def check_wait_time(wait_time: Any) -> None:
    """Raise a `TypeError` if ``wait_time``, an argument of old Keras releases, is not a number of seconds or None."""
    if wait_time is not None and (isinstance(wait_time, bool) or not isinstance(wait_time, Real)):
        raise TypeError(f"wait_time (which has no effect) must be a number of seconds or None, got {wait_time!r}")


_TORCH_NAMES = {
    "num_workers": "workers",
    "collate_fn": "collate",
    "worker_init_fn": "worker_init, which is called without arguments",
    "prefetch_factor": "max_queue_size, the number of batches computed ahead by all workers together",
    "timeout": "batch_timeout",
    "generator": "seed",
    "multiprocessing_context": "start_method",
    "in_order": "ordered",
    "persistent_workers": "not needed: workers always live across epochs",
    "rank": "shard, the pair (rank, number of ranks)",
    "num_replicas": "shard, the pair (rank, number of ranks)",
    "world_size": "shard, the pair (rank, number of ranks)",
    "pin_memory": "not needed: batches are in shared memory",
}


def reject_unknown(unknown: Iterable[str], frontend: str, known: Iterable[str], hints: Mapping[str, str]) -> None:
    """Raise a `TypeError` for the first of these names, with the option that the caller probably meant.

    Args:
        unknown: Names of arguments that do not exist.
        frontend: The name of the function or class that was called.
        known: The names of its arguments.
        hints: Remedies for names that other functions have.
    """
    for name in unknown:
        remedy = hints.get(name, "")  # before torch's names: a frontend may have another remedy for them
        if not remedy and name in _TORCH_NAMES:
            remedy = f"torch's argument {name} is called {_TORCH_NAMES[name]}"
        raise unknown_keyword(frontend, name, known, remedy)
