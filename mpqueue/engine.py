"""Puts an engine together: schedule, pipeline and backend, for the enqueuers and the loader.

All that can be refused is refused here, before any process starts.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from mpqueue.control.backend import Backend
from mpqueue.control.ledger import Ledger
from mpqueue.control.pipeline import Pipeline
from mpqueue.control.schedule import EpochSchedule
from mpqueue.stats import Statistics
from mpqueue.system.interrupts import let_through
from mpqueue.workers.local import InlineBackend, ThreadBackend
from mpqueue.workers.worker_main import Payload

StartMethod = Literal["nursery", "fork", "spawn"]
BackendName = Literal["process", "thread", "inline"]


class _Default(str):
    """A default that can be told from the same text given by the caller."""

    __slots__ = ()


# The one start method that may fall back to fork, and only where the caller has not asked for it by name.
DEFAULT_START_METHOD: Any = _Default("nursery")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The keyword-only options that enqueuers and loaders share.

    Attributes:
        seed: Random numbers and shuffled orders follow from it; None makes one from the state of `random`.
        ordered: Batches come in the order of the source, for any number of workers; False: as they are ready.
        start_method: "nursery" forks workers from a clean process, "fork" from this one, "spawn" starts interpreters.
        restarts: How many workers may die over one batch, in a row, before it is given up.
        batch_timeout: Seconds that one batch may take; the worker is then replaced and the batch tried again.
        worker_init: Called without arguments in each worker before its first item.
        max_batch_bytes: A larger batch is an error.
        copy: Every batch is a private copy instead of a view of the ring.
    """

    seed: int | None = None
    ordered: bool = True
    start_method: str = DEFAULT_START_METHOD
    restarts: int = 3
    batch_timeout: float | None = None
    worker_init: Callable[[], Any] | None = None
    max_batch_bytes: int | None = None
    copy: bool = False

    def __post_init__(self) -> None:
        if self.seed is not None and (isinstance(self.seed, bool) or not hasattr(self.seed, "__index__")):
            raise TypeError(f"seed must be an integer or None, got {self.seed!r}")
        if self.start_method not in ("nursery", "fork", "spawn"):
            raise ValueError(f'start_method must be "nursery", "fork" or "spawn", got {self.start_method!r}')
        if not hasattr(self.restarts, "__index__") or self.restarts < 0:
            raise ValueError(f"restarts must be an integer of 0 or more, got {self.restarts!r}")
        if self.batch_timeout is not None and not self.batch_timeout > 0:
            raise ValueError(f"batch_timeout must be a positive number of seconds or None, got {self.batch_timeout!r}")
        if self.worker_init is not None and not callable(self.worker_init):
            raise TypeError(f"worker_init must be callable without arguments, got {self.worker_init!r}")
        if self.max_batch_bytes is not None and self.max_batch_bytes < 1:
            raise ValueError(f"max_batch_bytes must be positive or None, got {self.max_batch_bytes!r}")


def check_counts(workers: Any, max_queue_size: Any, backend: str) -> tuple[int, int]:
    """The number of workers and of prefetched batches, if they make sense.

    Raises:
        TypeError: One is no integer.
        ValueError: Negative workers; or a queue without a bound where memory must be bounded.
    """
    for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
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


def start_backend(
    pipeline: Pipeline,
    payload: Payload,
    backend: BackendName,
    workers: int,
    seed: int,
    choices: Choices,
    skip: tuple[int, ...] = (),
) -> None:
    """Start the workers of a pipeline, and set them to work.

    Raises:
        TypeError: The source cannot be sent to worker processes, and may not be inherited by fork.
        OSError: There are not enough processes, descriptors or memory.
        Exception: What unpickling the source raised.
    """
    ledger = pipeline.ledger
    made: Backend
    if backend == "inline" or workers == 0:
        made = InlineBackend(ledger, payload, seed, seed_globals=choices.seed is not None, skip=skip)
    elif backend == "thread":
        made = ThreadBackend(
            ledger, pipeline.lock, payload, workers, seed, batch_timeout=choices.batch_timeout, skip=skip
        )
    else:
        made = _make_processes(ledger, payload, workers, seed, choices, skip)
    pipeline.start(made)


def _make_processes(
    ledger: Ledger, payload: Payload, workers: int, seed: int, choices: Choices, skip: tuple[int, ...]
) -> Backend:
    from mpqueue.workers.process import Options, ProcessBackend
    from mpqueue.workers.source_send import UnpicklableSource, take_image
    from mpqueue.workers.source_sync import SourceSync

    image = None
    if choices.start_method != "fork":
        try:
            image = let_through(take_image, payload)
        except UnpicklableSource as error:
            if not isinstance(choices.start_method, _Default):
                raise
            _announce_fork(error)
    source = payload.source
    options = Options(
        num_workers=workers,
        seed=seed,
        is_stream=ledger.is_stream,
        can_replay=callable(source) or not hasattr(source, "__next__"),
        restarts=int(choices.restarts),
        batch_timeout=choices.batch_timeout,
        max_batch_bytes=choices.max_batch_bytes,
        copy=choices.copy,
        skip=skip,
    )
    return ProcessBackend(ledger, SourceSync(payload, image, spawn=choices.start_method == "spawn"), options)


def _announce_fork(error: BaseException) -> None:
    if _has_cuda_context():
        raise RuntimeError(
            f"{error}. It could only be inherited by forking this process, which has a CUDA context, "
            "and CUDA does not survive a fork"
        ) from error
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    threads = f"; these threads of it will not exist there: {', '.join(others)}" if others else ""
    warnings.warn(
        f"{error}. So the workers are forked from this process instead{threads}",
        RuntimeWarning,
        stacklevel=_outside_stacklevel(),
    )


def _outside_stacklevel() -> int:
    """Of the first caller outside of this package, so that the warning points at the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mpqueue":
        frame, level = frame.f_back, level + 1
    return level


def _has_cuda_context() -> bool:
    """Whether a GPU driver's device file is open here."""
    try:
        fds = os.listdir("/proc/self/fd")
    except OSError:
        return False
    for fd in fds:
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/nvidia"):
                return True
        except OSError:  # closed meanwhile
            continue
    return False


def make_sequence_schedule(source: Any, seed: int, *, shuffle: bool, barrier: bool) -> EpochSchedule:
    """The order of a sequence's batches."""
    from mpqueue.sources import length_of

    return EpochSchedule(lambda: length_of(source), seed, shuffle=shuffle, barrier=barrier)


def collect(pipeline: Pipeline) -> Statistics:
    """Return the statistics of one engine; takes no lock, so that a monitoring thread never waits for a consumer."""
    counted = pipeline.backend.statistics()
    return replace(counted, batches=pipeline.ledger.num_batches, wait_s=pipeline.wait_ns / 1e9)
