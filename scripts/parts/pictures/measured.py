"""The figures of the benchmarks: ``docs/data/benchmarks.json``, a complete run, and the tables of pages with them.

The tables and lists are `FRONT`, `RATES`, `STARTS` and `MACHINE`.
"""

import json
from collections.abc import Sequence
from typing import Any

from parts import drawn
from parts.benchmark.cells import OURS, ratio
from parts.machine import ROOT
from parts.pictures import front_page

DATA = ROOT / "docs" / "data" / "benchmarks.json"
PAGES = (ROOT / "docs" / "internals" / "benchmarks.md", ROOT / "README.md")
FLOORS = ("memcpy", "processes", "slots", "shared writes")
FRONT, RATES, STARTS, MACHINE = "front page", "rates", "starts and memory", "the machine"
COLUMNS = ("workload", "mpqueue", "best other", "loader", "mpqueue / best")
_WORDS = ("", "workload", "loader", front_page.HEADER[-1])  # columns of text; the others contain figures
SOURCE = "drawn from benchmarks.json"


def load() -> dict[str, Any]:
    """Return the run: its machine, workers and rounds, rows of rates, cells of costs, and notes."""
    return json.loads(DATA.read_text("utf-8"))


def run_of(results: dict[str, Any]) -> dict[str, Any]:
    """Convert the output of ``scripts/benchmark.py --json`` to the run as it is stored."""
    rows = []
    for row in results["rates"]:
        workload, name = row["workload"], row["name"]
        entry = {"workload": workload, "name": name, "rate": row["median"], "unit": row["unit"]}
        entry["spread"] = None if row["spread"] is None else round(100 * row["spread"])
        rows.append(entry)
    rounds = max(len(row["rates"]) for row in results["rates"])
    run = {"machine": results["machine"], "workers": results["workers"], "rounds": rounds}
    costs = [["workload", "loader", *results["cost_heads"]]]
    costs += [[workload, name, *cells] for workload, name, cells in results["cost_rows"]]
    return run | {"rows": rows, "costs": costs, "notes": results["notes"]}


def workloads_of(run: dict[str, Any]) -> list[str]:
    """Return the workloads of a run in their order, each once."""
    return list(dict.fromkeys(row["workload"] for row in run["rows"]))


def best_other(workload: str, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row with the highest rate that another loader reached in a workload, or None.

    The limits of the machine and a loop without workers are not loaders.
    """
    others = [
        row
        for row in run["rows"]
        if row["workload"] == workload
        and not row["name"].startswith(OURS)
        and row["name"] not in (*FLOORS, "no workers")
    ]
    return max(others, key=lambda row: row["rate"], default=None)


def rates(run: dict[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Return the header and the lines of the table of rates: mpqueue, and the best other loader of each workload."""
    lines = []
    for workload in workloads_of(run):
        own = next((row for row in run["rows"] if (row["workload"], row["name"]) == (workload, OURS)), None)
        other = best_other(workload, run)
        if own is not None and other is not None:
            relative = ratio(own["rate"], other["rate"])
            shown = f"{relative:.2f}" if relative < 100 else f"{relative:.0f}"
            lines.append([workload, f"{_figure(own)} {own['unit']}", _figure(other), other["name"], shown])
    return COLUMNS, lines


def _figure(row: dict[str, Any]) -> str:
    spread = "" if row["spread"] is None else f" ±{row['spread']}%"
    return f"{row['rate']:,}{spread}"


def with_current_tables(page: str, run: dict[str, Any]) -> str:
    """Return the page with its tables and lists updated from the data."""
    return drawn.redrawn(page, SOURCE, lambda name: _drawn(name, run))


def _drawn(name: str, run: dict[str, Any]) -> str:
    if name == STARTS:
        chosen = ("first batch, ", "memory beyond ")
        return "".join(f"- {line}\n" for line in run["notes"] if line.startswith(chosen))
    if name == MACHINE:
        return f"- {run['machine']}\n- {run['workers']} workers, {run['rounds']} rounds\n"
    columns, lines = {FRONT: front_page.lines, RATES: rates}[name](run)
    return drawn.table(columns, lines, [column for column in columns if column not in _WORDS])
