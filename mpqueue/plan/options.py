"""The options of enqueuers, loaders and `mpqueue.keras`: documented and checked here, once.

A face has them in its signature, so that editors and type checkers see them, and takes them from its arguments by
`Options.of`.
"""

import inspect
import operator
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, Self, TypeVar

import numpy as np

from mpqueue.plan.backend_kinds import kind_of
from mpqueue.plan.batching import FIND_THREADS, Batching
from mpqueue.plan.refused import misfit_of

StartMethod = Literal["nursery", "fork", "spawn"]
OnError = Literal["raise", "skip"]
_Face = TypeVar("_Face")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Default(str):
    """A default that differs from the same text given by the caller."""

    __slots__ = ()


# The one start method that may fall back to fork, and only where the caller has not asked for it by name.
DEFAULT_START_METHOD: Any = _Default("nursery")


def shows_options(face: type[_Face]) -> type[_Face]:
    """Have help, editors and pages of reference show a class by the options that it has.

    Its constructor also takes keywords that it does not know, to say what they are called here, and its ``__new__`` may
    take whatever the constructor takes: neither says anything to a reader.
    """
    signature = _known(face.__init__)
    for name in ("__init__", "__new__"):
        method = vars(face).get(name)
        if method is not None:
            vars(getattr(method, "__func__", method))["__signature__"] = signature
    return face


def shows_arguments(function: _Function) -> _Function:
    """Have a function shown in the same way."""
    vars(function)["__signature__"] = _known(function)
    return function


