"""The table of files in the documentation, from the output of ``scripts/benchmark.py --workloads files --json``.

It is located after a mark in ``docs/files.md``. The rest of the page is written manually.
"""

from collections.abc import Iterator
from typing import Any

from parts.benchmark.files import FILES, OURS, PER_CPU
from parts.machine import ROOT

PAGE = ROOT / "docs" / "files.md"
_MARK = "<!-- scripts/benchmark.py --workloads files -->\n"
_HEAD = "| format | mpqueue | compared with | mpqueue / other |\n|---|---:|---|---:|\n"


def draw(run: dict[str, Any]) -> str:
    """Write the table of a run into the page; return it.

    Raises:
        ValueError: The run has no workload of files.
    """
    table = "".join(_rows(run))
    if not table:
        raise ValueError(
            "the run must have workloads of files: create it with scripts/benchmark.py --workloads files --json"
        )
    before, _, after = PAGE.read_text("utf-8").partition(_MARK)
    lines = after.splitlines(keepends=True)
    first = next(number for number, line in enumerate([*lines, ""]) if not line.startswith("|"))
    PAGE.write_text(f"{before}{_MARK}{_HEAD}{table}{''.join(lines[first:])}", "utf-8")
    return _HEAD + table


def _rows(run: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each workload, per second of CPU time if it is known."""
    of_workload: dict[str, dict[str, Any]] = {}
    for row in run["rates"]:
        of_workload.setdefault(row["workload"], {})[row["name"]] = row
    for name in FILES:
        found = of_workload.get(name + PER_CPU) or of_workload.get(name, {})
        if OURS not in found:
            continue
        others = [row for reader, row in found.items() if not reader.startswith(OURS)]
        beside = "; ".join(f"{row['name']} {row['median']:,.0f}" for row in others)
        ratios = "; ".join(f"{row['ratio']:.2f}" for row in others)
        ours = found[OURS]
        yield f"| {name.removeprefix('files ')} | {ours['median']:,.0f} {ours['unit']} | {beside} | {ratios} |\n"
