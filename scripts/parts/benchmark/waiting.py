"""Samples that wait, with threads in workers or with torch's processes; and samples that release the GIL, with threads.

Run it with ``python -m parts.benchmark.waiting`` in the folder of scripts. It prints medians and targets. Each
measurement runs in a separate process that has imported torch, like a trainer with torch.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from parts.benchmark.consuming import count, warm_up
from parts.benchmark.footprint import memory
from parts.benchmark.in_flight import ENDLESS
from parts.benchmark.samples import torchs
from parts.photographs.dataset import photo_files

BATCH = 32
_SLEEP_S = 0.02


class Sleeping:
    """Samples of 1 kB, each after a request of 20 ms."""

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        time.sleep(_SLEEP_S)
        return np.full(128, index)


class Varied(Sleeping):
    """The same with requests as from an object store: 20 ms in the median, 125 ms at the 99th percentile."""

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        time.sleep(random.Random(index).lognormvariate(math.log(_SLEEP_S), 0.8))
        return np.full(128, index)


class Decoding:
    """JPEG files, decoded by Pillow, which releases the GIL."""

    def __init__(self) -> None:
        self.paths = [str(path) for path in photo_files()[0].paths]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        from PIL import Image

        with Image.open(self.paths[index % len(self.paths)]) as image:
            return np.asarray(image.convert("RGB"))


class Way(NamedTuple):
    """A way to load a source: the loader, its number of workers, and the threads of each."""

    source: str
    loader: str
    workers: int
    threads: int = 1


SOURCES: dict[str, Callable[[], Any]] = {"sleeping": Sleeping, "varied": Varied, "decoding": Decoding}
ONE, MANY, TORCH = Way("sleeping", "mpqueue", 2), Way("sleeping", "mpqueue", 2, 16), Way("sleeping", "torch", 32)
VARIED, VARIED_TORCH = MANY._replace(source="varied"), TORCH._replace(source="varied")
ALONE, PAIRS = Way("decoding", "mpqueue", 2), Way("decoding", "mpqueue", 2, 2)
WAYS = (ONE, MANY, TORCH, VARIED, VARIED_TORCH, ALONE, PAIRS)


def measure(way: Way, seconds: float) -> dict[str, float]:
    """Return samples per second, and the proportional memory in MB of all processes, and of the loader alone."""
    import torch  # noqa: F401  # also where mpqueue loads: the trainer is the same

    import mpqueue

    source, before = SOURCES[way.source](), memory()
    if way.loader == "torch":
        feed: Any = torchs(source, BATCH, way.workers, 2 * way.workers)
    else:
        feed = mpqueue.Loader(source, batch_size=BATCH, workers=way.workers, threads=way.threads)
    with feed as loader:
        batches = iter(loader)
        warm_up(batches, 2 * way.workers)
        found = {"rate": BATCH * count(batches, seconds)["rate"]}
        running = memory()
    if before is not None and running is not None:
        found |= {"memory_mb": running.total, "added_mb": running.total - before.total}
    return found


def interleaved(ways: Sequence[Way], seconds: float, rounds: int) -> dict[Way, dict[str, float]]:
    """Measure each way in turn, each time in a new process; return the medians."""
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            command = [
                sys.executable,
                "-m",
                "parts.benchmark.waiting",
                "--one",
                json.dumps(way),
                "--seconds",
                f"{seconds}",
            ]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
    return {
        way: {name: statistics.median(one[name] for one in all_found) for name in all_found[0]}
        for way, all_found in found.items()
    }


def lines(found: dict[Way, dict[str, float]]) -> list[str]:
    """Return the table, and a line for each target with measurements."""
    table = [f"{'source':10}{'loader':9}{'workers':>8}{'threads':>8}{'samples/s':>11}{'MB':>8}{'MB added':>10}"]
    for way, one in found.items():
        sizes = f"{one.get('memory_mb', np.nan):8.0f}{one.get('added_mb', np.nan):10.0f}"
        table.append(f"{way.source:10}{way.loader:9}{way.workers:8}{way.threads:8}{one['rate']:11.0f}{sizes}")

    def compare(what: str, name: str, a: Way, b: Way, target: str) -> None:
        if a in found and b in found and name in found[a]:
            table.append(f"{what}: {found[a][name] / found[b][name]:.2f} (target: {target})")

    compare("rate of 16 threads / 1 thread", "rate", MANY, ONE, "at least 14")
    compare("rate of 16 threads / torch's 32 processes", "rate", MANY, TORCH, "at least 1")
    compare("the same with varying times", "rate", VARIED, VARIED_TORCH, "none")
    compare("added memory of 2 processes with 16 threads / torch's 32", "added_mb", MANY, TORCH, "at most 0.1")
    compare("decoding rate of 2 threads / 1 thread", "rate", PAIRS, ALONE, "at least 1")
    return table


def main() -> None:
    """Measure interleaved, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Way(*json.loads(options.one)), options.seconds)))
        return
    ways = [way for way in WAYS if way.source in options.sources]
    print("\n".join(lines(interleaved(ways, options.seconds, options.rounds))))


if __name__ == "__main__":
    main()
