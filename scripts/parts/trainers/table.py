"""Results of the runs in ``docs/data/trainers.json``, and their tables in ``docs/guides/exact-resume.md``.

A table starts after a comment, and ends with an empty line::

    <!-- drawn by scripts/trainers: runs -->
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from parts.machine import ROOT
from parts.trainers.entries import ENTRIES, Entry
from parts.trainers.known import KNOWN

DATA = ROOT / "docs" / "data" / "trainers.json"
PAGE = ROOT / "docs" / "guides" / "exact-resume.md"
RUNS, VERSIONS, DIFFERENCES = "runs", "versions", "differences"
NEWEST, PINNED = "newest", "pinned"
_COLUMNS = {"its own": ("own", NEWEST), "mpqueue": ("mpqueue", NEWEST), "mpqueue, pinned versions": ("mpqueue", PINNED)}
_SHOWN = ("its own", "mpqueue")  # the page has the newest versions only
_DRAWN = re.compile(r"(?P<head><!-- drawn by scripts/trainers: (?P<name>\w+) -->\n)(?:.+\n)*")


def row_of(entry: Entry, feed: str, versions: str, verdict: str, plans: int) -> dict[str, Any]:
    """Return the stored result of the runs of one program.

    Args:
        entry: The variant of the program.
        feed: Its loader.
        versions: `NEWEST` or `PINNED`.
        verdict: The worst verdict.
        plans: Number of plans of kills.
    """
    found = sorted(entry.versions())
    return {"name": entry.name, "fed by": feed, "set": versions, "versions": found, "told": verdict, "plans": plans}


def load() -> list[dict[str, Any]]:
    """Return the stored rows."""
    return json.loads(DATA.read_text("utf-8")) if DATA.exists() else []


def save(rows: Iterable[dict[str, Any]]) -> None:
    """Store rows, replacing earlier ones of the same program, loader and set of versions; update the page."""
    kept = {(row["name"], row["fed by"], row["set"]): row for row in (*load(), *rows)}
    order = [(name, *column) for name in ENTRIES for column in _COLUMNS.values()]
    rows_in_order = [kept[key] for key in order if key in kept]
    DATA.write_text(json.dumps(rows_in_order, indent=1) + "\n", "utf-8")
    PAGE.write_text(with_current_tables(PAGE.read_text("utf-8"), rows_in_order), "utf-8")


def with_current_tables(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with its tables updated from the rows."""
    return _DRAWN.sub(lambda found: found["head"] + drawn(found["name"], rows), page)


def drawn(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of a name."""
    if name == DIFFERENCES:
        return "".join(f"- {known.describe(about)}\n" for known in KNOWN)
    if name == VERSIONS:
        found = sorted({each for row in rows if row["set"] == NEWEST for each in row["versions"]})
        return f"- {', '.join(found)}\n"
    cells = {(row["name"], row["fed by"], row["set"]): _cell(row) for row in rows}
    lines = [["A program", *_SHOWN], ["---"] * (1 + len(_SHOWN))]
    for key in ENTRIES:
        found = [cells.get((key, *_COLUMNS[column]), "") for column in _SHOWN]
        if any(found):
            lines.append([about(key), *found])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def about(name: str) -> str:
    """Return the name of a program for readers."""
    return f"{ENTRIES[name].trainer}, {ENTRIES[name].about}"


def _cell(row: dict[str, Any]) -> str:
    verdict = row["told"].removesuffix(" to the bit")
    return verdict if row["plans"] == 1 else f"{verdict}; {row['plans']} plans"
