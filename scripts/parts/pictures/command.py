"""Writes the pictures of the documents, and the tables of their pages that are drawn from data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from parts.machine import ROOT
from parts.pictures import (
    bars,
    cluster,
    dying,
    measured,
    options_table,
    processes,
    service,
    slots,
    starting,
    wings,
)

FOLDER = ROOT / "docs" / "pictures"
_BATCHES = ["tiny", "small", "image", "image in place", "decode", "tree"]


def drawn() -> dict[str, str]:
    """Return the text of each picture, by the name of its file."""
    rows = measured.rows_of(measured.TABLES["batches"], measured.load())
    pictures = {
        "pipeline": processes.draw(),
        "slots": slots.draw(),
        "start": starting.draw(),
        "death": dying.draw(),
        "service": service.draw(),
        "wings": wings.draw(),
        "cluster": cluster.draw(),
        "rates": bars.draw("Batches, by what feeds them (2 workers, 2 CPUs)", rows, _BATCHES),
    }
    return {f"{name}.svg": picture.svg() for name, picture in pictures.items()}


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Write everything; with ``--results``, another run becomes the data before."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--results", type=Path, help="what scripts/benchmark.py --json has written of a whole run")
    options = parser.parse_args(arguments)
    if options.results:
        measured.save(measured.run_of(measured.results_from(options.results)))
    run = measured.load()
    for page in measured.PAGES:
        page.write_text(measured.with_current_tables(page.read_text("utf-8"), run), "utf-8")
    options_table.write()
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawn().items():
        (FOLDER / name).write_text(text, "utf-8")
    return 0
