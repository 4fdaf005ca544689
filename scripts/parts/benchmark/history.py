"""The history of the ratios: a row for each run that was recorded, and what has fallen since.

``docs/benchmarks-history.json`` has the rows, ``docs/benchmarks-history.md`` a table that is drawn from it. A ratio is
mpqueue's rate divided by another's of the same round, or what an import of NumPy has of the time of a start: more is
always better. Runs of one kind of machine are compared with each other only.
"""

import json
import re
import statistics
from collections.abc import Iterator
from typing import Any

from parts.benchmark.goals import STARTS
from parts.benchmark.starts import NUMPY
from parts.machine import ROOT

DATA, PAGE = ROOT / "docs" / "benchmarks-history.json", ROOT / "docs" / "benchmarks-history.md"
FALLEN = 0.9  # of the median of earlier rows
# The columns of the page: what is told there, and its ratio.
SHOWN = {
    "tiny / imap": "tiny: imap",
    "tiny / Keras threads": "tiny: keras threads",
    "small / slots": "small: slots",
    "image / slots": "image: slots",
    "decode / processes": "decode: processes",
    "decode / SPDL": "decode: spdl",
    "samples / torch": "samples: torch",
    "streams / tf.data": "streams: tf.data",
    "queue / standard": "queue: multiprocessing.Queue",
    "CSV / TensorFlow": "csv: TensorFlow queues",
    "NumPy / Loader's import": "import of NumPy: import of Loader",
    "NumPy / first batch": "import of NumPy: first batch of a Loader",
}
_HEAD = ("date", "commit", "machine", "rounds")
_MARK = "<!-- drawn from benchmarks-history.json -->\n"


def row_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return the row of what ``scripts/benchmark.py --json`` has written.

    Raises:
        ValueError: It has no ratio, or does not tell its commit.
    """
    missing = [key for key in ("commit", "date", "machine", "rates") if key not in run]
    if missing:
        raise ValueError(f"the run does not tell its {', '.join(missing)}: write it with scripts/benchmark.py --json")
    rounds = max((len(row["rates"]) for row in run["rates"]), default=0)
    told = {"date": run["date"], "commit": run["commit"], "machine": kind_of(run["machine"]), "rounds": rounds}
    ratios = dict(_ratios(run))
    if not ratios:
        raise ValueError("the run has no ratio that is kept: it measured neither a pair of a target nor a start")
    return told | {"ratios": ratios}


def _ratios(run: dict[str, Any]) -> Iterator[tuple[str, float]]:
    shown = set(SHOWN.values())
    for target in run["targets"]:
        told = "" if target["ours"] == "mpqueue" else f", {target['ours']}"
        yield f"{target['workload']}{told}: {target['against']}", round(target["ratio"], 3)
    for row in run["rates"]:
        name = f"{row['workload']}: {row['name']}"
        if row["ratio"] is not None and name in shown:
            yield name, round(row["ratio"], 3)
    starts = run.get("starts_ms", {})
    for what in STARTS:
        if what in starts:
            turns = zip(starts[NUMPY], starts[what], strict=True)
            yield f"{NUMPY}: {what}", round(statistics.median(one / other for one, other in turns), 3)


def kind_of(machine: str) -> str:
    """Return what makes runs comparable, of the line that a report begins with: the processor's kind and the CPUs."""
    found = re.search(r"(\S+ \S+) with (\d+) CPUs", machine)
    if found is None:
        raise ValueError(f"no kind of machine in {machine!r}; it must have the form 'x86_64 Linux with 2 CPUs'")
    return f"{found[1]}, {found[2]} CPUs"


def fallen(row: dict[str, Any], earlier: list[dict[str, Any]]) -> list[str]:
    """Return a line for each ratio that is below nine tenths of the median of earlier rows of such a machine."""
    lines = []
    for name, ratio in row["ratios"].items():
        before = [
            each["ratios"][name] for each in earlier if each["machine"] == row["machine"] and name in each["ratios"]
        ]
        if before and ratio < FALLEN * (median := statistics.median(before)):
            runs = "1 run" if len(before) == 1 else f"{len(before)} runs"
            lines.append(
                f"FELL: {name}: {ratio:.2f}, {ratio / median:.2f} of {median:.2f}, the median of {runs} before"
            )
    return lines


def load() -> list[dict[str, Any]]:
    """Return the rows, oldest first."""
    return json.loads(DATA.read_text("utf-8"))  # type: ignore[no-any-return]


def record(run: dict[str, Any]) -> list[str]:
    """Append the row of a run to the data, draw the page anew, and return what has fallen.

    Raises:
        ValueError: The run has no row, or its row is there already.
    """
    rows, row = load(), row_of(run)
    if row in rows:
        raise ValueError(f"this run of {row['commit']} is recorded already")
    told = fallen(row, rows)
    rows.append(row)
    text = json.dumps(rows, indent=1)
    DATA.write_text(re.sub(r"\n   +|\n  (?=[]}])", " ", text) + "\n", "utf-8")
    PAGE.write_text(drawn_anew(PAGE.read_text("utf-8"), rows), "utf-8")
    return told


def drawn_anew(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the text of the page with the table as the data have it."""
    before, mark, after = page.partition(_MARK)
    if not mark:
        raise ValueError(f"{PAGE} has no line {_MARK!r}")
    return before + mark + table(rows) + re.sub(r"\A(?:\|.*\n)*", "", after)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table, oldest first."""
    lines = [[str(row[key] or "") for key in _HEAD] + [_cell(row, name) for name in SHOWN.values()] for row in rows]
    head = [*_HEAD, *SHOWN]
    rules = ["---"] * 3 + ["---:"] * (len(head) - 3)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rules, *lines))


def _cell(row: dict[str, Any], name: str) -> str:
    ratio = row["ratios"].get(name)
    return "" if ratio is None else f"{ratio:.2f}"
