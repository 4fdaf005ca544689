"""All measurements, in rounds that take turns: a machine has better and worse minutes, and each feed gets its share."""

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
from parts.benchmark.tf1 import TF1, tf1_peers
from parts.benchmark.wanted import is_wanted
from parts.benchmark.workloads import WORKLOADS


def plan(
    workloads: Collection[str], feeds: list[str], num_workers: int, seconds: float, megabytes: int = MEGABYTES
) -> list[Measurement]:
    """The measurements of one round."""
    wanted, absent = [], missing(feeds)
    feeds = [feed for feed in feeds if feed not in absent]
    for name in workloads:
        if name in QUEUES:
            peers = [peer for peer in QUEUES[name].peers if not missing([peer])]
            wanted += [Measurement("queue", peer, name, num_workers, seconds) for peer in peers]
            continue
        if name in SAMPLES:
            peers = [peer for peer in SAMPLES[name].peers if not missing([peer])]
            wanted += [Measurement("samples", peer, name, num_workers, seconds) for peer in peers]
            continue
        if name in STREAMS:
            wanted += [Measurement("streams", feed, name, num_workers, seconds) for feed in stream_feeds()]
            continue
        if name in FILES:
            wanted += [
                Measurement("files", reader, name, num_workers, seconds, megabytes) for reader in file_readers(name)
            ]
            continue
        if name in RECORDS:
            wanted += [Measurement("records", reader, name, num_workers, seconds) for reader in readers()]
            continue
        if name in TF1:
            wanted += [Measurement("tf1", peer, name, num_workers, seconds) for peer in tf1_peers()]
            continue
        if name in SERVICE:
            wanted += [Measurement("service", way, name, num_workers, seconds) for way in ways(name)]
            continue
        if name in SEEN:
            wanted += [Measurement("seen", way, name, num_workers, seconds) for way in WAYS]
            continue
        if name in RAY:
            wanted += [Measurement("ray", way, name, num_workers, seconds) for way in ray_ways(name)]
            continue
        workload = WORKLOADS[name]
        fitting = [feed for feed in feeds if workload.is_small or feed not in FOR_SMALL_BATCHES]
        wanted += [Measurement("floor", floor, name, num_workers, seconds) for floor in workload.floors]
        wanted += [Measurement("feed", feed, name, num_workers, seconds) for feed in fitting]
    if "tiny" not in workloads:
        return wanted  # what follows is of no workload: one part of a run that is made in parts has it
    waiting = [feed for feed in feeds if feed not in (INLINE, *FOR_SMALL_BATCHES)]
    wanted += [Measurement("wake-up", feed, "wake-up", 1, seconds) for feed in waiting]
    if "mpqueue" in feeds:
        wanted.append(Measurement("latency", "mpqueue", "first batch", num_workers, seconds))
        wanted.append(Measurement("starts", "mpqueue", "cold start", num_workers, seconds))
        wanted += [Measurement("memory", "mpqueue", workload, num_workers, seconds) for workload in MEASURED]
    return wanted


class OutOfTimeError(Exception):
    """The budget is spent.

    Args:
        left_out: What was not measured.
    """

    def __init__(self, left_out: list[Measurement]) -> None:
        super().__init__(left_out)
        self.left_out = left_out


def measure(
    planned: list[Measurement],
    num_rounds: int,
    gathered: Gathered,
    told: Callable[[str], None],
    budget: Budget | None = None,
) -> Results:
    """Play all rounds; what ends them after the first one leaves the whole ones, for all of it takes long.

    The rounds after the first one are of all measurements if there is time for all of these rounds, and else of those
    that a figure to be reached needs, of as many workloads as there is time for.

    Args:
        planned: The measurements of one round.
        num_rounds: How often, at most.
        gathered: What was found before; it stays as it is.
        told: Called before each measurement with what it is, for a progress bar.
        budget: The time that all rounds may take; without an end if it is not given.

    Raises:
        KeyboardInterrupt: Ctrl-C in the first round.
        RuntimeError: A measurement of mpqueue, or of a floor, failed in the first round; in a later one it is reported.
    """
    budget, again = budget or Budget(), planned
    for number in range(num_rounds):
        if number == 1 and not budget.has_room_for(itertools.chain(*[planned] * (num_rounds - 1))):
            again = [one for one in planned if is_wanted(one)]
        again = budget.fitting(again) if number else planned
        if not again:
            break
        playing = copy.deepcopy(gathered)
        try:
            _play(again, playing, told, budget)
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


def _play(planned: list[Measurement], gathered: Gathered, told: Callable[[str], None], budget: Budget) -> None:
    for number, one in enumerate(planned):
        if not budget.left_s():
            raise OutOfTimeError(planned[number:])
        told(f"{one.what} {one.workload}: {one.name}")
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
    # A Pool that kills a worker which is writing waits for its lock for ever: that is no figure of the peer's.
    return one.in_fresh_process()