def _known(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    known = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    return signature.replace(parameters=known)


# Nothing compares them, nor jobs: a method that a dataclass makes takes 0.15 ms of each start.
@dataclass(frozen=True, kw_only=True, eq=False)
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
        trace: Path of a file in which a timeline is written, for Perfetto or Chrome: each worker and the consumer, when
            they compute, copy, wait, hold. None: ``MPQUEUE_TRACE`` says it for all of a process, or there is none.
        progress: Show a bar of tqdm for each epoch (extra ``progress``; not for Keras, whose `fit` has its own).
        monitor: ``mpqueue top`` sees what runs; ``MPQUEUE_MONITOR=1`` means the same for all of a process.
        ray_options: With ``backend="ray"``, a dict of ``num_cpus`` and ``resources`` (of each worker),
            ``scheduling_strategy``, ``runtime_env``, and ``deadline_s`` (so long a node may be silent).

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
    trace: str | os.PathLike[str] | None = None
    progress: bool = False
    monitor: bool = False
    ray_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and not _is_integer(self.seed):
            raise TypeError(f"seed must be an integer or None, got {self.seed!r}")
        check_flags(ordered=self.ordered, copy=self.copy, monitor=self.monitor, progress=self.progress)
        if self.start_method not in {"nursery", "fork", "spawn"}:
            raise ValueError(f'start_method must be "nursery", "fork" or "spawn", got {self.start_method!r}')
        if not _is_integer(self.restarts):
            raise TypeError(f"restarts must be an integer, got {self.restarts!r}")
        if self.restarts < 0:
            raise ValueError(f"restarts must be 0 or more, got {self.restarts!r}")
        _check_positive("batch_timeout", self.batch_timeout, "a number of seconds")
        _check_positive("max_batch_bytes", self.max_batch_bytes, "a number of bytes")
        _check_worker_init(self.worker_init)
        check_trace(self.trace)
        if self.progress:
            import importlib.util

            if importlib.util.find_spec("tqdm") is None:
                raise ImportError('progress=True needs tqdm: pip install "mpqueue[progress]"', name="tqdm")
        if self.ray_options is not None:
            from mpqueue.plan.ray_options import RayOptions  # most have none, and it takes a millisecond

            RayOptions.of(self.ray_options)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return those among the arguments of a call: ``Options.of(locals())``."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    @property
    def may_fall_back(self) -> bool:
        """True if the caller named no start method."""
        return isinstance(self.start_method, _Default)

    def check_backend(self, backend: str) -> None:
        """Raise a `ValueError` for what is no backend, and for options that mean nothing to this one.

        Raises:
            ValueError: As said.
            ImportError: The backend is "ray", and there is no Ray.
        """
        kind = kind_of(backend)
        if self.ray_options is not None or not kind.is_local:
            from mpqueue.plan.ray_options import check_backend

            check_backend(backend, self.ray_options)
        if self.start_method == "fork" and not kind.is_local:
            raise ValueError(
                'start_method="fork" forks this process, which is on one machine only: leave it out with backend="ray"'
            )
        if not (kind.in_processes or self.may_fall_back):
            raise ValueError(
                f"start_method={self.start_method!r} is about worker processes, and backend={backend!r} has none: "
                'leave it out, or use backend="process"'
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleOptions:
    """The options of a `Loader` about samples, ranks and errors.

    Attributes:
        shuffle: A new order for every epoch (sequences only).
        batch_size: An item of the source is a sample, and so many make a batch; of a generator function, so many
            elements in a row. None: an item is a batch.
        collate: Makes a batch of a list of samples. None: numbers and arrays are stacked; dicts, tuples, lists, named
            tuples and dataclasses are joined by field; text, bytes and other objects become lists; None stays.
        drop_last: The last batch is left out if it is short. With ranks: so many batches that each has equally many.
        sampler: An iterable of indices, in whose order samples are taken (without ``batch_size``: batches). It is
            iterated anew in each epoch, in this process, as far as batches are computed ahead; its ``set_epoch(n)`` is
            called before, where there is one.
        batch_sampler: An iterable of lists of indices, each a batch; otherwise like ``sampler``.
        shard: (rank, number of ranks): of the batches of all, this loader gives every so many-th, and as many as each
            other rank. "auto": as torch.distributed says, or jax, or RANK and WORLD_SIZE; else (0, 1).
        on_error: "raise": an exception of the source is raised in the place of its batch. "skip": the sample (without
            ``batch_size``: the batch) is left out, counted in the statistics, and logged.
        max_errors: More skipped samples in one epoch are an error (`TooManyErrors`); None: no bound.
        lanes: Into so many parts a stream is divided, over all ranks: its order follows from that and the seed, and its
            state is of use to any number of workers, and of ranks that divides it. None: 16, or the smallest multiple
            of the number of ranks above it; of a plain generator function, one for each worker.
        epoch_batches: An epoch is so many batches of a stream that never ends, on each rank, and the next epoch goes on
            behind them: what ends is begun anew. None: an epoch ends with the stream.
        threads: A worker computes the samples of a batch in so many threads: for sources that wait for disks or
            networks. More brings more requests at once, and costs memory of up to two samples each. `mpqueue.rng` is
            each sample's own; generators that threads share are seeded once for the batch. "auto": as many as pay, up
            to 32.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has an impossible value, or excludes another one.
    """

    shuffle: bool = False
    batch_size: int | None = None
    collate: Callable[[list[Any]], Any] | None = None
    drop_last: bool = False
    sampler: Iterable[Any] | None = None
    batch_sampler: Iterable[Any] | None = None
    shard: tuple[int, int] | Literal["auto"] | None = None
    on_error: OnError = "raise"
    max_errors: int | None = None
    lanes: int | None = None
    epoch_batches: int | None = None
    threads: int | Literal["auto"] = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "lanes", "epoch_batches"):
            _check_integer_or_none(name, getattr(self, name), 1)
        if self.threads != "auto":
            check_threads(self.threads)
        check_flags(shuffle=self.shuffle, drop_last=self.drop_last)
        if self.collate is not None and not callable(self.collate):
            raise TypeError(f"collate must be a function from a list of samples to a batch, got {self.collate!r}")
        for name in ("sampler", "batch_sampler"):
            _check_sampler(name, getattr(self, name))
        self._check_exclusions()
        _check_shard(self.shard)
        if self.on_error not in {"raise", "skip"}:
            raise ValueError(f'on_error must be "raise" or "skip", got {self.on_error!r}')
        _check_integer_or_none("max_errors", self.max_errors, 0)
        if self.max_errors is not None and self.on_error != "skip":
            raise ValueError('max_errors bounds what on_error="skip" leaves out: pass both, or neither')

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return those among the arguments of a call: ``SampleOptions.of(locals())``."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    @property
    def are_samples(self) -> bool:
        """True if an item of the source is a sample, not a batch."""
        return self.batch_size is not None or self.batch_sampler is not None

    @property
    def is_sampled(self) -> bool:
        """True if a sampler gives the order."""
        return self.sampler is not None or self.batch_sampler is not None

    def _check_exclusions(self) -> None:
        if self.batch_sampler is not None:
            others = {"batch_size": self.batch_size, "sampler": self.sampler, "drop_last": self.drop_last or None}
            given = [name for name, value in others.items() if value is not None]
            if given:
                raise ValueError(f"batch_sampler says all about the batches, and excludes {', '.join(given)}")
        if self.collate is not None and not self.are_samples:
            raise ValueError("collate makes batches of samples: pass batch_size (or batch_sampler), too")
        if self.drop_last and self.batch_size is None and self.shard is None:
            raise ValueError("drop_last is about a last batch that is short: pass batch_size, too")


def batching_of(options: SampleOptions, *, world: int) -> Batching:
    """Return how samples become batches.

    Args:
        options: The options about samples.
        world: The number of ranks, which all get equally many batches.
    """
    return Batching(
        None if options.batch_size is None else int(options.batch_size), options.shuffle, options.collate,
        drops=bool(options.drop_last), fills=world > 1 and not options.drop_last, skips=options.on_error == "skip",
        threads=FIND_THREADS if options.threads == "auto" else int(options.threads),
    )  # fmt: skip


def fresh_seed(*numbers: int) -> int:
    """A seed for whoever gave none: from the state of Python's `random` (not drawn from) and ``numbers``.

    So `random.seed(...)` or `keras.utils.set_random_seed(...)` makes a run reproducible, and the trainer's own numbers
    stay what they were. Where nobody has imported `random`, nobody has seeded it.
    """
    random = sys.modules.get("random")
    if random is None:  # to import it, and the hash below, takes 3 ms
        return int.from_bytes(os.urandom(8), "little")
    import hashlib

    digest = hashlib.blake2b(repr((random.getstate(), numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


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
    if max_queue_size < 0 or (max_queue_size == 0 and workers > 0 and kind_of(backend).in_processes):
        unbounded = "; 0 (unbounded) is possible with threads only: shared memory is bounded"
        raise ValueError(
            f"max_queue_size must be at least 1, got {max_queue_size}{'' if max_queue_size else unbounded}"
        )
    return workers, max_queue_size


def check_auto(name: str, number: Any, backend: str) -> bool:
    """Return whether the number of workers, or of threads, is to be found: it is "auto".

    Raises:
        ValueError: It is another text; or the workers are no processes of this machine, which are started in a moment.
    """
    if not isinstance(number, str):
        return False
    if number != "auto":
        raise ValueError(f'{name} must be a number or "auto" (as many as pay), got {number!r}')
    kind = kind_of(backend)
    if not (kind.in_processes and kind.is_local):
        raise ValueError(
            f'{name}="auto" is about worker processes of this machine, and this is backend={backend!r}: pass a number'
        )
    return True


def check_threads(threads: Any) -> int:
    """Return the number of threads in which a worker computes samples as an integer.

    Raises:
        TypeError: It is none.
        ValueError: It is below 1.
    """
    if not _is_integer(threads):
        raise TypeError(f"threads must be an integer, got {threads!r}")
    if operator.index(threads) < 1:
        raise ValueError(f"threads must be 1 (the worker's own) or more, got {threads!r}")
    return operator.index(threads)


def check_flags(**flags: Any) -> None:
    """Raise a `TypeError` that names the first that is neither true nor false."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_) and not (isinstance(value, int) and value in {0, 1}):
            raise TypeError(f"{name} must be True or False, got {value!r}")


def check_wait_time(wait_time: Any) -> None:
    """Raise a `TypeError` for what is no ``wait_time`` of an old Keras, and stands in its place by mistake."""
    if wait_time is not None and (isinstance(wait_time, bool) or not isinstance(wait_time, Real)):
        raise TypeError(f"wait_time, which has no effect here, is a number of seconds or None, got {wait_time!r}")


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
    "pin_memory": "not needed: batches lie in shared memory",
}


def refuse_torch_names(unknown: Mapping[str, Any], face: str = "Loader", **hints: str) -> None:
    """Raise a `TypeError` for the first of these arguments, which says what it is called here.

    Args:
        unknown: The arguments.
        face: What was called with them.
        **hints: What is said of other names.
    """
    for name in unknown:
        hint = f": {hints[name]}" if name in hints else ""
        if name in _TORCH_NAMES:
            hint = f": torch's {name} is here {_TORCH_NAMES[name]}"
        raise TypeError(f"{face}() got an unexpected keyword argument {name!r}{hint}")


def _is_integer(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool)
    try:
        operator.index(value)
    except TypeError:  # arrays and tensors have an __index__, which works for those of one integer
        return False
    return True


def _check_positive(name: str, value: Any, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {what} or None, got {value!r}")
    if not float(value) > 0:
        raise ValueError(f"{name} must be {what} above 0, or None, got {value!r}")


def _check_integer_or_none(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if not _is_integer(value):
        raise TypeError(f"{name} must be an integer or None, got {value!r}")
    if operator.index(value) < least:
        raise ValueError(f"{name} must be {least} or more, or None, got {value!r}")


def _check_sampler(name: str, sampler: Any) -> None:
    if sampler is None:
        return
    if inspect.isclass(sampler):
        raise TypeError(f"{name} is the class {sampler.__name__}: pass an instance of it")
    if not hasattr(sampler, "__iter__") or isinstance(sampler, str | bytes):
        raise TypeError(f"{name} must be an iterable of indices that can be iterated anew, got {sampler!r}")


def _check_shard(shard: Any) -> None:
    if shard is None or (isinstance(shard, str) and shard == "auto"):
        return
    is_pair = isinstance(shard, tuple | list) and len(shard) == 2
    if not is_pair or not all(map(_is_integer, shard)):
        kind = ValueError if isinstance(shard, str | tuple | list) and not is_pair else TypeError
        raise kind(f'shard must be (rank, number of ranks), "auto" or None, got {shard!r}')
    rank, world = map(int, shard)
    if not 0 <= rank < world:
        raise ValueError(f"shard must be (rank, number of ranks) with 0 <= rank < number of ranks, got {shard!r}")


def check_trace(trace: Any) -> None:
    """Raise for what cannot be the option `trace`.

    Raises:
        TypeError: It is no path.
        ValueError: Its folder does not exist, or it is a folder itself.
    """
    if trace is None:
        return
    if not isinstance(trace, str | os.PathLike):
        raise TypeError(f"trace must be the path of a file or None, got {trace!r}")
    if not os.fspath(trace) or os.path.isdir(trace):
        raise ValueError(f"trace must be the path of a file, got {trace!r}, which is none")
    folder = os.path.dirname(os.path.abspath(trace))
    if not os.path.isdir(folder):
        raise ValueError(f"trace must be the path of a file in a folder that exists, got {trace!r}")


def _check_worker_init(worker_init: Any) -> None:
    if worker_init is None:
        return
    if not callable(worker_init):
        raise TypeError(f"worker_init must be callable without arguments, got {worker_init!r}")
    misfit = misfit_of(worker_init)
    if misfit is not None:
        raise TypeError(
            f"worker_init is called without arguments, but {misfit.name}{misfit.signature} needs some "
            f"({misfit.reason}): ask mpqueue.worker_info() in it, whose id is the worker's number"
        )
