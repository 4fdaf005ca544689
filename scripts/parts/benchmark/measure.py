"""One measurement in a new process, so that no peer inherits another peer's memory or threads."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import psutil

from parts.benchmark.consuming import consume
from parts.benchmark.feeds import FEEDS
from parts.benchmark.files import MEGABYTES, file_figures
from parts.benchmark.floors import FLOORS
from parts.benchmark.latency import first_batches
from parts.benchmark.memory import beyond_the_ring
from parts.benchmark.peers import PEERS
from parts.benchmark.queues import queue_rate
from parts.benchmark.ray_workloads import ray_figures
from parts.benchmark.records import record_rate
from parts.benchmark.samples import sample_rate
from parts.benchmark.seen import costs
from parts.benchmark.service import service_figures
from parts.benchmark.sizes import mean_bytes
from parts.benchmark.starts import start_times
from parts.benchmark.streams import stream_rate
from parts.benchmark.tf1 import tf1_rate
from parts.benchmark.workloads import WORKLOADS
from parts.machine import SCRIPTS

COMMAND = SCRIPTS / "benchmark.py"
DEADLOCK_S = 120.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        what: "feed" or "floor" (of a workload), "queue", "samples", "streams", "files", "records", "tf1", "service",
        "ray", "seen", "latency", "starts" or "memory".
        name: Name of the feed, floor, queue or reader.
        workload: Name of the workload.
        num_workers: Number of workers.
        seconds: Duration of counting.
        megabytes: Size of a set of files.
    """

    what: str
    name: str
    workload: str
    num_workers: int
    seconds: float
    megabytes: int = MEGABYTES

    def in_fresh_process(self) -> Any:
        """Measure in a new interpreter; return the result of `run`.

        Raises:
            RuntimeError: The measurement failed; with the output on stderr.
        """
        command = [sys.executable, str(COMMAND), "--measure", json.dumps(dataclasses.asdict(self))]
        running = subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, errors = running.communicate(timeout=DEADLOCK_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self} did not end within {DEADLOCK_S:g} s") from None
        finally:
            _end(running)
        if running.returncode:
            raise RuntimeError(f"{self} failed with exit status {running.returncode}:\n{errors}")
        return json.loads(out.splitlines()[-1])

    def run(self) -> Any:
        """Measure in this process; return batches per second, or several figures by name."""
        if self.name in PEERS and self.what != "files":
            PEERS[self.name].load()
        if self.what == "latency":
            return first_batches(self.num_workers)
        if self.what == "starts":
            return start_times()
        if self.what == "memory":
            return beyond_the_ring(self.workload, self.num_workers)
        if self.what == "queue":
            return queue_rate(self.workload, self.name, self.seconds)
        if self.what == "samples":
            return sample_rate(self.workload, self.name, self.num_workers, self.seconds)
        if self.what == "streams":
            return stream_rate(self.name, self.num_workers, self.seconds)
        if self.what == "files":
            return file_figures(self.workload, self.name, self.megabytes, self.num_workers, self.seconds)
        if self.what == "service":
            return service_figures(self.workload, self.name, self.num_workers, self.seconds)
        if self.what == "seen":
            return costs(self.workload, self.name, self.num_workers, self.seconds)
        if self.what == "ray":
            return ray_figures(self.workload, self.name, self.num_workers, self.seconds)
        if self.what == "records":
            return record_rate(self.workload, self.name, self.num_workers, self.seconds)
        if self.what == "tf1":
            return tf1_rate(self.workload, self.name, self.num_workers, self.seconds)
        workload = WORKLOADS[self.workload]
        source = workload.make()
        if self.what == "floor":
            return FLOORS[self.name](source, self.num_workers, self.seconds)
        ahead = max(workload.ahead, 2 * self.num_workers)
        found = consume(FEEDS[self.name], source, self.num_workers, ahead, self.seconds)
        return found | {"batch_mb": mean_bytes(source) / 1e6}


def _environment() -> dict[str, str]:
    """Return an environment that compiles modules once, like an installation, even if a developer disabled that."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _end(running: subprocess.Popen[str]) -> None:
    """Kill the process and its descendants if it is running, because peers leak waiting workers."""
    if running.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(running.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        running.kill()
        running.communicate()
