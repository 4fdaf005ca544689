"""Samples that wait, by threads in workers beside torch's processes; and samples that let go of the lock, by threads.

``python -m parts.benchmark.waiting`` in the folder of scripts; it prints medians, and what was to be reached. Each
measurement is made in a process of its own that has imported torch, as a trainer with torch has.
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
    """The same, after requests that take 20 ms by their median, and one of a hundred 125 ms, as of an object store."""

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        time.sleep(random.Random(index).lognormvariate(math.log(_SLEEP_S), 0.8))
        return np.full(128, index)


class Decoding:
    """JPEG files, decoded by Pillow, which lets go of the interpreter's lock meanwhile."""

    def __init__(self) -> None:
        self.paths = [str(path) for path in photo_files()[0].paths]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        from PIL import Image

        with Image.open(self.paths[index % len(self.paths)]) as image:
            return np.asarray(image.convert("RGB"))


class Way(NamedTuple):
    """A way to load a source: by whom, with so many workers, and threads in each."""

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
    """Return the samples per second, and the proportional memory in MB: of all processes, and what the loader added."""
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


def by_turns(ways: Sequence[Way], seconds: float, rounds: int) -> dict[Way, dict[str, float]]:
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
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(json.loads(told.splitlines()[-1]))
    return {
        way: {name: statistics.median(one[name] for one in all_found) for name in all_found[0]}
        for way, all_found in found.items()
    }


def lines(found: dict[Way, dict[str, float]]) -> list[str]:
    """Return the table, and a line for each figure to be reached whose ways were measured."""
    told = [f"{'source':10}{'loader':9}{'workers':>8}{'threads':>8}{'samples/s':>11}{'MB':>8}{'MB added':>10}"]
    for way, one in found.items():
        sizes = f"{one.get('memory_mb', np.nan):8.0f}{one.get('added_mb', np.nan):10.0f}"
        told.append(f"{way.source:10}{way.loader:9}{way.workers:8}{way.threads:8}{one['rate']:11.0f}{sizes}")

    def compare(what: str, name: str, a: Way, b: Way, wanted: str) -> None:
        if a in found and b in found and name in found[a]:
            told.append(f"{what}: {found[a][name] / found[b][name]:.2f} ({wanted})")

    compare("16 threads, in the rate of 1", "rate", MANY, ONE, "at least 14")
    compare("16 threads, in the rate of torch's 32 processes", "rate", MANY, TORCH, "at least 1")
    compare("the same with times that vary", "rate", VARIED, VARIED_TORCH, "none wanted")
    compare("memory that 2 processes of 16 threads add, in that of torch's 32", "added_mb", MANY, TORCH, "at most 0.1")
    compare("decoding in 2 threads, in the rate of 1", "rate", PAIRS, ALONE, "at least 1")
    return told


def main() -> None:
    """Measure by turns, and print the medians."""
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
    print("\n".join(lines(by_turns(ways, options.seconds, options.rounds))))


if __name__ == "__main__":
    main()
