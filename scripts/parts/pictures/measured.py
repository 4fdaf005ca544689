"""The figures of the benchmarks: ``docs/data/benchmarks.json``, a complete run, and the tables of pages with them.

A table starts after a comment that names one of `TABLES`, or `FRONT`, `COSTS`, `STARTS`, `WANTED` or `MACHINE`::

    <!-- drawn from benchmarks.json: batches -->
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parts.benchmark.cells import OURS, compared_with, ratio
from parts.machine import ROOT
from parts.pictures import front_page

DATA = ROOT / "docs" / "data" / "benchmarks.json"
_INTERNALS = ROOT / "docs" / "internals"
PAGES = (_INTERNALS / "benchmarks.md", _INTERNALS / "benchmark-results.md", ROOT / "README.md")
FLOORS = ("memcpy", "processes", "slots", "shared writes")
FRONT, COSTS, WANTED, MACHINE = "front page", "costs", "targets", "the machine"
STARTS = "starts and memory"
COLUMNS = ("workload", "loader", "rate", "spread", "mpqueue / loader", "target")
_WORDS = ("", "workload", "loader", "target")  # columns of text; the others contain figures
_DRAWN = re.compile(r"(?P<head><!-- drawn from benchmarks.json: (?P<name>[\w ]+) -->\n)(?:[|-].*\n)*")


@dataclasses.dataclass(frozen=True)
class Table:
    """A selection of the rows.

    Attributes:
        workloads: Its workloads.
        names: Its loaders; empty for all.
    """

    workloads: tuple[str, ...]
    names: tuple[str, ...] = ()


_COPIED = ("tiny", "small", "small in place", "image", "image in place", "large", "large in place")
_BATCHES = (*_COPIED, "decode", "tokens", "strings", "tree")
_FORMATS = ("tar", "parquet", "arrow", "tfrecord", "json lines", "array record", "folder", "decoded")
_FILES = tuple(f"files {name}{unit}" for name in _FORMATS for unit in ("", " per CPU second"))
TABLES = {
    "batches": Table(
        _BATCHES,
        (*FLOORS, OURS, "imap", "keras threads", "torch", "spdl", "faster-fifo", "turboloader", "dataloader-rs"),
    ),
    "all batches": Table(_BATCHES),
    "samples": Table(("samples", "small samples")),
    "sources that wait": Table(
        tuple(f"waiting {name}" for name in ("files", "images", "requests", "requests and python", "sleeps"))
    ),
    "programs of others": Table(
        tuple(
            f"program {name}"
            for name in ("files", "images", "requests", "words", "starts", "integers", "lengths", "shards")
        )
    ),
    "service": Table(
        tuple(f"service {name}" for name in ("tiny", "broadcast", "decode", "split", "split small", "peers"))
    ),
    "other nodes": Table(tuple(f"ray {name}" for name in ("image", "small", "tiny", "decode"))),
    "queues": Table(("queue", "queue of batches", "shuffled queue", "queue of images")),
    "records": Table(("image records", "tabular records", "mixed records", "csv", "lines", "raw", "large records")),
    "streams and files": Table(("streams", *_FILES)),
    "scripts of TensorFlow 1": Table(tuple(f"tf1 {name}" for name in ("csv", "tabular", "image", "jpeg", "fixed"))),
}


def load() -> dict[str, Any]:
    """Return the run: its machine, workers and rounds, rows of rates, cells of costs, and results for the targets."""
    return json.loads(DATA.read_text("utf-8"))


def save(run: dict[str, Any]) -> None:
    """Write the run, one line per row."""
    text = json.dumps(run, indent=1, ensure_ascii=False)
    DATA.write_text(re.sub(r"\n   +|\n  (?=[]}])", " ", text) + "\n", "utf-8")


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
    return run | {"rows": rows, "costs": costs, "wanted": results["notes"]}


def rows_of(table: Table, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, workload by workload."""
    return [
        row
        for workload in table.workloads
        for row in run["rows"]
        if row["workload"] == workload and (not table.names or row["name"] in table.names)
    ]


def markdown(rows: Iterable[dict[str, Any]], run: dict[str, Any]) -> str:
    """Return a table of rates, with ratios of the rates in it."""
    rows = list(rows)
    columns = COLUMNS if any("targets" in row for row in rows) else COLUMNS[:-1]
    lines = []
    for row in rows:
        around = "one round" if row["spread"] is None else f"±{row['spread']}%"
        found = None if row["name"].startswith(OURS) else ratio_of(row, run)
        relative = "" if found is None else f"{found:.2f}" if found < 100 else f"{found:.0f}"
        wanted = "; ".join(_verdict(row, at_least, ours, run) for at_least, ours in row.get("targets", ()))
        cells = [row["workload"], row["name"], f"{row['rate']:,} {row['unit']}", around, relative, wanted]
        lines.append(cells[: len(columns)])
    return _table(columns, lines) if rows else "- not measured in this run\n"


def rate_of(workload: str, name: str, run: dict[str, Any]) -> float | None:
    """Return a rate of the run, or None if it was not measured."""
    found = (row["rate"] for row in run["rows"] if (row["workload"], row["name"]) == (workload, name))
    return next(found, None)


def ratio_of(row: dict[str, Any], run: dict[str, Any], ours: str = OURS) -> float | None:
    """Return mpqueue's rate divided by a row's rate, or None if mpqueue was not measured."""
    own = rate_of(row["workload"], compared_with(row["name"], ours), run)
    return None if own is None else ratio(own, row["rate"])


def _verdict(row: dict[str, Any], at_least: float, ours: str, run: dict[str, Any]) -> str:
    """Return a target of a row, and whether it was reached."""
    found = ratio_of(row, run, ours)
    if found is None:
        return f"{at_least:g}: not measured"
    in_another_way = "" if ours == OURS else f" ({ours}: {found:.2f})"
    return f"{at_least:g}{in_another_way}: {'reached' if found >= at_least else 'missed'}"


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rules = ["---" if column in _WORDS else "---:" for column in columns]
    rows = [f"| {' | '.join(cells)} |\n" for cells in lines]
    return f"| {' | '.join(columns)} |\n|{'|'.join(rules)}|\n{''.join(rows)}"


def with_current_tables(page: str, run: dict[str, Any]) -> str:
    """Return the page with its tables and lists updated from the data."""
    return _DRAWN.sub(lambda found: found["head"] + _drawn(found["name"], run), page)


def _drawn(name: str, run: dict[str, Any]) -> str:
    if name in (WANTED, STARTS):
        chosen = ("first batch, ", "memory beyond ") if name == STARTS else ""
        return "".join(f"- {line}\n" for line in run["wanted"] if line.startswith(chosen))
    if name == MACHINE:
        return f"- {run['machine']}\n- {run['workers']} workers, {run['rounds']} rounds\n"
    if name == FRONT:
        return _table(*front_page.lines(run))
    if name == COSTS:
        return _table(run["costs"][0], run["costs"][1:])
    return markdown(rows_of(TABLES[name], run), run)


def names_of(page: str) -> list[str]:
    """Return the names of the tables on a page."""
    return [found["name"] for found in _DRAWN.finditer(page)]


def results_from(file: Path) -> dict[str, Any]:
    """Return the output of a benchmark."""
    return json.loads(file.read_text("utf-8"))
