"""The command line of `scripts/benchmark.py`."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from demo_setup import num_cpus, photo_files
from tqdm import tqdm

from bench.feeds import FEEDS
from bench.measure import Measurement
from bench.report import KNOWN
from bench.rounds import measure, plan

ROUNDS, SECONDS = 5, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.4


def main(about: str) -> None:
    """Measure what the command line asks for, and report."""
    options = _parser(about).parse_args()
    if options.measure:
        print(json.dumps(Measurement(**json.loads(options.measure)).run()))
        return
    photo_files()  # cut before the clock runs
    num_rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    planned = plan(options.workloads, options.only, options.workers, seconds)
    with tqdm(total=num_rounds * len(planned), unit=" measurements") as bar:

        def told(one: Measurement) -> None:
            bar.set_description(f"{one.workload}: {one.name}")
            bar.update()

        results = measure(planned, num_rounds, told)
    if options.json:
        options.json.write_text(results.as_json(), "utf-8")
    print(results.as_markdown() if options.markdown else results.as_text())


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--workers", type=int, default=num_cpus(), help="worker processes (default: one per CPU)")
    parser.add_argument("--workloads", type=_some_of(KNOWN), default=list(KNOWN), help=", ".join(KNOWN))
    parser.add_argument("--only", type=_some_of(FEEDS), default=list(FEEDS), help=", ".join(FEEDS))
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds")
    parser.add_argument("--markdown", action="store_true", help="print a table for a README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a Measurement; one of our own processes asks for it
    return parser


def _some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A parser of names, separated by commas."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"got {name!r}, expected some of: {', '.join(known)}")
        return names

    return parse
