"""Growth of cost with size: CPU time and bytes at sizes a decade apart, each point in a new process.

``scripts/benchmark.py --workloads growth`` measures all curves and prints the table of ``docs/benchmarks.md``. The
exponent of a curve is the slope of log(cost) over log(size) from a least-squares fit: 0 is constant, 1 is proportional.
CPU time is less affected by other load on the machine than elapsed time.
"""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil

import mpqueue
from parts.machine import SCRIPTS

GROUP, ABOUT = "growth", "growth of cost with parts, ranks, stages, consumers, threads and lists"
_POINT_S = 1.0  # CPU time per point, if there are enough elements
_LONGEST_S = 600

Point = Callable[[int], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Growth:
    """A cost that may grow with a size.

    Attributes:
        about: The cost, starting with its unit.
        across: The size.
        sizes: The measured sizes.
        measure: Functions that measure one point, by library. They return figures by unit.
    """

    about: str
    across: str
    sizes: tuple[int, ...]
    measure: dict[str, Point]


def _per_element(elements: Iterator[Any], each: int = 1) -> float:
    """Return the microseconds of CPU time per element, after a few elements that are not counted.

    Args:
        elements: An iterator.
        each: Number of elements per item.
    """
    for _ in itertools.islice(elements, 3):
        pass
    began, number = time.process_time(), 0
    for _ in elements:
        number += each
        if time.process_time() - began > _POINT_S:
            break
    return 1e6 * (time.process_time() - began) / max(1, number)


def _loaded(dataset: Any, **options: Any) -> float:
    """Return the microseconds per element of batches of 32 that this process computes itself."""
    with mpqueue.Loader(dataset, batch_size=32, workers=0, seed=1, **options) as loader:
        return _per_element(itertools.chain.from_iterable(iter(loader) for _ in itertools.count()), 32)


def _parts(count: int) -> list[Any]:
    return [mpqueue.Dataset.range(max(1, 100_000 // count)) for _ in range(count)]


def _concatenation(count: int) -> dict[str, float]:
    return {"us": _loaded(mpqueue.Dataset.concatenate(*_parts(count)).shuffle())}


def _mix(count: int) -> dict[str, float]:
    return {"us": _loaded(mpqueue.Dataset.mix(_parts(count), stop="never"))}


def _grain_parts(join: str) -> Point:
    def measure(count: int) -> dict[str, float]:
        import grain

        parts = [grain.MapDataset.range(max(1, 100_000 // count)) for _ in range(count)]
        joined = grain.MapDataset.concatenate(parts).shuffle(seed=1) if join == "concatenate" else None
        joined = grain.MapDataset.mix([part.repeat() for part in parts]) if joined is None else joined
        places = itertools.count()
        return {"us": _per_element(joined[place % len(joined)] for place in places)}

    return measure


def _stream(join: Callable[[list[Any]], Any]) -> Point:
    def measure(count: int) -> dict[str, float]:
        before = psutil.Process().memory_info().rss
        # Each shard has elements of every part: a shard without elements would have to open all parts.
        dataset = join([mpqueue.Dataset.range(1_000).filter(_true) for _ in range(count)])
        with mpqueue.Loader(dataset, batch_size=32, workers=0, lanes=16, seed=1) as loader:
            batches = iter(loader)
            us = _per_element(batches, 32)
            state = len(json.dumps(loader.state_dict()))
        return {"us": us, "MB": (psutil.Process().memory_info().rss - before) / 1e6, "KB of state": state / 1e3}

    return measure


def _true(_value: Any) -> bool:
    return True


def _identity(value: Any) -> Any:
    return value


def _stages(count: int) -> dict[str, float]:
    began = time.process_time()
    dataset = mpqueue.Dataset.range(1 << 20)
    for _ in range(count):
        dataset = dataset.map(_identity)
    built = time.process_time() - began
    return {"us for a stage": _loaded(dataset) / count, "us to build a stage": 1e6 * built / count}


def _names(count: int) -> dict[str, float]:
    names = [f"photo-{number}.jpg" for number in range(count)]
    with mpqueue.Loader(names, batch_size=count, workers=1, max_queue_size=1) as loader:
        iter(loader)  # starts the worker, and sends the list
        return {"ms": 1e3 * min(_cpu_of(lambda: iter(loader)) for _ in range(3))}


def _names_of_torch(count: int) -> dict[str, float]:
    import torch.utils.data

    names = [f"photo-{number}.jpg" for number in range(count)]
    loader = torch.utils.data.DataLoader(names, batch_size=8, num_workers=1, persistent_workers=True, collate_fn=len)
    iter(loader)
    return {"ms": 1e3 * min(_cpu_of(lambda: iter(loader)) for _ in range(3))}


def _cpu_of(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _ranks(count: int) -> dict[str, float]:
    with mpqueue.Loader(range(10**7), batch_size=32, workers=0, shuffle=True, shard=(0, count), seed=1) as loader:
        return {"us": _per_element(itertools.chain.from_iterable(iter(loader) for _ in itertools.count()))}


def _ranks_of_torch(count: int) -> dict[str, float]:
    import torch.utils.data

    # Its sampler permutes all indices on each rank. That happens before the first batch, and is counted.
    sampler = torch.utils.data.DistributedSampler(range(10**7), count, 0)
    loader = torch.utils.data.DataLoader(range(10**7), batch_size=32, sampler=sampler)
    began, number = time.process_time(), 0
    for number, _ in enumerate(loader, 1):  # noqa: B007 - counted after the loop
        if time.process_time() - began > 10 * _POINT_S:
            break
    return {"us": 1e6 * (time.process_time() - began) / max(1, number)}


def _buffer(count: int) -> dict[str, float]:
    dataset = mpqueue.Dataset.range(4 * count + 10_000).filter(_true).shuffle(buffer=count)
    with mpqueue.Loader(dataset, batch_size=32, workers=0, lanes=1, seed=1) as loader:
        batches = iter(loader)
        for _ in itertools.islice(batches, max(4, count // 32)):
            pass
        return {"bytes for a place": len(json.dumps(loader.state_dict())) / count}


def _consumers(count: int) -> dict[str, float]:
    taken = [0] * count
    longest = [0.0] * count
    name = f"growth-{os.getpid()}"
    with mpqueue.Server(name, _Tiny(), workers=1, mode="split", max_queue_size=10):
        gate, end = threading.Barrier(count + 1), time.monotonic() + 3600

        def consume(number: int) -> None:
            with mpqueue.attach(name) as consumer:
                gate.wait()
                before = time.monotonic()
                for _ in consumer:
                    now = time.monotonic()
                    longest[number] = max(longest[number], now - before)
                    taken[number] += 1
                    before = now
                    if now > end:
                        return

        threads = [threading.Thread(target=consume, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        gate.wait()
        began = time.process_time()
        end = time.monotonic() + 3  # read by the threads
        for thread in threads:
            thread.join()
        us = 1e6 * (time.process_time() - began) / max(1, sum(taken))
    return {"us": us, "least share": count * min(taken) / max(1, sum(taken)), "longest wait in ms": 1e3 * max(longest)}


class _Tiny:
    num_batches = None

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros(16, np.float32)


class _Sleeping:
    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> int:
        time.sleep(0.005)
        return index


def _threads(count: int) -> dict[str, float]:
    with mpqueue.Loader(_Sleeping(), batch_size=32, workers=1, threads=count, backend="thread") as loader:
        return _while_sleeping(iter(loader), count)


def _executor(count: int) -> dict[str, float]:
    source = _Sleeping()
    with ThreadPoolExecutor(count) as pool:
        batches = (list(pool.map(source.__getitem__, range(start, start + 32))) for start in itertools.count(0, 32))
        return _while_sleeping(batches, count)


def _while_sleeping(batches: Iterator[Any], count: int) -> dict[str, float]:
    for _ in itertools.islice(batches, 3):
        pass
    began, number = time.process_time(), max(2, count)
    for _ in itertools.islice(batches, number):
        pass
    return {"us": 1e6 * (time.process_time() - began) / (32 * number)}


_OURS = "mpqueue"
_ALWAYS = frozenset((_OURS, "executor"))
_DECADES = (1, 10, 100, 1_000, 10_000)
GROWTHS = {
    "concatenation": Growth(
        "us for an element", "parts", _DECADES, {_OURS: _concatenation, "grain": _grain_parts("concatenate")}
    ),
    "mix": Growth("us for an element", "parts", _DECADES, {_OURS: _mix, "grain": _grain_parts("mix")}),
    "concatenated streams": Growth(
        "us for an element, 16 virtual shards", "parts", _DECADES,
        {_OURS: _stream(lambda parts: mpqueue.Dataset.concatenate(*parts))},
    ),
    "mixed streams": Growth(
        "us for an element, 16 virtual shards", "streams", _DECADES, {_OURS: _stream(mpqueue.Dataset.mix)}
    ),
    "stages": Growth("us for an element and stage", "stages", (1, 10, 100, 1_000, 5_000), {_OURS: _stages}),
    "list": Growth(
        "ms for a new loop over a list of strings", "strings", (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
        {_OURS: _names, "torch": _names_of_torch},
    ),
    "ranks": Growth(
        "us for a batch of 32 of 10^7 shuffled samples", "ranks", _DECADES, {_OURS: _ranks, "torch": _ranks_of_torch}
    ),
    "state": Growth(
        "bytes of state for a place", "places in a buffer", (1_000, 10_000, 100_000, 1_000_000), {_OURS: _buffer}
    ),
    "consumers": Growth(
        "us for a batch of a split service, with its consumers", "consumers", (1, 4, 16, 32), {_OURS: _consumers}
    ),
    "threads": Growth(
        "us for a sample that sleeps", "threads", (1, 4, 16, 64), {_OURS: _threads, "executor": _executor}
    ),
}  # fmt: skip


def exponent(sizes: list[int], costs: list[float]) -> float:
    """Return the slope of log(cost) over log(size) from a least-squares fit."""
    across, up = np.log(sizes), np.log(np.maximum(costs, 1e-9))
    return float(np.polyfit(across, up, 1)[0]) if len(sizes) > 1 else math.nan


def num_points(*, quick: bool = False) -> int:
    """Return the number of points of `measure_all`."""
    return sum(len(_installed(growth)) * len(_sizes(growth, quick=quick)) for growth in GROWTHS.values())


def _sizes(growth: Growth, *, quick: bool) -> tuple[int, ...]:
    return growth.sizes[:-1] if quick else growth.sizes


def _installed(growth: Growth) -> list[str]:
    """Return the libraries that can be measured: mpqueue, the standard library, and installed peers."""
    return [who for who in growth.measure if who in _ALWAYS or importlib.util.find_spec(who) is not None]


def measure_all(report: Callable[[str], None], *, quick: bool = False) -> Iterator[str]:
    """Yield the lines of a Markdown table with a row for each curve.

    Args:
        report: Called before each point with its name.
        quick: Whether to omit the largest size of each curve.
    """
    yield "| curve | cost | library | sizes | cost at these sizes | exponent |"
    yield "|---|---|---|---|---|---:|"
    for name, growth in GROWTHS.items():
        sizes = _sizes(growth, quick=quick)
        for who in _installed(growth):
            points: dict[str, list[float]] = {}
            for size in sizes:
                report(f"{name}, {who}, {size:,}")
                for unit, figure in _point(name, who, size).items():
                    points.setdefault(unit, []).append(figure)
            for unit, figures in points.items():
                cost = growth.about if unit in growth.about.split() else unit
                costs = " / ".join(f"{figure:,.3g}" for figure in figures)
                shown = " / ".join(f"{size:,}" for size in sizes)
                slope = exponent(list(sizes), figures)
                yield f"| {name} | {cost} | {who} | {shown} {growth.across} | {costs} | {slope:.2f} |"


def _point(name: str, who: str, size: int) -> dict[str, float]:
    """Measure one point in a new process."""
    command = [sys.executable, "-m", "parts.benchmark.growth", name, who, str(size)]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    if done.returncode:
        raise SystemExit(f"benchmark.py: {name} of {who} at {size:,} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    _name, _who, _size = sys.argv[1:]
    print(json.dumps(GROWTHS[_name].measure[_who](int(_size))))
