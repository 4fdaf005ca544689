"""The figures of the benchmarks: ``docs/benchmarks.json``, and the tables of docs/benchmarks.md that are made of it.

A table of the page stands behind a comment that names its section::

    <!-- drawn from benchmarks.json: batches -->
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from parts.machine import ROOT

DATA = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
OURS = "mpqueue"
FLOORS = ("memcpy", "processes", "slots", "shared writes")
_FIGURES = ("rate", "spread", "mpqueue has of it")  # columns of numbers
_TABLE = re.compile(r"(?P<head><!-- drawn from benchmarks.json: (?P<section>[\w ]+) -->\n)(?:\|.*\n)*")


def load() -> dict[str, Any]:
    """Return all sections, by name."""
    return json.loads(DATA.read_text("utf-8"))


def save(sections: dict[str, Any]) -> None:
    """Write all sections down, a line for each row."""
    text = json.dumps(sections, indent=1, ensure_ascii=False)
    DATA.write_text(re.sub(r"\n    +|\n   (?=[}])", " ", text) + "\n", "utf-8")


def section_of(results: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """Return a section of what ``scripts/benchmark.py --json`` has written."""
    rates = {(row["workload"], row["name"]): row["rates"] for row in results["rates"]}
    rows = []
    for row in results["rates"]:
        told = {"workload": row["workload"], "name": row["name"], "rate": rounded(row["median"]), "unit": row["unit"]}
        ours = rates.get((row["workload"], OURS))
        if ours and not row["name"].startswith(OURS):
            told["ratio"] = round(statistics.median(a / b for a, b in zip(ours, row["rates"], strict=True)), 2)
        rows.append(told | {"spread": round(100 * row["spread"])})
    return {"machine": f"{results['machine']}, {results['workers']} workers", "columns": columns, "rows": rows}


def rounded(rate: float) -> float:
    """Return a rate with as many digits as are worth something."""
    return round(rate, 2) if rate < 100 else round(rate)


def markdown(section: dict[str, Any]) -> str:
    """Return the table of a section."""
    columns = section["columns"]
    rules = ["---:" if column in _FIGURES else "---" for column in columns]
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(rules)}|"]
    for row in section["rows"]:
        spread = f"±{row['spread']}%" if "spread" in row else ""
        cells = [row["workload"], row["name"], f"{row['rate']:,} {row['unit']}", spread, ratio_of(row)]
        lines.append(f"| {' | '.join([*cells, row.get('wanted', '')][: len(columns)])} |")
    return "".join(f"{line}\n" for line in lines)


def ratio_of(row: dict[str, Any]) -> str:
    """Return how much of a row's rate mpqueue has, as text."""
    ratio = row.get("ratio")
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def page_drawn_anew(page: str, sections: dict[str, Any]) -> str:
    """Return the page's text with each table as the data have it."""
    return _TABLE.sub(lambda found: found["head"] + markdown(sections[found["section"]]), page)


def sections_of(page: str) -> list[str]:
    """Return the names of the sections that a page has tables of."""
    return [found["section"] for found in _TABLE.finditer(page)]


def results_from(file: Path) -> dict[str, Any]:
    """Return what a benchmark has written."""
    return json.loads(file.read_text("utf-8"))
