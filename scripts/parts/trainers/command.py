"""The program of ``scripts/trainers``."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from parts.trainers import known, table
from parts.trainers.entries import ENTRIES, Entry
from parts.trainers.killing import ProgramFailedError, played
from parts.trainers.verdict import Verdict, worst


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Run the chosen programs, and print the table; return 0 if all results are as expected."""
    options = _parsed(description, arguments)
    rows, judged = [], {}
    with ThreadPoolExecutor(options.jobs) as runs:
        jobs = []
        for entry in options.only or ENTRIES.values():
            missing = entry.missing()
            if missing:
                print(f"{entry.name}: skipped, {', '.join(missing)} is not installed", flush=True)
                continue
            jobs += [(entry, feed, runs.submit(_result, entry, feed, options)) for feed in entry.feeds]
        for entry, feed, job in jobs:
            told, plans, exact = job.result()
            rows.append(table.row_of(entry, feed, told, plans))
            if feed == "mpqueue" and entry.exact:
                judged[entry.name] = exact
            if options.write:  # save each result at once, because the whole takes long
                table.save(rows[-1:])
    print(f"\nPython {sys.version.split()[0]}\n\n{table.drawn(table.VERSIONS, rows)}\n{table.drawn(table.RUNS, rows)}")
    messages, is_good = _judged(judged)
    print(messages, end="")
    return 0 if is_good else 1


def _judged(exact: Mapping[str, bool | None]) -> tuple[str, bool]:
    """Return messages about programs, and whether exactly the known ones differ.

    Args:
        exact: For each program that must be exact, whether it was, or None if it ended by an error.
    """
    expected = known.installed(exact)
    messages = [f"Known: {each.describe(table.about)}" for each in dict.fromkeys(expected.values())]
    messages += [
        f"{name}: expected a known difference, got none: try other plans of kills with --times before you remove it "
        "from scripts/parts/trainers/known.py"
        for name in expected
        if exact[name]
    ]
    wrong = [name for name, is_exact in exact.items() if is_exact is None or (not is_exact and name not in expected)]
    messages += [f"{name}: expected a result that is equal bit by bit" for name in wrong]
    return "".join(f"\n{each}\n" for each in messages), not wrong and not any(exact[name] for name in expected)


def _result(entry: Entry, feed: str, options: argparse.Namespace) -> tuple[str, int, bool | None]:
    """Return the worst verdict of one program, the number of plans of kills, and whether all were exact.

    The last value is None if the program ended by an error.
    """
    found: list[Verdict] = []
    seeds = range(options.seed, options.seed + (options.times if feed == "mpqueue" else 1))
    with tempfile.TemporaryDirectory(prefix="trainers-", ignore_cleanup_errors=True) as folder:
        try:
            for verdict in played(entry, feed, Path(folder), seeds):
                print(f"{entry.name}, fed by {feed}, seed {seeds[len(found)]}: {verdict}", flush=True)
                found.append(verdict)
        except ProgramFailedError as error:
            print(error, flush=True)
            return "ended by an error", len(found) + 1, None
    verdict = worst(found)
    return str(verdict), len(found), verdict.is_exact()


def _parsed(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/trainers", description=description)
    parser.add_argument("--seed", type=int, default=1, help="seed of the kills (default: 1)")
    parser.add_argument("--times", type=int, default=1, help="plans of kills for each with mpqueue (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="number of programs that run at the same time (default: 1)")
    parser.add_argument("--write", action="store_true", help="write docs/data/trainers.json, and its tables")
    parser.add_argument("--only", type=_entries, metavar="NAME;...", help=f"of: {'; '.join(ENTRIES)}")
    return parser.parse_args(arguments)


def _entries(text: str) -> list[Entry]:
    found = []
    for name in map(str.strip, text.split(";")):
        matching = [entry for each, entry in ENTRIES.items() if each == name or each.startswith(f"{name}:")]
        if not matching:
            raise argparse.ArgumentTypeError(f"expected one of {'; '.join(ENTRIES)}; got {name!r}")
        found += matching
    return found
