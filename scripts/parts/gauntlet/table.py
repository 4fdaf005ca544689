"""The results of a gauntlet in ``docs/data/gauntlet.json``, and the table in ``docs/internals/benchmarks.md``."""

import json
from collections.abc import Iterable
from typing import Any

from parts.drawn import redrawn, replace_rows, table
from parts.gauntlet.peers import ENTRIES
from parts.gauntlet.scenarios import CHANGES, Outcome
from parts.machine import ROOT

DATA = ROOT / "docs" / "data" / "gauntlet.json"
PAGE = ROOT / "docs" / "internals" / "benchmarks.md"
BATCHES, ROWS, RESUMES, VERSIONS = "batches", "packed rows", "resumes", "versions"
SOURCE = "drawn from gauntlet.json"


def row_of(name: str, variant: str, version: str, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Return the stored result of the runs of one entry.

    Args:
        name: Name of the entry.
        variant: `BATCHES` or `ROWS`.
        version: Version of its package.
        outcomes: Outcome of each change.
    """
    cells: dict[str, Any] = {}
    for change, outcome in outcomes.items():
        if outcome.verdict is None:
            cells[change] = {"refusal": outcome.refusal}
        else:
            figures = {"seconds": round(outcome.first_s, 2), "bytes": outcome.state_bytes}
            cells[change] = outcome.verdict._asdict() | figures
    return {"name": name, "variant": variant, "version": version, "cells": cells}


def load() -> list[dict[str, Any]]:
    """Return the stored rows."""
    return json.loads(DATA.read_text("utf-8"))


def save(rows: Iterable[dict[str, Any]]) -> None:
    """Store rows, replacing earlier ones of the same entry and variant."""
    order = [(name, variant) for variant in (BATCHES, ROWS) for name in ENTRIES]
    replace_rows(DATA, rows, ("name", "variant"), order)


def with_current_tables(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with its tables updated from the rows."""
    return redrawn(page, SOURCE, lambda name: drawn(name, rows))


def drawn(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the table or the list of a name."""
    if name == VERSIONS:
        return "- " + ", ".join(sorted({row["version"] for row in rows})) + "\n"
    lines = ([_who(row), *(_cell(row["cells"].get(change)) for change in CHANGES)] for row in rows)
    return table(["loader", *CHANGES], lines)


def _who(row: dict[str, Any]) -> str:
    entry = ENTRIES[row["name"]]
    lacks = f" (no {entry.lacks.replace(', ', ', no ')})" if entry.lacks else ""
    packed = ", packed rows" if row["variant"] == ROWS else ""
    return f"{row['name'].partition(' elastic')[0].partition(',')[0]}: {entry.about}{lacks}{packed}"


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    if "refusal" in cell:
        return "error"
    if (cell["lost"], cell["twice"], cell["in_order"]) == (0, 0, True):
        return "**exact**"
    if not cell["lost"] and not cell["twice"]:
        return "different order"
    return f"{cell['lost']:,} lost, {cell['twice']:,} repeated"
