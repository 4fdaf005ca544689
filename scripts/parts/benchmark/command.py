"""Runs the command line of `scripts/benchmark.py`."""

import argparse
import json
import math
from collections.abc import Callable, Iterable

from tqdm import tqdm

from parts.benchmark import report
from parts.benchmark.balance import BALANCE
from parts.benchmark.balance_training import TRAINING
from parts.benchmark.blocks import BLOCKS_WORKLOAD
from parts.benchmark.budget import CHOICES_S, Budget, expected_s
from parts.benchmark.cache import CACHE_WORKLOAD
from parts.benchmark.feeds import FEEDS
from parts.benchmark.files import FILES
from parts.benchmark.files import GROUP as FILES_GROUP
from parts.benchmark.gather import Gathered
from parts.benchmark.measure import Measurement
from parts.benchmark.peers import PEERS
from parts.benchmark.programs import GROUP as PROGRAMS_GROUP
from parts.benchmark.quiet import LoadedError, Watch
from parts.benchmark.ray_workloads import without_ray
from parts.benchmark.results import KNOWN, Results
from parts.benchmark.rounds import measure, plan
from parts.benchmark.samples import WAITING_GROUP
from parts.benchmark.sources import token_file
from parts.benchmark.sparse import SPARSE_WORKLOAD
from parts.benchmark.targeted import has_target, is_repeated
from parts.benchmark.tf1 import GROUP, TF1
from parts.machine import num_cpus
from parts.photographs.dataset import photo_files

# The default: all except the workloads of a minute or more, which must be requested with their group.
_UNNAMED = [
    name
    for name in KNOWN
    if (name not in FILES or FILES[name].measure is None)
    and name not in BALANCE | TRAINING | BLOCKS_WORKLOAD | SPARSE_WORKLOAD | CACHE_WORKLOAD
]
_GROUPS = {
    GROUP: TF1, FILES_GROUP: FILES, WAITING_GROUP: [name for name in KNOWN if name.startswith("waiting ")],
    PROGRAMS_GROUP: [name for name in KNOWN if name.startswith("program ")], "balance": [*BALANCE, *TRAINING],
}  # fmt: skip
ROUNDS, MINUTES, QUICK_MINUTES = 3, 30.0, 10.0
_TO_PLAN = 0.9  # fraction of the time; the rest is a reserve for a slower machine


def main(options: argparse.Namespace) -> None:
    """Measure, and report."""
    if options.measure:
        print(json.dumps(Measurement(**json.loads(options.measure)).run()))
    elif options.list:
        print("\n".join(_listed()))
    else:
        try:
            results = _measure_rounds(options)
        except LoadedError as error:
            raise SystemExit(f"benchmark.py: {options.json} is not written: {error}") from None
        _report(options, results)


def _measure_rounds(options: argparse.Namespace) -> Results:
    photo_files(), token_file()  # create the files before the time starts
    workloads = _known(_named(options.workloads), KNOWN, "workload") or _UNNAMED
    feeds = list(_known(options.only, FEEDS, "feed") or FEEDS)
    num_workers = options.workers or num_cpus()
    minutes = options.minutes or (math.inf if options.rounds else QUICK_MINUTES if options.quick else MINUTES)
    planned = _plan_within(minutes, workloads, feeds, num_workers, options)
    num_rounds = options.rounds or ROUNDS
    with tqdm(total=num_rounds * len(planned), unit=" measurements") as bar:
        watch = Watch(None if options.json else lambda text: bar.write(f"warning: {text}"))
        budget = Budget(minutes)
        bar.write(_plan_text(planned, minutes, budget))
        gathered, progress = Gathered(feeds, num_workers, without_ray(workloads)), _progress(bar, budget)
        return measure(planned, num_rounds, gathered, progress, budget, watch.check)


def _plan_within(
    minutes: float, workloads: list[str], feeds: list[str], num_workers: int, options: argparse.Namespace
) -> list[Measurement]:
    """Return the measurements of a round, with a duration that leaves time to repeat the important ones."""
    for seconds in CHOICES_S:
        planned = plan(workloads, feeds, num_workers, seconds, options.files_mb)
        if options.quick:
            planned = [one for one in planned if has_target(one)]
        twice = [one for one in planned if is_repeated(one)]
        if sum(map(expected_s, [*planned, *twice])) <= _TO_PLAN * 60 * minutes:
            break
    return planned


def _plan_text(planned: list[Measurement], minutes: float, budget: Budget) -> str:
    """Return a description of the plan."""
    repeated = [one for one in planned if is_repeated(one)]
    seconds = f"{planned[0].seconds:g} s" if planned else "0 s"
    within = "" if math.isinf(minutes) else f"; {minutes:g} minutes for all rounds"
    return (
        f"plan: {len(planned)} measurements of {seconds}, about {budget.needed_s(planned) / 60:.0f} minutes a round; "
        f"{len(repeated)} of them, about {budget.needed_s(repeated) / 60:.0f} minutes, are repeated first{within}"
    )


def _report(options: argparse.Namespace, results: Results) -> None:
    if options.json:
        options.json.write_text(report.as_json(results), "utf-8")
    print(report.as_text(results))


def _progress(bar: "tqdm[None]", budget: Budget) -> Callable[[str], None]:
    def report(what: str) -> None:
        left_s = budget.left_s()
        bar.set_description(what if math.isinf(left_s) else f"{what} ({left_s / 60:.0f} minutes left)")
        bar.update()

    return report


def _known(names: list[str] | None, known: Iterable[str], kind: str) -> list[str] | None:
    """Return the names, after checking that all are known."""
    for name in names or ():
        if name not in known:
            raise SystemExit(f"benchmark.py: {name!r} is not a {kind}; expected one of {', '.join(known)}")
    return names


def _named(names: list[str] | None) -> list[str] | None:
    """Return the names, with groups replaced by their members."""
    return names and [each for name in names for each in _GROUPS.get(name, (name,))]


def _listed() -> Iterable[str]:
    yield "workloads"
    yield from (f"  {name:20}{KNOWN[name].about}" for name in KNOWN)
    yield "feeds"
    for name in FEEDS:
        peer = PEERS.get(name)
        absent = "" if peer is None or peer.is_installed else " (not installed)"
        yield f"  {name:20}{peer.settings if peer else ''}{absent}".rstrip()
