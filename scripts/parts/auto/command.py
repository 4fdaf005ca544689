"""Measure each case with "auto" and with fixed numbers, on one CPU and on all, and print a table of the rates.

A case is a source of samples and a trainer. With "auto", the rate is measured after a warm-up, in which the numbers of
workers and threads are chosen; with fixed numbers, after two seconds. CPUs are limited by the affinity of the process,
which also limits the workers. The trainer shares the CPUs with the workers.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import mpqueue
from parts.machine import ROOT, num_cpus

PAGE = ROOT / "docs/tuning.md"
BEGIN, END = "<!-- scripts/auto -->", "<!-- end of scripts/auto -->"
BATCH = 32
_FIXED_THREADS = (1, 4, 16, 32)
_FIXED_WARM_S = 2.0


class Samples:
    """Samples with a given cost in CPU time and waiting time.

    Args:
        computes_s: Seconds of CPU time per sample. The GIL is held, as in Python code.
        waits_s: Seconds of sleep per sample.
        burst: Period in batches: one batch of each ``burst`` batches costs ten times as much.
    """

    def __init__(self, computes_s: float = 0.0, waits_s: float = 0.0, burst: int = 0) -> None:
        self.computes_s, self.waits_s, self.burst = computes_s, waits_s, burst

    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        factor = 10 if self.burst and index // BATCH % self.burst == 0 else 1
        if self.waits_s:
            time.sleep(self.waits_s * factor)
        end = time.thread_time() + self.computes_s * factor
        while time.thread_time() < end:
            pass
        return np.full(100, index)


class Case(NamedTuple):
    """A row of the table: its name, its source, and the trainer's seconds per step as a function of time."""

    name: str
    source: Samples
    step: Callable[[float], float]


def cases(warm_s: float) -> list[Case]:
    """Return the cases. A trainer that changes its speed does so halfway through the warm-up of "auto"."""
    return [
        Case("computes", Samples(computes_s=0.0005), lambda _: 0.0),
        Case("waits", Samples(waits_s=0.005), lambda _: 0.0),
        Case("computes and waits", Samples(computes_s=0.0002, waits_s=0.002), lambda _: 0.0),
        Case("computes, one batch of 16 ten times as long", Samples(computes_s=0.0002, burst=16), lambda _: 0.0),
        Case("computes, for a slow trainer", Samples(computes_s=0.0005), lambda _: 0.05),
        Case(
            "computes, for a trainer that speeds up",
            Samples(computes_s=0.0005),
            lambda at: 0.1 if at < warm_s / 2 else 0.001,
        ),
    ]


class Rate(NamedTuple):
    """A measured rate in batches per second, with the number of workers and the threads of each worker."""

    batches_per_s: float
    workers: int
    threads: int


def measure(case: Case, warm_s: float, seconds: float, begins_at: float, **options: Any) -> Rate:
    """Return the rate after a warm-up; ``begins_at`` is the trainer's time at the start."""
    with mpqueue.Loader(case.source, batch_size=BATCH, seed=1, **options) as loader:
        started, counted_from, count = time.monotonic(), None, 0
        while True:
            for _ in loader:
                now = time.monotonic() - started
                time.sleep(case.step(begins_at + now))
                if counted_from is None and now >= warm_s:
                    counted_from = now
                elif counted_from is not None:
                    count += 1
                    if now - counted_from >= seconds:
                        resizes = loader.statistics().resizes
                        at = resizes[-1] if resizes else None
                        workers = loader.workers if at is None else at.workers
                        threads = options.get("threads", 1) if at is None else at.threads
                        return Rate(count / (now - counted_from), workers, int(threads))


def row(case: Case, cpus: int, warm_s: float, seconds: float) -> str:
    """Measure a case on a number of CPUs; return its row of the table."""
    threads = _FIXED_THREADS if case.source.waits_s else (1,)
    fixed = [
        measure(case, min(warm_s, _FIXED_WARM_S), seconds, warm_s, workers=workers, threads=number)
        for workers in range(1, cpus + 1)
        for number in threads
    ]
    best = max(fixed)
    found = measure(case, warm_s, seconds, 0.0, workers="auto", threads="auto")
    return (
        f"| {case.name} | {cpus} | {best.batches_per_s:.1f} ({best.workers} x {best.threads}) "
        f"| {found.batches_per_s:.1f} ({found.workers} x {found.threads}) "
        f"| {found.batches_per_s / best.batches_per_s:.2f} |"
    )


def table(warm_s: float, seconds: float, num_cpus: Sequence[int]) -> list[str]:
    """Measure all cases; return the lines of the table."""
    lines = [
        f"| Samples | CPUs | best fixed number, batches/s (workers x threads) | found after {warm_s:g} s | ratio |",
        "|---|---|---|---|---|",
    ]
    allowed = sorted(os.sched_getaffinity(0))
    for count in num_cpus:
        os.sched_setaffinity(0, allowed[:count])
        try:
            for case in cases(warm_s):
                lines.append(row(case, count, warm_s, seconds))
                print(lines[-1], flush=True)
        finally:
            os.sched_setaffinity(0, allowed)
    return [*lines, "", f"Batches of {BATCH} samples; each rate is measured for {seconds:g} s."]


def main(summary: str) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument(
        "--warm", type=float, default=30.0, metavar="S", help="seconds before the rate of auto is measured"
    )
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="seconds of each measurement")
    parser.add_argument("--cpus", type=int, nargs="*", help="numbers of CPUs (default: 1 and 2, if available)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/tuning.md")
    options = parser.parse_args()
    lines = table(options.warm, options.seconds, options.cpus or [count for count in (1, 2) if count <= num_cpus()])
    print("\n".join(lines))
    if options.write:
        text = PAGE.read_text()
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}")
    return 0
