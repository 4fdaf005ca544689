"""All measurements, in rounds that take turns: a machine has better and worse minutes, and each feed gets its share."""

import collections
from collections.abc import Callable, Iterable

from bench.feeds import FOR_SMALL_BATCHES
from bench.measure import Measurement
from bench.queues import QUEUES
from bench.records import RECORDS, readers
from bench.report import Results
from bench.workloads import WORKLOADS


def plan(workloads: Iterable[str], feeds: list[str], num_workers: int, seconds: float) -> list[Measurement]:
    """The measurements of one round."""
    wanted = []
    for name in workloads:
        if name in QUEUES:
            wanted += [Measurement("queue", peer, name, num_workers, seconds) for peer in QUEUES[name].peers]
            continue
        if name in RECORDS:
            wanted += [Measurement("records", reader, name, num_workers, seconds) for reader in readers()]
            continue
        workload = WORKLOADS[name]
        fitting = [feed for feed in feeds if workload.is_small or feed not in FOR_SMALL_BATCHES]
        wanted += [Measurement("floor", floor, name, num_workers, seconds) for floor in workload.floors]
        wanted += [Measurement("feed", feed, name, num_workers, seconds) for feed in fitting]
    if "mpqueue" in feeds:
        wanted.append(Measurement("latency", "mpqueue", "first batch", num_workers, seconds))
    return wanted


def measure(planned: list[Measurement], num_rounds: int, told: Callable[[Measurement], None]) -> Results:
    """Play all rounds.

    Args:
        planned: The measurements of one round.
        num_rounds: How often.
        told: Called before each measurement, for a progress bar.
    """
    rates, first_batches = collections.defaultdict(list), collections.defaultdict(list)
    for one in planned * num_rounds:
        told(one)
        found = one.in_fresh_process()
        if one.what == "latency":
            for name, times in found.items():
                first_batches[name] += times
        elif one.what == "records":
            for name, rate in found.items():
                rates[one.workload, name].append(rate)
        else:
            rates[one.workload, one.name].append(found)
    return Results(dict(rates), dict(first_batches))
