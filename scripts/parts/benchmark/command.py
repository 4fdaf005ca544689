"""Carries out what the command line of `scripts/benchmark.py` asks for."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from parts.benchmark import report
from parts.benchmark.curve_files import write_curves
from parts.benchmark.curves import CURVES
from parts.benchmark.feeds import FEEDS
from parts.benchmark.files import FILES
from parts.benchmark.files import GROUP as FILES_GROUP
from parts.benchmark.gather import Gathered
from parts.benchmark.measure import Measurement
from parts.benchmark.peers import PEERS
from parts.benchmark.plots import draw_rates, require_matplotlib
from parts.benchmark.ray_workloads import without_ray
from parts.benchmark.results import KNOWN, Results
from parts.benchmark.rounds import measure, plan
from parts.benchmark.tf1 import GROUP, TF1
from parts.machine import num_cpus
from parts.photographs.dataset import photo_files

_GROUPS = {GROUP: TF1, FILES_GROUP: FILES}
ROUNDS, SECONDS = 3, 1.0
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.3
QUICK_WORKLOADS = ("tiny", "image", "image in place", "decode")
QUICK_FEEDS = ("imap", "mpqueue")


def main(options: argparse.Namespace) -> None:
    """Measure what was asked for, and report."""
    if options.measure:
        print(json.dumps(Measurement(**json.loads(options.measure)).run()))
    elif options.list:
        print("\n".join(_listed()))
    elif options.curves:
        require_matplotlib()
        _measure_curves(options)
    else:
        if options.plot:
            require_matplotlib()  # now, and not after all was measured
        _report(options, _measure_rounds(options))


def _measure_rounds(options: argparse.Namespace) -> Results:
    photo_files()  # cut before the clock runs
    workloads = _known(_named(options.workloads), KNOWN, "workload") or (QUICK_WORKLOADS if options.quick else KNOWN)
    feeds = list(_known(options.only, FEEDS, "feed") or (QUICK_FEEDS if options.quick else FEEDS))
    num_workers = options.workers or num_cpus()
    num_rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    planned = plan(workloads, feeds, num_workers, seconds, options.files_mb)
    with _bar(num_rounds * len(planned)) as bar:
        return measure(planned, num_rounds, Gathered(feeds, num_workers, without_ray(workloads)), _teller(bar))


def _report(options: argparse.Namespace, results: Results) -> None:
    if options.json:
        options.json.write_text(report.as_json(results), "utf-8")
    if options.plot:
        draw_rates(results, options.plot)
    print(report.as_markdown(results) if options.markdown else report.as_text(results))


def _measure_curves(options: argparse.Namespace) -> None:
    folder: Path = options.curves
    folder.mkdir(parents=True, exist_ok=True)
    names = _known(options.workloads, CURVES, "curve") or list(CURVES)
    photo_files()  # cut before the clock runs
    num_points = sum(len(CURVES[name].points(quick=options.quick)) for name in names)
    with _bar(num_points) as bar:
        for line in write_curves(names, folder, options.workers or num_cpus(), _teller(bar), quick=options.quick):
            bar.write(line)


def _bar(total: int) -> "tqdm[None]":
    return tqdm(total=total, unit=" measurements")


def _teller(bar: "tqdm[None]") -> Callable[[str], None]:
    def told(what: str) -> None:
        bar.set_description(what)
        bar.update()

    return told


def _known(names: list[str] | None, known: Iterable[str], kind: str) -> list[str] | None:
    """The names, if there is each of them."""
    for name in names or ():
        if name not in known:
            raise SystemExit(f"benchmark.py: there is no {kind} {name!r}; there are: {', '.join(known)}")
    return names


def _named(names: list[str] | None) -> list[str] | None:
    """The names, with those of a group in its place."""
    return names and [each for name in names for each in _GROUPS.get(name, (name,))]


def _listed() -> Iterable[str]:
    yield "workloads"
    yield from (f"  {name:20}{KNOWN[name].about}" for name in KNOWN)
    yield "feeds"
    for name in FEEDS:
        peer = PEERS.get(name)
        absent = "" if peer is None or peer.is_installed else " (not installed)"
        yield f"  {name:20}{peer.settings if peer else ''}{absent}".rstrip()
    yield "curves"
    yield from (f"  {name:20}{curve.about}" for name, curve in CURVES.items())
