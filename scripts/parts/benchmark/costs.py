"""The table of the costs of each feed."""

import statistics
from collections.abc import Iterator

from parts.benchmark.results import Results

HEADS = ("first batch", "trainer", "workers", "CPU", "memory", "shared", "waiting", "stop")
FIRST = "first_ms"  # of each feed whose costs are measured
ABOUT = (
    "first batch of a cold start (with the peer imported before) and stop in ms; CPU of the trainer and of the workers "
    "in ms per batch, and of all in s per GB; growth of the proportional memory in MB, without and in shared memory; "
    "the fraction of time that a training loop waits if its step takes as long as a batch"
)
Row = tuple[str, str, list[str]]


def rows(results: Results) -> Iterator[Row]:
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
    return [*(_short(figure) for figure in figures), waiting, _short(middle["stop_ms"])]


def as_text(results: Results) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    last = None
    for workload, name, cells in rows(results):
        if last is None:
            yield from ["", ABOUT, "", " " * 22 + "".join(f"{head:>12}" for head in HEADS)]
        if workload != last:
            yield workload
            last = workload
        yield f"  {name:20}" + "".join(f"{cell:>12}" for cell in cells)


def _short(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
