"""Writes the pictures of the documents and the tables of docs/benchmarks.md."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from parts.machine import ROOT
from parts.pictures import bars, cluster, curves, dying, measured, processes, service, slots, starting

FOLDER = ROOT / "docs" / "pictures"
_BATCHES = ["tiny", "small", "image", "image in place", "decode", "tree"]


def drawn() -> dict[str, str]:
    """Return the text of each picture, by the name of its file."""
    sections = measured.load()
    rows = sections["batches"]["rows"]
    pictures = {
        "pipeline": processes.draw(),
        "slots": slots.draw(),
        "start": starting.draw(),
        "death": dying.draw(),
        "service": service.draw(),
        "cluster": cluster.draw(),
        "rates": bars.draw("Batches, by what feeds them (2 workers, 2 CPUs)", rows, _BATCHES),
        "scaling": curves.draw(),
    }
    return {f"{name}.svg": picture.svg() for name, picture in pictures.items()}


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Write everything; with ``--results``, take a run into the data before."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--results", type=Path, help="what scripts/benchmark.py --json has written")
    parser.add_argument("--section", default="batches", help="of docs/benchmarks.json, which it replaces")
    options = parser.parse_args(arguments)
    sections = measured.load()
    if options.results:
        columns = sections[options.section]["columns"]
        sections[options.section] = measured.section_of(measured.results_from(options.results), columns)
        measured.save(sections)
    measured.PAGE.write_text(measured.page_drawn_anew(measured.PAGE.read_text("utf-8"), sections), "utf-8")
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawn().items():
        (FOLDER / name).write_text(text, "utf-8")
    return 0
