"""Progress and final reports of the demo, from the `statistics()` of an enqueuer."""

import sys
import time
from typing import Any, Protocol

from tqdm import tqdm

from mpqueue.telemetry.stats import Statistics

REFRESH_S = 0.1 if sys.stderr.isatty() else 5.0  # seconds; a log needs fewer lines than a terminal


class Counting(Protocol):
    """An enqueuer, or any other object with `statistics()`."""

    def statistics(self) -> Statistics:
        """Return the counters."""
        ...


class Meter:
    """A meter of an enqueuer's work since the meter was created.

    Args:
        enqueuer: A running enqueuer.
    """

    def __init__(self, enqueuer: Counting) -> None:
        self._enqueuer = enqueuer
        self._before, self._began = enqueuer.statistics(), time.perf_counter()

    def __str__(self) -> str:
        now, elapsed = self._enqueuer.statistics(), time.perf_counter() - self._began
        rate = (now.bytes - self._before.bytes) / elapsed
        waited = (now.wait_s - self._before.wait_s) / elapsed
        return f"{rate / 1e6:,.0f} MB/s, ring {now.slots_in_use}/{now.num_slots}, trainer waited {waited:.0%}"

    def verdict(self, num_workers: int, num_cpus: int) -> str:
        """Return a sentence that names the bottleneck and a remedy."""
        now, elapsed = self._enqueuer.statistics(), time.perf_counter() - self._began
        waited = (now.wait_s - self._before.wait_s) / elapsed
        idle = (now.credit_wait_s - self._before.credit_wait_s) / (elapsed * num_workers)
        if waited < idle:
            return (
                f"The consumer is the bottleneck: the workers waited {idle:.0%} of the time, the consumer "
                f"{waited:.0%}; a faster training step helps, more workers do not."
            )
        if num_workers < num_cpus:
            remedy = f"use one for each of the {num_cpus} CPUs: --workers {num_cpus}."
        else:
            computed = (now.compute_s - self._before.compute_s) / max(1, now.batches - self._before.batches)
            remedy = (
                f"all {num_cpus} CPUs have a worker already, so reduce the {1e3 * computed:.0f} ms per batch "
                "(smaller files, less augmentation), or use a machine with more CPUs."
            )
        return f"The workers are the bottleneck: the trainer waited {waited:.0%} of the time; {remedy}"


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar that counts batches and shows the statistics of an enqueuer.

    Args:
        enqueuer: The running enqueuer of the loop.
        options: Options of tqdm.
    """

    def __init__(self, enqueuer: Counting, **options: Any) -> None:
        super().__init__(unit=" batches", mininterval=REFRESH_S, **options)
        self.meter, self._shown = Meter(enqueuer), time.perf_counter()

    def count(self) -> None:
        """Count a batch."""
        now = time.perf_counter()
        if now - self._shown > REFRESH_S or self.n + 1 == self.total:
            self._shown = now
            self.set_postfix_str(str(self.meter), refresh=False)
        self.update()


def table(images_per_second: dict[str, float]) -> str:
    """Return the rates and their ratios, one per line."""
    slowest = next(iter(images_per_second.values()))
    lines = (f"{name:12}{rate:8,.0f} images/s{rate / slowest:8.2f} x" for name, rate in images_per_second.items())
    return "\n".join(lines)
