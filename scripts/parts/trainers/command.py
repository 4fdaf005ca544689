"""The program of ``scripts/trainers``."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from parts.trainers.entries import ENTRIES, Entry
from parts.trainers.killing import ProgramFailedError, played

FEEDS = ("own", "mpqueue")


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, and print the table; return 0 if all was as it is to be."""
    options = _parsed(description, arguments)
    rows, versions, is_good = [], set[str](), True
    with ThreadPoolExecutor(options.jobs) as runs:
        jobs = []
        for entry in options.only or ENTRIES.values():
            missing = entry.missing()
            if missing:
                print(f"{entry.name}: skipped, {', '.join(missing)} is not installed", flush=True)
                continue
            versions.update(entry.versions())
            jobs += [
                (entry, feed, runs.submit(_told, entry, feed, options))
                for feed in entry.feeds
                if feed in options.fed_by
            ]
        for entry, feed, job in jobs:
            told, exact = job.result()
            rows.append(f"| {entry.trainer} | {entry.variant} | {feed} | {told} |")
            is_good &= exact or feed != "mpqueue" or not entry.exact
    print(f"\nPython {sys.version.split()[0]}, {', '.join(sorted(versions))}\n")
    print("\n".join(["| trainer | form | fed by | killed twice and resumed |", "|---|---|---|---|", *rows]))
    return 0 if is_good else 1


def _told(entry: Entry, feed: str, options: argparse.Namespace) -> tuple[str, bool]:
    found = []
    for seed in range(options.seed, options.seed + options.times):
        with tempfile.TemporaryDirectory(prefix="trainers-", ignore_cleanup_errors=True) as folder:
            try:
                verdict = played(entry, feed, Path(folder), seed)
            except ProgramFailedError as error:
                print(error, flush=True)
                return "ended by an error", False
        print(f"{entry.name}, fed by {feed}, seed {seed}: {verdict}", flush=True)
        found.append(verdict)
    worst = max(found, key=lambda each: each.losses)
    return str(worst), worst.is_exact()


def _parsed(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/trainers", description=description)
    parser.add_argument("--seed", type=int, default=1, help="of the steps at which they are killed (default: 1)")
    parser.add_argument("--times", type=int, default=1, help="how often each is run, by other steps (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many are run side by side (default: 1)")
    parser.add_argument("--fed-by", nargs="+", choices=FEEDS, default=FEEDS, help="of what feeds them (default: both)")
    parser.add_argument("--only", type=_entries, metavar="NAME;...", help=f"of: {'; '.join(ENTRIES)}")
    return parser.parse_args(arguments)


def _entries(text: str) -> list[Entry]:
    found = []
    for name in map(str.strip, text.split(";")):
        matching = [entry for each, entry in ENTRIES.items() if each == name or each.startswith(f"{name}:")]
        if not matching:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; there are: {'; '.join(ENTRIES)}")
        found += matching
    return found
