"""Runs the command line of `scripts/benchmark.py`."""

import argparse
import json
import math
from collections.abc import Iterable

from tqdm import tqdm

from parts.benchmark import report
from parts.benchmark.feeds import PEERS
from parts.benchmark.known import WORKLOADS
from parts.benchmark.measure import Measurement
from parts.benchmark.quiet import LoadedError, Watch
from parts.benchmark.results import Results
from parts.benchmark.rounds import is_important, measure, plan
from parts.benchmark.workload import Setting
from parts.benchmark.workloads.sources import token_file
from parts.machine import num_cpus
from parts.photographs.dataset import photo_files

CHOICES_S = (1.0, 0.5, 0.3)  # of each measurement
ROUNDS, MINUTES, QUICK_MINUTES = 3, 30.0, 10.0
_TO_PLAN = 0.9  # fraction of the time; the rest is a reserve for a slower machine


def main(options: argparse.Namespace) -> None:
    """Measure, and report."""
    if options.measure:
        print(json.dumps(Measurement.from_text(options.measure).run()))
    elif options.list:
        print("\n".join(_listed()))
    else:
        try:
            results = _measure_rounds(options)
        except LoadedError as error:
            raise SystemExit(f"benchmark.py: {options.json} is not written: {error}") from None
        if options.json:
            options.json.write_text(report.as_json(results), "utf-8")
        print(report.as_text(results))


def _measure_rounds(options: argparse.Namespace) -> Results:
    photo_files(), token_file()  # create the files before the time starts
    only = options.only or ()
    _require_known(only, {name for each in WORKLOADS.values() for name in each.readers}, "library")
    workloads = named(options.workloads) or [name for name, each in WORKLOADS.items() if each.is_usual]
    num_workers = options.workers or num_cpus()
    minutes = options.minutes or (math.inf if options.rounds else QUICK_MINUTES if options.quick else MINUTES)
    for seconds in CHOICES_S:
        planned = plan(workloads, only, Setting(num_workers, seconds))
        repeated = [one for one in planned if is_important(one)]
        if options.quick:
            planned = repeated
        # The duration leaves time to repeat the important measurements.
        if sum(one.expected_s() for one in [*planned, *repeated]) <= _TO_PLAN * 60 * minutes:
            break
    num_rounds = options.rounds or ROUNDS
    with tqdm(total=num_rounds * len(planned), unit=" measurements") as bar:

        def progress(what: str) -> None:
            bar.set_description(what)
            bar.update()

        watch = Watch(None if options.json else lambda text: bar.write(f"warning: {text}"))
        about = sum(one.expected_s() for one in planned) / 60
        bar.write(f"plan: {len(planned)} measurements of {seconds:g} s, about {about:.0f} minutes a round")
        return measure(planned, num_rounds, Results(num_workers), progress, 60 * minutes, watch.check)


def _require_known(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    for name in names:
        if name not in known:
            raise SystemExit(f"benchmark.py: {name!r} is not a {kind}; expected one of {', '.join(known)}")


def named(names: list[str] | None) -> list[str]:
    """Return the workloads of these names. A first word, such as "files", names several."""
    groups = {name: [each for each in WORKLOADS if each.startswith(f"{name} ")] for name in names or ()}
    _require_known(names or (), [*WORKLOADS, *(name for name, members in groups.items() if members)], "workload")
    return [each for name in names or () for each in ([name] if name in WORKLOADS else groups[name])]


def _listed() -> Iterable[str]:
    yield "workloads"
    for workload, known in WORKLOADS.items():
        absent = f" (not installed: {', '.join(known.absent())})" if known.absent() else ""
        yield f"  {workload:28} {known.about}{absent}"
    yield "libraries"
    for name, peer in PEERS.items():
        absent = "" if peer.is_installed else " (not installed)"
        yield f"  {name:28} {peer.settings}{absent}".rstrip()
