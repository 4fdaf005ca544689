"""Write the documentation's pictures and tables that are generated from data."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from parts import drawn
from parts.machine import ROOT
from parts.pictures import balance_tables, bars, measured

FOLDER = ROOT / "docs" / "pictures"
_BATCHES = ["tiny", "small", "image", "image in place", "decode", "tree"]
_LOADERS = ("mpqueue", "imap", "keras threads", "torch", "spdl", "faster-fifo", "turboloader")


def pictures() -> dict[str, str]:
    """Return the content of each picture that shows data, by file name."""
    rows = [row for row in measured.load()["rows"] if row["name"] in _LOADERS]
    found = {
        "balance": balance_tables.draw(),
        "rates": bars.draw("Batches by loader (2 workers, 2 CPUs)", rows, _BATCHES),
    }
    return {f"{name}.svg": picture.svg() for name, picture in found.items()}


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Write all pictures and tables; with ``--results`` or ``--balance``, first store new results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--results", type=Path, help="the output of scripts/benchmark.py --json for a whole run")
    parser.add_argument("--balance", type=Path, help="the output of scripts/benchmark.py --workloads balance --json")
    options = parser.parse_args(arguments)
    if options.balance:
        balance_tables.save(options.balance)
    if options.results:
        drawn.store(measured.DATA, measured.run_of(json.loads(options.results.read_text("utf-8"))))
    run = measured.load()
    for page in measured.PAGES:
        page.write_text(measured.with_current_tables(page.read_text("utf-8"), run), "utf-8")
    page = balance_tables.PAGE
    page.write_text(balance_tables.with_current_tables(page.read_text("utf-8")), "utf-8")
    FOLDER.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, "utf-8")
    return 0
