"""All measurements in interleaved rounds, so that fluctuations of the machine affect all feeds."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from parts.benchmark.balance import BALANCE
from parts.benchmark.balance import WAYS as BALANCE_WAYS
from parts.benchmark.balance_training import TRAINING, trainings
from parts.benchmark.blocks import BLOCKS_WORKLOAD, block_ways
from parts.benchmark.budget import Budget
from parts.benchmark.cache import CACHE_WORKLOAD, cache_ways
from parts.benchmark.feeds import FOR_SMALL_BATCHES, OURS
from parts.benchmark.files import FILES, MEGABYTES, file_readers
from parts.benchmark.gather import Gathered
from parts.benchmark.measure import Measurement
from parts.benchmark.memory import MEASURED
from parts.benchmark.peers import missing
from parts.benchmark.programs import PROGRAMS, program_readers
from parts.benchmark.queues import QUEUES
from parts.benchmark.ray_workloads import RAY
from parts.benchmark.ray_workloads import ways as ray_ways
from parts.benchmark.records import RECORDS, readers
from parts.benchmark.results import Results
from parts.benchmark.samples import SAMPLES
from parts.benchmark.seen import SEEN, WAYS
from parts.benchmark.service import SERVICE, ways
from parts.benchmark.sparse import SPARSE_WORKLOAD, sparse_ways
from parts.benchmark.streams import STREAMS, stream_feeds
from parts.benchmark.targeted import is_repeated
from parts.benchmark.tf1 import TF1, tf1_peers
from parts.benchmark.workloads import WORKLOADS


def plan(
    workloads: Collection[str], feeds: list[str], num_workers: int, seconds: float, megabytes: int = MEGABYTES
) -> list[Measurement]:
    """Return the measurements of one round."""
    planned_round: list[Measurement] = []
    absent = missing(feeds)
    feeds = [feed for feed in feeds if feed not in absent]
    for name in workloads:
        if name in WORKLOADS:
            workload = WORKLOADS[name]
            fitting = [feed for feed in feeds if workload.is_small or feed not in FOR_SMALL_BATCHES]
            planned_round += [Measurement("floor", floor, name, num_workers, seconds) for floor in workload.floors]
            planned_round += [Measurement("feed", feed, name, num_workers, seconds) for feed in fitting]
            continue
        what, peers = _others(name)
        planned_round += [Measurement(what, peer, name, num_workers, seconds, megabytes) for peer in peers]
    # The rest does not belong to a workload.
    if "tiny" in workloads and "mpqueue" in feeds:
        planned_round.append(Measurement("latency", "mpqueue", "first batch", num_workers, seconds))
        planned_round.append(Measurement("starts", "mpqueue", "cold start", num_workers, seconds))
        planned_round += [Measurement("memory", "mpqueue", workload, num_workers, seconds) for workload in MEASURED]
    return planned_round


def _others(name: str) -> tuple[str, Iterable[str]]:
    """Return the kind of measurement of a workload that has its own peers, and those that can be measured here."""
    for what, known, peers in (
        ("queue", QUEUES, _installed),
        ("samples", SAMPLES, _installed),
        ("streams", STREAMS, lambda _: stream_feeds()),
        ("files", FILES, file_readers),
        ("records", RECORDS, lambda _: readers()),
        ("tf1", TF1, lambda _: tf1_peers()),
        ("programs", PROGRAMS, program_readers),
        ("service", SERVICE, ways),
        ("seen", SEEN, lambda _: WAYS),
        ("ray", RAY, ray_ways),
        ("balance", BALANCE, lambda _: BALANCE_WAYS),
        ("training", TRAINING, lambda _: trainings()),
        ("blocks", BLOCKS_WORKLOAD, lambda _: block_ways()),
        ("sparse", SPARSE_WORKLOAD, lambda _: sparse_ways()),
        ("cache", CACHE_WORKLOAD, lambda _: cache_ways()),
    ):
        if name in known:
            return what, peers(name)
    raise LookupError(name)


def _installed(name: str) -> list[str]:
    peers = (QUEUES | SAMPLES)[name].peers
    return [peer for peer in peers if not missing([peer])]


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
    check: Callable[[], None] = lambda: None,
) -> Results:
    """Run all rounds. If a later round is interrupted, the complete rounds before it are kept.

    Later rounds repeat all measurements if there is time for all rounds. Otherwise they repeat those with targets or on
    the front page, for as many workloads as fit into the time limit.

    Args:
        planned: The measurements of one round.
        num_rounds: Maximum number of rounds.
        gathered: Earlier results; not modified.
        report: Called before each measurement with its name, for a progress bar.
        budget: The time limit of all rounds; None for no limit.
        check: Called after each round; raises a RuntimeError if its results do not count.

    Raises:
        KeyboardInterrupt: Ctrl-C in the first round.
        RuntimeError: A measurement of mpqueue or of a floor, or the check, failed in the first round. In later rounds,
            it is reported.
    """
    budget, again = budget or Budget(), planned
    for number in range(num_rounds):
        if number == 1 and not budget.has_room_for(itertools.chain(*[planned] * (num_rounds - 1))):
            again = [one for one in planned if is_repeated(one)]
        again = budget.fitting(again) if number else planned
        if not again:
            break
        playing = copy.deepcopy(gathered)
        try:
            _play(again, playing, report, budget)
            check()
        except (KeyboardInterrupt, RuntimeError) as ended:
            if number == 0:
                raise
            if isinstance(ended, RuntimeError):
                gathered.add_broken_round(number + 1, ended)
            break
        except OutOfTimeError as ended:
            if number == 0:
                check()
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
