"""Results of the runs in ``docs/data/trainers.json``, and their tables in ``docs/guides/exact-resume.md``."""

import json
from collections.abc import Iterable
from typing import Any

from parts.drawn import redrawn, replace_rows, table
from parts.machine import ROOT
from parts.trainers.entries import ENTRIES, Entry
from parts.trainers.known import KNOWN

DATA = ROOT / "docs" / "data" / "trainers.json"
PAGE = ROOT / "docs" / "guides" / "exact-resume.md"
RUNS, VERSIONS, DIFFERENCES = "runs", "versions", "differences"
_COLUMNS = {"its own": "own", "mpqueue": "mpqueue"}
SOURCE = "drawn by scripts/trainers"


def row_of(entry: Entry, feed: str, verdict: str, plans: int) -> dict[str, Any]:
    """Return the stored result of the runs of one program.

    Args:
        entry: The variant of the program.
        feed: Its loader.
        verdict: The worst verdict.
        plans: Number of plans of kills.
    """
    versions = sorted(entry.versions())
    return {"name": entry.name, "fed by": feed, "versions": versions, "told": verdict, "plans": plans}


def load() -> list[dict[str, Any]]:
    """Return the stored rows."""
    return json.loads(DATA.read_text("utf-8"))


def save(rows: Iterable[dict[str, Any]]) -> None:
    """Store rows, replacing earlier ones of the same program and loader; update the page."""
    order = [(name, feed) for name in ENTRIES for feed in _COLUMNS.values()]
    stored = replace_rows(DATA, rows, ("name", "fed by"), order)
    PAGE.write_text(with_current_tables(PAGE.read_text("utf-8"), stored), "utf-8")


def with_current_tables(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with its tables updated from the rows."""
    return redrawn(page, SOURCE, lambda name: drawn(name, rows))


def drawn(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of a name."""
    if name == DIFFERENCES:
        return "".join(f"- {known.describe(about)}\n" for known in KNOWN)
    if name == VERSIONS:
        found = sorted({each for row in rows for each in row["versions"]})
        return f"- {', '.join(found)}\n"
    cells = {(row["name"], row["fed by"]): _cell(row) for row in rows}
    found = {key: [cells.get((key, feed), "") for feed in _COLUMNS.values()] for key in ENTRIES}
    return table(["A program", *_COLUMNS], [[about(key), *line] for key, line in found.items() if any(line)])


def about(name: str) -> str:
    """Return the name of a program for readers."""
    return f"{ENTRIES[name].trainer}, {ENTRIES[name].about}"


def _cell(row: dict[str, Any]) -> str:
    verdict = row["told"].removesuffix(" to the bit")
    return verdict if row["plans"] == 1 else f"{verdict}; {row['plans']} plans"
