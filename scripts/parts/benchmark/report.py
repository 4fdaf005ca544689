"""Formats the results for a terminal or as JSON."""

import json
import platform
import statistics
import sys
from collections.abc import Iterator

import numpy as np
import psutil

import mpqueue
from parts.benchmark import costs
from parts.benchmark.cells import OURS
from parts.benchmark.known import WORKLOADS
from parts.benchmark.results import Results
from parts.benchmark.workload import RATE


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
    return "\n".join([*lines, *costs.as_text(results), "", *_notes(results)])


def _notes(results: Results) -> Iterator[str]:
    """Yield a line for each figure that is neither a rate nor a cost, and for each missing measurement."""
    for (workload, name), found in results.figures.items():
        for figure, values in found.items() if costs.FIRST not in found else ():
            if figure != RATE:
                what = ", ".join(filter(None, [workload, name if name != OURS else "", figure]))
                median, unit = statistics.median(values), "" if RATE in found else WORKLOADS[workload].unit
                yield f"{what}: {_short(median)} {unit}".rstrip() + f" ({_short(min(values))} to {_short(max(values))})"
    for workload in dict.fromkeys(workload for workload, _ in results.figures):
        known = WORKLOADS[workload]
        absent = [name for name in known.readers if not known.is_installed(name)]
        if absent:
            yield f"{workload}: not installed: {', '.join(absent)} (python3 -m pip install --group peers)"
    if results.left_out:
        yield f"not measured within the time limit: {', '.join(results.left_out)}"
    for (workload, name), why in results.failed.items():
        yield f"{workload}: {name} failed: {why}"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.3g}"


def as_json(results: Results) -> str:
    """Return all results as JSON."""
    rates = [row._asdict() | {"spread": row.spread} for row in results.rows()]
    figures = [{"workload": workload, "name": name} | found for (workload, name), found in results.figures.items()]
    document = {"machine": machine(), "workers": results.num_workers, "rates": rates, "figures": figures}
    document |= {"left_out": results.left_out, "notes": list(_notes(results))}
    document |= {"failed": [[*key, why] for key, why in results.failed.items()]}
    document |= {"cost_heads": costs.HEADS, "cost_rows": list(costs.rows(results))}
    return json.dumps(document, indent=1)


def machine() -> str:
    """Return the versions and the machine of the measurement."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"mpqueue {mpqueue.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"{platform.machine()} {platform.system()} with {psutil.cpu_count()} CPUs and {memory:.0f} GiB"
    )
