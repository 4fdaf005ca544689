"""The work of ranks: ``docs/data/balance.json``, a run of the workloads of a balance, its tables and its picture.

The tables and lists are `TABLES`, `MACHINE` and `TRAINED`.
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from parts import drawn
from parts.machine import ROOT
from parts.pictures import bars

DATA = ROOT / "docs" / "data" / "balance.json"
PAGE = ROOT / "docs" / "guides" / "ranks.md"
MACHINE, TRAINED = "the machine", "training"
TABLES = ("work",)
_BALANCES = ("Balance(steps=1)", "Balance(steps=4)", "Balance(group=128)")
_WORK = ("plain", "DistributedSampler", "length-grouped", "greedy", *_BALANCES, "lower bound")
_COLUMNS = ("plain", "length-grouped", "Balance(steps=1)", "Balance(group=128)", "lower bound")
_SHOWN = ("log-normal, tokens, 8 ranks", "log-normal, tokens, 64 ranks")
_SHOWN += ("log-normal, tokens, 1,024 ranks", "heavy tail, tokens, 8 ranks")
SOURCE = "drawn from balance.json"


def load() -> dict[str, Any]:
    """Return the run: its machine, the figures of each way, and the rates of the trainings."""
    return json.loads(DATA.read_text("utf-8"))


def save(results: Path) -> None:
    """Store the output of ``scripts/benchmark.py --workloads balance --json``."""
    found = json.loads(results.read_text("utf-8"))
    ranks = {
        row["name"]: {name: round(statistics.median(row[name]), 4) for name in row if name not in ("workload", "name")}
        for row in found["figures"]
        if row["workload"] == "balance ranks"
    }
    trained = {row["name"]: [round(row["median"]), row["spread"]] for row in found["rates"]}
    drawn.store(DATA, {"machine": found["machine"], "ranks": ranks, "training": trained})


def draw() -> bars.Picture:
    """Return the picture of the work of the slowest rank."""
    rows = [
        {"workload": way, "name": _short(name), "rate": round(figures[name], 2), "unit": "max / mean"}
        for way, figures in load()["ranks"].items()
        for name in _WORK
        if way in _SHOWN
    ]
    return bars.draw("Work of the slowest rank in a step, relative to the mean of all ranks", rows, list(_SHOWN))


def _short(name: str) -> str:
    return re.sub(r"Balance\((.*)\)", r"mpqueue \1", name)


def with_current_tables(page: str) -> str:
    """Return the page with its tables updated from the data."""
    run = load()
    return drawn.redrawn(page, SOURCE, lambda name: _drawn(name, run))


def _drawn(name: str, run: dict[str, Any]) -> str:
    if name == MACHINE:
        return f"- {run['machine']}\n"
    if name == TRAINED:
        rates = [(name, f"{rate:,} tokens/s", _around(spread)) for name, (rate, spread) in run["training"].items()]
        return drawn.table(["setting", "rate", "spread"], rates, ("rate", "spread"))
    lines = [[way, *(f"{run['ranks'][way][column]:.3f}" for column in _COLUMNS)] for way in _SHOWN]
    return drawn.table(["lengths, cost, ranks", *_COLUMNS], lines, _COLUMNS)


def _around(spread: float | None) -> str:
    return "one round" if spread is None else f"±{spread:.0%}"
