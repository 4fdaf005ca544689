"""Formats the results for a terminal or as JSON, with mpqueue's targets."""

import dataclasses
import json
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import psutil

import mpqueue
from parts.benchmark import costs, goals, remote_files
from parts.benchmark.balance_training import TRAINING, trainings
from parts.benchmark.cells import ON_ONE_CORE, OURS, cell
from parts.benchmark.feeds import THREADS
from parts.benchmark.files import FILES, PER_CPU, absent_readers
from parts.benchmark.goals import verdict
from parts.benchmark.programs import PROGRAMS, absent_from_program
from parts.benchmark.queues import STANDARD
from parts.benchmark.ray_peers import ACTORS
from parts.benchmark.ray_workloads import LOCAL
from parts.benchmark.records import RECORDS, python_with_tensorflow
from parts.benchmark.results import DESCRIBED, Results
from parts.benchmark.service import ONE_CONSUMER, ONE_LOADER, OWN_LOADERS, SERVICE
from parts.benchmark.service_peers import absent
from parts.benchmark.streams import FEEDS as STREAM_FEEDS
from parts.benchmark.streams import STREAMS
from parts.benchmark.streams import absent as absent_of_streams
from parts.benchmark.tf1 import IN_THREADS, QUEUES, TF1


@dataclasses.dataclass(frozen=True)
class Target:
    """A target ratio of two rates of one run."""

    workload: str
    against: str
    at_least: float
    ours: str = OURS


TARGETS = (
    Target("tiny", "imap", 5.0),
    Target("tiny", "keras threads", 2.5),
    Target("tiny", "keras threads", 1.0, THREADS),
    Target("tiny", "faster-fifo", 1.7),
    Target("image", "slots", 0.95),
    Target("image in place", "memcpy", 0.8),
    Target("image in place", "shared writes", 0.95),
    Target("large", "slots", 0.95),
    Target("large in place", "shared writes", 0.95),
    Target("decode", "processes", 0.98),
    Target("strings", "keras threads", 1.0),
    Target("strings", "faster-fifo", 1.0),
    Target("samples", "torch", 3.0),
    Target("small samples", "torch", 5.0),
    *(Target("streams", peer, 3.0) for peer in STREAM_FEEDS if peer != OURS),
    *(
        Target(workload, peer, 1.5)
        for workload in FILES
        if FILES[workload].measure is None and workload not in ("files folder", "files json lines", "files decoded")
        for peer in FILES[workload].readers
        if not peer.startswith(OURS)
    ),
    *(Target(workload, remote_files.LINK, 0.9) for workload in ("files far", "files far large")),
    Target("files decoded" + PER_CPU, "torch", 1.5),
    Target("files decoded" + PER_CPU, "spdl", 1.0),
    Target("queue", STANDARD, 3.0),
    Target("queue of batches", STANDARD, 20.0),
    Target("shuffled queue", "FIFOQueue", 0.66),
    Target("queue of images", STANDARD, 10.0),
    Target("image records", "TensorFlow queues", 1.0),
    Target("tabular records", "TensorFlow queues", 1.0),
    Target("mixed records", "TensorFlow queues", 1.0),
    Target("csv", "TensorFlow queues", 1.0),
    Target("tf1 csv", QUEUES, 3.0),
    Target("tf1 csv", QUEUES, 1.5, IN_THREADS),
    Target("tf1 image", QUEUES, 2.0),
    Target("tf1 image", QUEUES, 1.2, IN_THREADS),
    Target("service broadcast", ONE_CONSUMER, 3.8),
    Target("service decode", OWN_LOADERS, 3.8),
    Target("service split", ONE_LOADER, 0.95),
    Target("service split small", ONE_LOADER, 0.95),
    Target("ray image", ACTORS, 1.5),
    Target("ray small", ACTORS, 5.0),
    Target("ray decode", LOCAL, 0.9),
)
RATES = {("large records", OURS + ON_ONE_CORE): 1000.0, ("service tiny", OURS): 25_000.0}
FIRST_BATCH_MS = {"cold": 120.0, "parked": 5.0, "next epoch": 2.0}


def as_text(results: Results) -> str:
    """Return the results for a terminal."""
    lines, last = [machine()], None
    for workload, name, rate, spread in results.rows():
        if workload != last:
            lines += ["", f"{workload}: {DESCRIBED[workload].about}"]
            last = workload
        ratio = None if name.startswith(OURS) else results.ratio(workload, name)
        relative = "" if ratio is None else f"   mpqueue / loader {ratio:.2f}"
        around = "one round" if spread is None else f"+-{spread:4.0%}"
        lines.append(f"  {name:30}{rate:>12,} {DESCRIBED[workload].unit:10} {around:9}{relative}")
    return "\n".join([*lines, *costs.as_text(results), "", *_target_lines(results)])


