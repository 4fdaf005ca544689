"""One measurement in a new process, so that no peer inherits another peer's memory or threads."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil

from parts.benchmark.balance import balance_figures
from parts.benchmark.balance_training import training_rate
from parts.benchmark.blocks import block_figures
from parts.benchmark.cache import cache_figures
from parts.benchmark.consuming import consume
from parts.benchmark.feeds import FEEDS
from parts.benchmark.files import MEGABYTES, file_figures
from parts.benchmark.floors import FLOORS
from parts.benchmark.latency import first_batches
from parts.benchmark.memory import beyond_the_ring
from parts.benchmark.peers import PEERS
from parts.benchmark.programs import program_rate
from parts.benchmark.queues import queue_rate
from parts.benchmark.quiet import MARK
from parts.benchmark.ray_workloads import ray_figures
from parts.benchmark.records import record_rate
from parts.benchmark.samples import sample_rate
from parts.benchmark.seen import costs
from parts.benchmark.service import service_figures
from parts.benchmark.sizes import mean_bytes
from parts.benchmark.sparse import sparse_figures
from parts.benchmark.starts import start_times
from parts.benchmark.streams import stream_rate
from parts.benchmark.tf1 import tf1_rate
from parts.benchmark.workloads import WORKLOADS
from parts.machine import SCRIPTS

COMMAND = SCRIPTS / "benchmark.py"
DEADLOCK_S = 120.0
# Functions of a workload, a name, the number of workers, and seconds.
_WITH_WORKERS: dict[str, Callable[[str, str, int, float], Any]] = {
    "samples": sample_rate, "service": service_figures, "seen": costs, "ray": ray_figures, "records": record_rate,
    "tf1": tf1_rate, "programs": program_rate,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        what: "feed" or "floor" (of a workload), "queue", "samples", "streams", "files", "records", "tf1", "programs",
        "service", "ray", "seen", "balance", "training", "blocks", "sparse", "cache", "latency", "starts" or
        "memory".
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
        if self.name in PEERS and self.what not in ("files", "programs"):
            PEERS[self.name].load()
        workers, seconds = self.num_workers, self.seconds
        measures: dict[str, Callable[[], Any]] = {
            "latency": lambda: first_batches(workers),
            "starts": start_times,
            "memory": lambda: beyond_the_ring(self.workload, workers),
            "queue": lambda: queue_rate(self.workload, self.name, seconds),
            "streams": lambda: stream_rate(self.name, workers, seconds),
            "balance": lambda: balance_figures(self.name),
            "training": lambda: training_rate(self.name),
            "blocks": lambda: block_figures(self.name),
            "sparse": lambda: sparse_figures(self.name),
            "cache": lambda: cache_figures(self.name),
            "files": lambda: file_figures(self.workload, self.name, self.megabytes, workers, seconds),
        }
        if self.what in measures:
            return measures[self.what]()
        if self.what in _WITH_WORKERS:
            return _WITH_WORKERS[self.what](self.workload, self.name, workers, seconds)
        workload = WORKLOADS[self.workload]
        source = workload.make()
        if self.what == "floor":
            return FLOORS[self.name](source, workers, seconds)
        found = consume(FEEDS[self.name], source, workers, max(workload.ahead, 2 * workers), seconds)
        return found | {"batch_mb": mean_bytes(source) / 1e6}


def _environment() -> dict[str, str]:
    """Return an environment that compiles modules once, like an installation, even if a developer disabled that."""
    names = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return names | {MARK: str(os.getpid())}


def _end(running: subprocess.Popen[str]) -> None:
    """Kill the process and its descendants if it is running, because peers leak waiting workers."""
    if running.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(running.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        running.kill()
        running.communicate()
