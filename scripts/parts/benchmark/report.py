"""Formats the results for a terminal or as JSON."""

import json
import platform
import statistics
import sys
from collections.abc import Iterator

import numpy as np
import psutil

import mpqueue
from parts.benchmark.cells import OURS
from parts.benchmark.known import WORKLOADS
from parts.benchmark.results import Results
from parts.benchmark.workload import RATE

HEADS = ("first batch", "trainer", "workers", "CPU", "memory", "shared", "waiting", "stop")
FIRST = "first_ms"  # of each feed whose costs are measured
ABOUT = (
    "first batch of a cold start (with the peer imported before) and stop in ms; CPU of the trainer and of the workers "
    "in ms per batch, and of all in s per GB; growth of the proportional memory in MB, without and in shared memory; "
    "the fraction of time that a training loop waits if its step takes as long as a batch"
)
Row = tuple[str, str, list[str]]


def as_text(results: Results) -> str:
    """Return the results for a terminal."""
    lines, last = [machine()], None
    for row in results.rows():
        if row.workload != last:
            lines += ["", f"{row.workload}: {WORKLOADS[row.workload].about}"]
            last = row.workload
        ratio = results.ratio(row.workload, row.name)
        relative = "" if ratio is None else f"   mpqueue / loader {ratio:.2f}"
        around = "one round" if row.spread is None else f"+-{row.spread:4.0%}"
        lines.append(f"  {row.name:30}{row.median:>12,} {row.unit:10} {around:9}{relative}")
    return "\n".join([*lines, *_costs(results), "", *_notes(results)])


def _notes(results: Results) -> Iterator[str]:
    """Yield a line for each figure that is neither a rate nor a cost, and for each missing measurement."""
    for (workload, name), found in results.figures.items():
        for figure, values in found.items() if FIRST not in found else ():
            if figure != RATE:
                what = ", ".join(filter(None, [workload, name if name != OURS else "", figure]))
                median, unit = statistics.median(values), "" if RATE in found else WORKLOADS[workload].unit
                yield f"{what}: {_short(median)} {unit}".rstrip() + f" ({_short(min(values))} to {_short(max(values))})"
    for workload in dict.fromkeys(workload for workload, _ in results.figures):
        if absent := WORKLOADS[workload].absent():
            yield f"{workload}: not installed: {', '.join(absent)} (python3 -m pip install --group peers)"
    if results.left_out:
        yield f"not measured within the time limit: {', '.join(results.left_out)}"
    for (workload, name), why in results.failed.items():
        yield f"{workload}: {name} failed: {why}"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.3g}"


def as_json(results: Results) -> str:
    """Return all results as JSON."""
    rates = [row._asdict() for row in results.rows()]
    figures = [{"workload": workload, "name": name} | found for (workload, name), found in results.figures.items()]
    document = {"machine": machine(), "workers": results.num_workers, "rates": rates, "figures": figures}
    document |= {"left_out": results.left_out, "notes": list(_notes(results))}
    document |= {"failed": [[*key, why] for key, why in results.failed.items()]}
    document |= {"cost_heads": HEADS, "cost_rows": list(cost_rows(results))}
    return json.dumps(document, indent=1)


def machine() -> str:
    """Return the versions and the machine of the measurement."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"mpqueue {mpqueue.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"{platform.machine()} {platform.system()} with {psutil.cpu_count()} CPUs and {memory:.0f} GiB"
    )


def cost_rows(results: Results) -> Iterator[Row]:
    """Yield workload, name, and one cell for each column of `HEADS`."""
    for (workload, name), found in results.figures.items():
        if FIRST in found:
            yield workload, name, _cells({key: statistics.median(values) for key, values in found.items()})


def _cells(middle: dict[str, float]) -> list[str]:
    cpu_ms = middle["trainer_ms"] + middle["workers_ms"]
    per_gb = cpu_ms / middle["batch_mb"] if middle.get("batch_mb") else None
    shared = middle.get("shared_mb")
    own = None if shared is None else middle["memory_mb"] - shared
    waiting = f"{middle['waiting']:.0%}"
    figures = middle[FIRST], middle["trainer_ms"], middle["workers_ms"], per_gb, own, shared
    return [*(_short_cost(figure) for figure in figures), waiting, _short_cost(middle["stop_ms"])]


def _costs(results: Results) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    last = None
    for workload, name, cells in cost_rows(results):
        if last is None:
            yield from ["", ABOUT, "", " " * 22 + "".join(f"{head:>12}" for head in HEADS)]
        if workload != last:
            yield workload
            last = workload
        yield f"  {name:20}" + "".join(f"{cell:>12}" for cell in cells)


def _short_cost(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
