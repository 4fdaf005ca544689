"""The things that a worker process is started with: its settings, its descriptors, and what it is to run.

The trainer makes these, a launcher carries them, and the worker's `mpqueue.worker.main` reads them.
"""

import errno
import signal
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from mpqueue.engine import queue_address
from mpqueue.plan.batching import Batching, Form
from mpqueue.system import platform_support
from mpqueue.worker.context import WorkerInfo

# Dumps the stacks of a worker; a real-time signal, so that the user's SIGUSR1 and SIGUSR2 stay free.
DUMP_SIGNAL = signal.SIGRTMIN + 5 if platform_support.HAS_REAL_TIME_SIGNALS else signal.SIGUSR2


class Payload(NamedTuple):
    """The part that is sent to workers once.

    Attributes:
        source: The source.
        worker_init: Called first by each worker.
        samples: How the samples of the source become batches; None: it gives batches.
        form: How the source is run.
    """

    source: Any
    worker_init: Callable[[], Any] | None
    samples: Batching | None = None
    form: Form = Form.ITEMS


class WorkerConfig(NamedTuple):
    """Settings of one worker and its pool.

    Attributes:
        info: Number of the worker, number of workers, seed.
        num_lanes: Lanes of all ranks, if the source is a stream; 0: it has an index.
        segment_bytes: Size of the ring's segment.
        segment_kind: Its kind.
        stride: Address space per slot.
        max_batch_bytes: The user's bound.
        queue_directory: Where queues are found by their shared names.
        is_endless: A lane that has ended begins anew.
        skips: A lane leaves out what the source raises for.
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
    """The descriptors of a worker process: its pipes, the ring, and where its stacks are dumped (-1: nowhere)."""

    grants: int
    reports: int
    segment: int
    stacks: int

    @classmethod
    def received(cls, fds: list[int]) -> Self:
        """From the descriptors that `sent` gave to the sender.

        Raises:
            OSError: Some were lost on the way, because this process has too many open.
        """
        if not 3 <= len(fds) <= 4:
            raise OSError(errno.EMFILE, f"{len(fds)} of the descriptors of a worker arrived; check `ulimit -n`")
        grants, reports, segment, *stacks = fds
        return cls(grants, reports, segment, stacks[0] if stacks else -1)

    @property
    def sent(self) -> list[int]:
        """The descriptors that there are."""
        return [fd for fd in self if fd >= 0]
