"""Growth of memory, descriptors, threads and processes with the number of batches."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import psutil

from mpqueue import Loader
from parts.processes import family, memory_of
from parts.soak.rounds import Deviation, Round

_MAX_GROWTH = {
    "private_bytes": 64 << 10,
    "shared_bytes": 64 << 10,
    "descriptors": 0.2,
    "threads": 0.1,
    "processes": 0.1,
}


class Sample(NamedTuple):
    """Resources of this process and its descendants.

    Attributes:
        batches: Batches delivered so far.
        private_bytes: Anonymous memory of all processes, with shared pages counted once.
        shared_bytes: Memory of the rings.
        descriptors: Open descriptors of all processes.
        threads: Threads of all processes.
        processes: Number of processes.
    """

    batches: int
    private_bytes: int
    shared_bytes: int
    descriptors: int
    threads: int
    processes: int


def sample(batches: int, ring_bytes: int = 0) -> Sample:
    """Return the resources that are in use now."""
    private = descriptors = threads = processes = 0
    for process in family():
        with contextlib.suppress(psutil.Error, OSError):
            private += memory_of(process).get("Pss_Anon:", 0)
            descriptors += len(os.listdir(f"/proc/{process.pid}/fd"))
            threads += process.num_threads()
            processes += 1
    return Sample(batches, private, ring_bytes, descriptors, threads, processes)


def slopes(samples: list[Sample]) -> dict[str, float]:
    """Return the growth of each resource per thousand batches, over the second half. The first half is the warm-up."""
    late = samples[len(samples) // 2 :]
    if len(late) < 4:
        return {}
    thousands = np.array([one.batches for one in late]) / 1000
    return {
        name: float(np.polyfit(thousands, [getattr(one, name) for one in late], 1)[0]) for name in Sample._fields[1:]
    }


def as_text(samples: list[Sample]) -> str:
    """Return the slopes, and the first and last values of the second half."""
    found = slopes(samples)
    if not found:
        return "growth: too few samples"
    first, last = samples[len(samples) // 2], samples[-1]

    def line(name: str) -> str:
        unit: Any = 2**20 if name.endswith("bytes") else 1
        values = getattr(first, name) / unit, getattr(last, name) / unit, found[name] / unit
        return "  {:16}{:10.1f} -> {:10.1f}   {:+.4f} per 1,000 batches".format(name.replace("_bytes", " MiB"), *values)

    head = f"from batch {first.batches:,} to {last.batches:,}:"
    return "\n".join([head, *map(line, found)])


def require_none(samples: list[Sample]) -> None:
    """Raise a `Deviation` if a resource has grown."""
    for name, slope in slopes(samples).items():
        if slope > _MAX_GROWTH[name]:
            raise Deviation(f"{name} grow by {slope} per 1,000 batches")


class LongRound(Round):
    """One load with crashes.

    Args:
        seed: Seed of the load.
        length: Number of batches.

    Attributes:
        samples: About 200 samples.
    """

    def __init__(self, seed: int, length: int) -> None:
        super().__init__(seed)
        self.is_stream = self.is_laned = False
        self.length, self.num_epochs, self.ordered = length, 1, True
        self.one_in, self.kills_one_in, self.keeps, self.leaves_early = 500, 2000, 0.0, 0.0
        self.options = {"workers": 2, "max_queue_size": 16, "restarts": 20, "start_method": "forkserver"}
        self.samples: list[Sample] = []

    def epoch(self, loader: Loader, epoch: int) -> None:
        """Read the epoch, and sample the resources."""
        super().epoch(self._sampled(loader), epoch)

    def _sampled(self, loader: Loader) -> Iterator[Any]:
        for index, batch in enumerate(loader):
            yield batch
            if index % max(1, self.length // 200) == 0:
                self.samples.append(sample(index, loader.statistics().ring_bytes))