def _target_lines(results: Results) -> Iterator[str]:
    """Yield the targets, each with its verdict."""
    for target in TARGETS:
        ratio = results.ratio(target.workload, target.against, target.ours)
        name = target.workload if target.ours == OURS else f"{target.workload}, {target.ours}"
        goal = f"{target.against}, target at least {target.at_least:g}"
        if ratio is not None:
            yield f"{name}: {ratio:.2f} times {goal}: {verdict(ratio >= target.at_least)}"
        elif target.against in results.missing and (target.workload, "mpqueue") in results.rates:
            yield f"{target.workload}: ? times {goal}: (peer missing)"
    for workload, name, rate, _ in results.rows():
        if (workload, name) in RATES:
            figure = f"{rate:,} {DESCRIBED[workload].unit}, target at least {cell(RATES[workload, name]):,}"
            yield f"{workload}, {name}: {figure}: {verdict(rate >= RATES[workload, name])}"
    if any(workload in RECORDS | TF1 for workload, _ in results.rates) and python_with_tensorflow() is None:
        yield "TensorFlow is not installed: not measured (set MPQUEUE_PEERS_PYTHON to an interpreter with TensorFlow)"
    yield from _without(results)
    yield from goals.lines(results)
    for name, times in results.first_batches.items():
        median, limit = statistics.median(times), FIRST_BATCH_MS.get(name)
        figure = f"first batch, {name}: {median:.1f} ms ({min(times):.1f} to {max(times):.1f})"
        yield figure if limit is None else f"{figure}, target at most {limit:g}: {verdict(median <= limit)}"
    for name in results.missing:
        yield f"{name} is not installed: not measured (python3 -m pip install --group peers)"
    if results.left_out:
        yield f"not measured within the time limit: {', '.join(results.left_out)}"
    for workload in results.without_ray:
        yield f"{workload}: Ray is not installed: not measured (python3 -m pip install '.[ray]')"
    for (workload, name), why in results.failed.items():
        yield f"{workload}: {name} failed: {why}"


def _targets(results: Results) -> Iterator[dict[str, object]]:
    """Yield each target ratio with two measured rates."""
    for target in TARGETS:
        ratio = results.ratio(target.workload, target.against, target.ours)
        if ratio is not None:
            yield dataclasses.asdict(target) | {"ratio": ratio}


def _without(results: Results) -> Iterator[str]:
    """Yield a line for each missing peer of a workload with its own peers."""
    for workload in sorted({workload for workload, _ in results.rates}):
        for peer in _absent_peers(workload):
            yield f"{workload}: {peer} is not installed: not measured (python3 -m pip install --group peers)"


def _absent_peers(workload: str) -> Iterable[str]:
    if workload in STREAMS:
        return absent_of_streams()
    if workload in TRAINING:
        return () if trainings() else ["torch"]
    if workload in FILES:
        return absent_readers(workload)
    if workload in PROGRAMS:
        return absent_from_program(workload)
    return [peer for peer in SERVICE[workload].peers if peer in absent()] if workload in SERVICE else []


def as_json(results: Results) -> str:
    """Return all results as JSON."""
    rates = [
        {"workload": workload, "name": name, "unit": DESCRIBED[workload].unit, "rates": results.rates[workload, name]}
        | {"median": rate, "spread": spread}
        for workload, name, rate, spread in results.rows()
    ]
    costs_of_feeds = [{"workload": workload, "name": name} | found for (workload, name), found in results.costs.items()]
    document = {"machine": machine(), "workers": results.num_workers, "rates": rates, "costs": costs_of_feeds}
    document |= {
        "first_batch_ms": results.first_batches,
        "starts_ms": results.starts,
    }
    document |= {"took_s": results.took_s, "left_out": results.left_out}
    document |= {
        "beyond_ring_mb": results.memory,
        "service": [
            {"workload": workload, "name": name} | found for (workload, name), found in results.service.items()
        ],
        "missing": results.missing,
        "failed": [[*key, why] for key, why in results.failed.items()],
    }
    document |= {"targets": list(_targets(results)), "verdicts": list(_target_lines(results))}
    document |= {"cost_heads": costs.HEADS, "cost_rows": list(costs.rows(results))}
    return json.dumps(document, indent=1)


def machine() -> str:
    """Return the versions and the machine of the measurement."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"mpqueue {mpqueue.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"{platform.machine()} {platform.system()} with {psutil.cpu_count()} CPUs and {memory:.0f} GiB"
    )
