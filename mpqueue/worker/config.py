"""The arguments of a new worker process: its settings, its descriptors, and its payload.

The trainer creates them, a launcher transports them, and `mpqueue.worker.main` reads them in the worker.
"""

import errno
import signal
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from mpqueue.plan.options.batching import Batching, Concurrency, RunnerKind
from mpqueue.worker import queue_address
from mpqueue.worker.context import WorkerInfo

# Dumps the stacks of a worker. A real-time signal, so that SIGUSR1 and SIGUSR2 remain free for the user.
DUMP_SIGNAL = signal.SIGRTMIN + 5


class Payload(NamedTuple):
    """The part that is sent to workers once.

    Attributes:
        source: The source.
        worker_init: Called first in each worker.
        samples: How samples become batches; None if items of the source are batches.
        form: How the source is run.
        coroutines: How its coroutines run; None: it is not asynchronous.
    """

    source: Any
    worker_init: Callable[[], Any] | None
    samples: Batching | None = None
    form: RunnerKind = RunnerKind.ITEMS
    coroutines: Concurrency | None = None


class WorkerConfig(NamedTuple):
    """Settings of one worker and its pool.

    Attributes:
        info: Index of the worker, number of workers, seed.
        num_lanes: Number of lanes over all ranks; 0 if the source has an index.
        segment_bytes: Size of the ring's segment.
        segment_kind: Kind of the segment.
        stride: Address space per slot.
        max_batch_bytes: The user's limit for one batch.
        queue_directory: Where queues are found by their shared names.
        is_endless: A finished lane restarts.
        skips: A lane skips elements that raise an error.
    """

    info: WorkerInfo
    num_lanes: int
    segment_bytes: int
    segment_kind: str
    stride: int
    max_batch_bytes: int | None
    queue_directory: queue_address.QueueDirectory = queue_address.QueueDirectory()
    is_endless: bool = False
    skips: bool = False

    @property
    def is_stream(self) -> bool:
        """True if the source has lanes instead of an index."""
        return self.num_lanes > 0


class WorkerEnds(NamedTuple):
    """The descriptors of a worker process: its pipes, the ring, and the pipe for its stacks."""

    grants: int
    reports: int
    segment: int
    stacks: int

    @classmethod
    def received(cls, fds: list[int]) -> Self:
        """Return the ends for descriptors that were received.

        Raises:
            OSError: Some were lost in transfer, because this process has too many open files.
        """
        if len(fds) != 4:
            raise OSError(errno.EMFILE, f"expected 4 descriptors of a worker, got {len(fds)}; increase `ulimit -n`")
        return cls(*fds)
