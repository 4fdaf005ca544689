"""One measurement. It is made in a fresh process: no peer inherits what another one left in memory or in threads."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.feeds import FEEDS
from bench.floors import FLOORS, WARM_UP_S
from bench.latency import first_batches
from bench.queues import queue_rate
from bench.records import record_rate
from bench.workloads import WORKLOADS

COMMAND = Path(__file__).resolve().parent.parent / "benchmark.py"
DEADLOCK_S = 120.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What to measure.

    Attributes:
        what: "feed" or "floor" (of a workload), "queue", "records", or "latency".
        name: Which feed, floor, queue or reader.
        workload: Of which workload.
        num_workers: With how many workers.
        seconds: For how long batches are counted.
    """

    what: str
    name: str
    workload: str
    num_workers: int
    seconds: float

    def in_fresh_process(self) -> Any:
        """Measure in a new interpreter; what `run` returns there.

        Raises:
            RuntimeError: It failed; with what it wrote to its stderr.
        """
        command = [sys.executable, str(COMMAND), "--measure", json.dumps(dataclasses.asdict(self))]
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, timeout=DEADLOCK_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self} failed with exit status {done.returncode}:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def run(self) -> Any:
        """Measure here: batches per second, for records their rates by name, for the latency milliseconds by name."""
        if self.what == "latency":
            return first_batches(self.num_workers)
        if self.what == "queue":
            return queue_rate(self.workload, self.name, self.seconds)
        if self.what == "records":
            return record_rate(self.workload, self.name, self.num_workers, self.seconds)
        workload = WORKLOADS[self.workload]
        source = workload.make()
        if self.what == "floor":
            return FLOORS[self.name](source, self.num_workers, self.seconds)
        with FEEDS[self.name](source, self.num_workers, workload.ahead) as batches:
            return _rate(batches, self.seconds, 4 * workload.ahead)


def _environment() -> dict[str, str]:
    """Modules are compiled once, as installed ones are, also where a developer has switched that off."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _rate(batches: Any, seconds: float, num_warm: int) -> float:
    warm_at = time.perf_counter() + WARM_UP_S
    for number, _ in enumerate(batches):
        if number >= num_warm and time.perf_counter() >= warm_at:
            break
    began = time.perf_counter()
    for counted in itertools.count(1):
        next(batches)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return counted / elapsed
    raise AssertionError("count() has no end")
