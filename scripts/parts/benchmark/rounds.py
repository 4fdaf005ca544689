"""All measurements in interleaved rounds, so that fluctuations of the machine affect all feeds."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from parts.benchmark.budget import Budget
from parts.benchmark.feeds import FOR_SMALL_BATCHES, INLINE, OURS
from parts.benchmark.files import FILES, MEGABYTES, file_readers
from parts.benchmark.gather import Gathered
from parts.benchmark.measure import Measurement
from parts.benchmark.memory import MEASURED
from parts.benchmark.peers import missing
from parts.benchmark.queues import QUEUES
from parts.benchmark.ray_workloads import RAY
from parts.benchmark.ray_workloads import ways as ray_ways
from parts.benchmark.records import RECORDS, readers
from parts.benchmark.results import Results
from parts.benchmark.samples import SAMPLES
from parts.benchmark.seen import SEEN, WAYS
from parts.benchmark.service import SERVICE, ways
from parts.benchmark.streams import STREAMS, stream_feeds
from parts.benchmark.targeted import has_target
from parts.benchmark.tf1 import TF1, tf1_peers
from parts.benchmark.workloads import WORKLOADS


def plan(
    workloads: Collection[str], feeds: list[str], num_workers: int, seconds: float, megabytes: int = MEGABYTES
) -> list[Measurement]:
    """Return the measurements of one round."""
    planned_round, absent = [], missing(feeds)
    feeds = [feed for feed in feeds if feed not in absent]
    for name in workloads:
        if name in QUEUES:
            peers = [peer for peer in QUEUES[name].peers if not missing([peer])]
            planned_round += [Measurement("queue", peer, name, num_workers, seconds) for peer in peers]
            continue
        if name in SAMPLES:
            peers = [peer for peer in SAMPLES[name].peers if not missing([peer])]
            planned_round += [Measurement("samples", peer, name, num_workers, seconds) for peer in peers]
            continue
        if name in STREAMS:
            planned_round += [Measurement("streams", feed, name, num_workers, seconds) for feed in stream_feeds()]
            continue
        if name in FILES:
            planned_round += [
                Measurement("files", reader, name, num_workers, seconds, megabytes) for reader in file_readers(name)
            ]
            continue
        if name in RECORDS:
            planned_round += [Measurement("records", reader, name, num_workers, seconds) for reader in readers()]
            continue
        if name in TF1:
            planned_round += [Measurement("tf1", peer, name, num_workers, seconds) for peer in tf1_peers()]
            continue
        if name in SERVICE:
            planned_round += [Measurement("service", way, name, num_workers, seconds) for way in ways(name)]
            continue
        if name in SEEN:
            planned_round += [Measurement("seen", way, name, num_workers, seconds) for way in WAYS]
            continue
        if name in RAY:
            planned_round += [Measurement("ray", way, name, num_workers, seconds) for way in ray_ways(name)]
            continue
        workload = WORKLOADS[name]
        fitting = [feed for feed in feeds if workload.is_small or feed not in FOR_SMALL_BATCHES]
        planned_round += [Measurement("floor", floor, name, num_workers, seconds) for floor in workload.floors]
        planned_round += [Measurement("feed", feed, name, num_workers, seconds) for feed in fitting]
    if "tiny" not in workloads:
        return planned_round  # the rest does not belong to a workload, so only one part of a combined run measures it
    waiting = [feed for feed in feeds if feed not in (INLINE, *FOR_SMALL_BATCHES)]
    planned_round += [Measurement("wake-up", feed, "wake-up", 1, seconds) for feed in waiting]
    if "mpqueue" in feeds:
        planned_round.append(Measurement("latency", "mpqueue", "first batch", num_workers, seconds))
        planned_round.append(Measurement("starts", "mpqueue", "cold start", num_workers, seconds))
        planned_round += [Measurement("memory", "mpqueue", workload, num_workers, seconds) for workload in MEASURED]
    return planned_round


class OutOfTimeError(Exception):
    """The time limit is exceeded.

    Args:
        left_out: Measurements that were not made.
    """

    def __init__(self, left_out: list[Measurement]) -> None:
        super().__init__(left_out)
        self.left_out = left_out


def measure(
    planned: list[Measurement],
    num_rounds: int,
    gathered: Gathered,
    report: Callable[[str], None],
    budget: Budget | None = None,
) -> Results:
    """Run all rounds. If a later round is interrupted, the complete rounds before it are kept.

    Later rounds repeat all measurements if there is time for all rounds. Otherwise they repeat the measurements with
    targets, for as many workloads as fit into the time limit.

    Args:
        planned: The measurements of one round.
        num_rounds: Maximum number of rounds.
        gathered: Earlier results; not modified.
        report: Called before each measurement with its name, for a progress bar.
        budget: The time limit of all rounds; None for no limit.

    Raises:
        KeyboardInterrupt: Ctrl-C in the first round.
        RuntimeError: A measurement of mpqueue or of a floor failed in the first round. In later rounds, it is reported.
    """
    budget, again = budget or Budget(), planned
    for number in range(num_rounds):
        if number == 1 and not budget.has_room_for(itertools.chain(*[planned] * (num_rounds - 1))):
            again = [one for one in planned if has_target(one)]
        again = budget.fitting(again) if number else planned
        if not again:
            break
        playing = copy.deepcopy(gathered)
        try:
            _play(again, playing, report, budget)
        except (KeyboardInterrupt, RuntimeError) as ended:
            if number == 0:
                raise
            if isinstance(ended, RuntimeError):
                gathered.add_broken_round(number + 1, ended)
            break
        except OutOfTimeError as ended:
            if number == 0:
                gathered = playing
                gathered.add_left_out(ended.left_out)
            break
        gathered = playing
    return dataclasses.replace(gathered.results(), took_s=budget.took())


def _play(planned: list[Measurement], gathered: Gathered, report: Callable[[str], None], budget: Budget) -> None:
    for number, one in enumerate(planned):
        if not budget.left_s():
            raise OutOfTimeError(planned[number:])
        report(f"{one.what} {one.workload}: {one.name}")
        if not gathered.is_hopeless(one):
            budget.spend(one, partial(_add, gathered))


def _add(gathered: Gathered, one: Measurement) -> None:
    try:
        gathered.add(one, _found(one))
    except RuntimeError as error:
        gathered.add_failure(one, error)


def _found(one: Measurement) -> Any:
    try:
        return one.in_fresh_process()
    except RuntimeError:
        if one.name in OURS:
            raise
    # If a Pool kills a worker that is writing, it hangs at the worker's lock, so a peer gets a second try.
    return one.in_fresh_process()
