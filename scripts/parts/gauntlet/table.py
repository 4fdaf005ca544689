"""The results of a gauntlet in ``docs/data/gauntlet.json``, and the tables in ``docs/internals/resume-comparison.md``.

A table starts after a comment, and ends with an empty line::

    <!-- drawn from gauntlet.json: batches -->
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from parts.gauntlet.peers import ENTRIES
from parts.gauntlet.scenarios import CHANGES, Outcome
from parts.machine import ROOT

DATA = ROOT / "docs" / "data" / "gauntlet.json"
PAGE = ROOT / "docs" / "internals" / "resume-comparison.md"
BATCHES, ROWS, WORDS, VERSIONS = "batches", "packed rows", "errors", "versions"
_DRAWN = re.compile(r"(?P<head><!-- drawn from gauntlet.json: (?P<name>[\w ]+) -->\n)(?:.+\n)*")


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
    return json.loads(DATA.read_text("utf-8")) if DATA.exists() else []


def save(rows: Iterable[dict[str, Any]]) -> None:
    """Store rows, replacing earlier ones of the same entry and variant."""
    kept = {(row["name"], row["variant"]): row for row in (*load(), *rows)}
    order = [(name, variant) for variant in (BATCHES, ROWS) for name in ENTRIES]
    rows_in_order = [kept[key] for key in order if key in kept]
    DATA.write_text(json.dumps(rows_in_order, indent=1) + "\n", "utf-8")


def with_current_tables(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with its tables updated from the rows."""
    return _DRAWN.sub(lambda found: found["head"] + drawn(found["name"], rows), page)


def drawn(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of a name."""
    if name == VERSIONS:
        return "- " + ", ".join(sorted({row["version"] for row in rows})) + "\n"
    words = refusals(rows)
    if name == WORDS:
        return "".join(
            f"{number}. {' and '.join(who)}: ``{message}``\n" for number, (message, who) in enumerate(words, 1)
        )
    numbers = {message: number for number, (message, _) in enumerate(words, 1)}
    lines = [["loader", *CHANGES]]
    for row in rows:
        if row["variant"] == name:
            cells = [_cell(row["cells"].get(change), numbers) for change in CHANGES]
            lines.append([_who(row["name"]), *cells])
    head, *others = [f"| {' | '.join(line)} |\n" for line in lines]
    return f"{head}|{'|'.join('---' for _ in lines[0])}|\n{''.join(others)}"


def refusals(rows: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the error messages, each with the names of the entries that raised it."""
    messages: dict[str, list[str]] = {}
    for row in rows:
        for cell in row["cells"].values():
            if "refusal" in cell and row["name"] not in messages.setdefault(cell["refusal"], []):
                messages[cell["refusal"]].append(row["name"])
    return list(messages.items())


def _who(name: str) -> str:
    entry = ENTRIES[name]
    lacks = f" (no {entry.lacks.replace(', ', ', no ')})" if entry.lacks else ""
    return f"{name.partition(' elastic')[0].partition(',')[0]}: {entry.about}{lacks}"


def _cell(cell: dict[str, Any] | None, numbers: dict[str, int]) -> str:
    if cell is None:
        return ""
    if "refusal" in cell:
        return f"error ({numbers[cell['refusal']]})"
    order = "same order" if cell["in_order"] else "different order"
    counts = f"{cell['lost']:,} lost, {cell['twice']:,} repeated, {order}"
    is_exact = (cell["lost"], cell["twice"], cell["in_order"]) == (0, 0, True)
    return f"{f'**{counts}**' if is_exact else counts}; {cell['seconds']:.2g} s; {_bytes(cell['bytes'])}"


def _bytes(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.0f} kB"
