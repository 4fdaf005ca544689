"""Loads with calls that signals interrupt: no batch may be lost or repeated.

Each load is an endless generator of its epochs.
"""

import asyncio
import importlib.util
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mpqueue
from mpqueue.loader.ahead import Ahead
from parts.soak.alarms import Alarms
from parts.soak.rounds import Deviation
from parts.soak.sources import is_kept

_LENGTH = 5
_SEED = 7
_HAS_TORCH = importlib.util.find_spec("torch") is not None
_RESUMES = 0.02  # fraction of the batches after which another loader resumes from a state


class Epoch(NamedTuple):
    """What came of an epoch, or of its part before a signal ended it.

    Attributes:
        expected: The batches that should come, or their samples.
        found: Those that came.
        is_reported: Whether a call reported that some may be lost.
    """

    expected: list[Any]
    found: list[Any]
    is_reported: bool = False


Epochs = Generator[Epoch, None, None]
Load = Callable[[Alarms], Epochs]


class Numbers:
    """Batches that contain their index."""

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> Any:
        return np.full(4, index)


class Mixed:
    """Batches with a new structure in each batch."""

    def __len__(self) -> int:
        return 4 * _LENGTH

    def __getitem__(self, index: int) -> Any:
        array = np.full((index + 1,) * (index % 3 + 1), index)
        if index % 4 == 0:
            return array
        if index % 4 == 1:
            return {f"key {index}": array, "text": f"batch {index}"}
        if index % 4 == 2:
            return [array, (array[0], None)] * (index + 1)
        return array.astype("f4"), [str(number) for number in range(index)]


class Broken(Numbers):
    """A sequence that raises for some items."""

    def __getitem__(self, index: int) -> Any:
        if index % 3 == 2:
            raise ValueError(f"item {index} is broken")
        return super().__getitem__(index)


class Awaited(Numbers):
    """Numbers of coroutines."""

    async def __getitem__(self, index: int) -> Any:
        await asyncio.sleep(0)
        return super().__getitem__(index)


class Drawn:
    """A sampler that is a generator."""

    def __iter__(self) -> Iterator[int]:
        yield from reversed(range(_LENGTH))

    def __len__(self) -> int:
        return _LENGTH


def _numbers() -> Iterator[Any]:
    return (np.full(4, number) for number in numbers_of_lane(3 * _LENGTH))


def numbers_of_lane(length: int) -> Iterator[int]:
    """Yield the numbers below a length that belong to this lane."""
    info = mpqueue.worker_info()
    assert info is not None
    yield from range(info.shard_id, length, info.num_shards)


async def _awaited_numbers() -> AsyncIterator[Any]:
    for number in _numbers():
        await asyncio.sleep(0)
        yield number


def _doubled(number: int) -> Any:
    return np.full(2, 2 * number)


async def _awaited_double(number: int) -> Any:
    await asyncio.sleep(0)
    return _doubled(number)


def _unbroken(number: int) -> Any:
    if number % 5 == 1:
        raise ValueError(f"element {number} is broken")
    return np.full(2, number)


def _indexed(threads: int = 1) -> mpqueue.Dataset:
    return mpqueue.Dataset.range(40).shuffle().map(_doubled, threads=threads).batch(4)


def _awaited_dataset() -> mpqueue.Dataset:
    return mpqueue.Dataset.range(40).shuffle().map(_awaited_double, concurrency=3).batch(4)


def _stream() -> mpqueue.Dataset:
    return mpqueue.Dataset.range(40).filter(is_kept).shuffle(buffer=4).map(_doubled).batch(3)


def _broken_stream() -> mpqueue.Dataset:
    return mpqueue.Dataset.range(20).filter(is_kept).map(_unbroken).batch(3)


def _plain(batch: Any) -> Any:
    """Return a batch as objects that can be compared."""
    if isinstance(batch, dict):
        return {key: _plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(map(_plain, batch))
    return batch.tolist() if hasattr(batch, "tolist") else batch


def _until_done(alarms: Alarms, function: Callable[..., Any], *arguments: Any) -> Any:
    while not (found := alarms.call(function, *arguments)):
        pass
    return found[0]


def read_epoch(
    alarms: Alarms, batches: Any, expected: list[Any], resume: Callable[[], list[Any]] | None = None
) -> Epoch:
    """Read an epoch.

    Args:
        alarms: Interrupts each call.
        batches: An iterable over the epoch.
        expected: The expected batches.
        resume: Takes a state now, and returns the batches that a loader with this state yields for the rest of the
        epoch.
    """
    begun, found = _until_done(alarms, iter, batches), []
    while True:
        try:
            got = alarms.call(next, begun)
        except StopIteration:
            return Epoch(expected, found)
        found += list(map(_plain, got))
        got.clear()
        left = expected[len(found) :]
        if resume is not None and left and found + left == expected and random.random() < _RESUMES:
            resumed = resume()
            if resumed != left:
                raise Deviation(f"expected {left} after a resume, got {resumed}")


class _Still:
    """A device to which batches are moved at once: a `mpqueue.loader.ahead.Mover`."""

    def start(self, batch: Any) -> Any:
        return batch

    def finish(self, moving: Any) -> Any:
        return moving

    def is_done(self, moving: Any) -> bool:
        return True

    def release(self, moving: Any) -> None:
        pass


class TakenAhead:
    """The epochs of a loader. Its batches are taken ahead of use."""

    def __init__(self, loader: mpqueue.Loader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return Ahead.of(self._loader, _Still(), 2)


def _loader(
    alarms: Alarms,
    source: Callable[[], Any],
    common: dict[str, Any],
    epochs: Callable[[Any], Any] = lambda loader: loader,
    **options: Any,
) -> Epochs:
    def resume() -> list[Any]:
        state = _until_done(alarms, loader.state_dict)
        with mpqueue.Loader(source(), workers=0, seed=_SEED, **common) as other:
            other.load_state_dict(state)
            return list(map(_plain, other))

    with (
        mpqueue.Loader(source(), workers=0, seed=_SEED, **common) as unstruck,
        mpqueue.Loader(source(), seed=_SEED, max_queue_size=4, **common, **options) as loader,
    ):
        while True:
            expected = list(map(_plain, unstruck))
            yield read_epoch(alarms, epochs(loader), expected, None if "ordered" in options else resume)


def _enqueuer(alarms: Alarms, *, processes: bool) -> Epochs:
    with mpqueue.OrderedEnqueuer(Numbers(), processes) as enqueuer:
        enqueuer.start(2, 4)
        batches = enqueuer.get()
        while True:
            found: list[int] = []
            while _LENGTH - 1 not in found and len(found) < 2 * _LENGTH:
                found.append(int(_until_done(alarms, next, batches)[0]))
            yield Epoch(list(range(_LENGTH)), found)


def _torch(alarms: Alarms, **options: Any) -> Epochs:
    """Run passes of torch's loader. Each must be complete, or raise the error that reports an interrupt."""
    loader: Any = mpqueue.torch.DataLoader(range(4 * _LENGTH), batch_size=4, **options)
    while True:
        found: list[int] = []
        is_reported = False
        try:
            begun = _until_done(alarms, iter, loader)
            while True:
                for batch in alarms.call(next, begun):
                    found += batch.tolist()
        except StopIteration:
            found = sorted(found) if "shuffle" in options else found
        except RuntimeError as error:
            if "an interrupt arrived" not in str(error):
                raise Deviation(f"{error} came after {found}") from error
            is_reported = True
        yield Epoch(list(range(4 * _LENGTH)), found, is_reported)


def _consumer(alarms: Alarms, source: Any, **options: Any) -> Epochs:
    expected = [_plain(source[index]) for index in range(len(source))]
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        name = str(Path(folder) / "interrupts")
        with mpqueue.Server(name, source, workers=1, **options), mpqueue.attach(name, timeout=30) as consumer:
            while True:
                yield read_epoch(alarms, consumer, expected)


_BACKENDS: dict[str, dict[str, Any]] = {
    "processes": {"workers": 2},
    "threads": {"workers": 2, "backend": "thread"},
    "inline": {"workers": 0},
}
_TAKEN_AHEAD = ("batches", "samples by a sampler", "broken samples", "a stream")
_SOURCES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "batches": (Numbers, {}),
    "mixed batches": (Mixed, {}),
    "samples": (Numbers, {"batch_size": 2, "shuffle": True}),
    "samples in threads": (Numbers, {"batch_size": 2, "threads": 2}),
    "samples of coroutines": (Awaited, {"batch_size": 2, "concurrency": 3}),
    "batches of coroutines": (Awaited, {}),
    "samples by a sampler": (Numbers, {"batch_size": 2, "sampler": Drawn()}),
    "broken samples": (Broken, {"batch_size": 2, "on_error": "skip"}),
    "broken samples in threads": (Broken, {"batch_size": 2, "threads": 2, "on_error": "skip"}),
    "broken batches": (Broken, {"on_error": "skip"}),
    "a broken stream": (_broken_stream, {"lanes": 2, "on_error": "skip"}),
    "a dataset": (_indexed, {}),
    "a dataset with threads": (partial(_indexed, 3), {}),
    "a dataset with coroutines": (_awaited_dataset, {}),
    "an asynchronous generator function": (lambda: _awaited_numbers, {"lanes": 2}),
    "a generator function": (lambda: _numbers, {"lanes": 2}),
    "a stream": (_stream, {"lanes": 2}),
}


def _of_loaders(name: str, of_sources: Iterable[str], **common: Any) -> dict[str, Load]:
    return {
        f"{source}{name}, {backend}": partial(_loader, source=make, common=options, **common, **of_backend)
        for source, (make, options) in _SOURCES.items()
        for backend, of_backend in _BACKENDS.items()
        if source in of_sources
    }


_OF_TORCH: dict[str, dict[str, Any]] = {
    "torch, 0 workers": {"num_workers": 0},
    "torch, 0 workers, shuffled": {"num_workers": 0, "shuffle": True},
    "torch, 2 workers": {"num_workers": 2},
    "torch, 2 workers that persist": {"num_workers": 2, "persistent_workers": True},
}
LOADS: dict[str, Load] = {
    **_of_loaders("", _SOURCES),
    **_of_loaders(" ahead", _TAKEN_AHEAD, epochs=TakenAhead),
    **{name: partial(_torch, **options) for name, options in _OF_TORCH.items() if _HAS_TORCH},
    "an enqueuer of processes": partial(_enqueuer, processes=True),
    "an enqueuer of threads": partial(_enqueuer, processes=False),
    "a consumer": partial(_consumer, source=Numbers()),
    "a consumer of mixed batches": partial(_consumer, source=Mixed(), mode="broadcast"),
}
# One of each front end. A loss in them is counted, too.
FRONTS: dict[str, Load] = {
    "inline": LOADS["batches, inline"],
    "thread": LOADS["batches, threads"],
    "process": LOADS["batches, processes"],
    "stream": LOADS["a generator function, processes"],
    "unordered": partial(_loader, source=Numbers, common={}, workers=2, ordered=False),
    "ahead": LOADS["batches ahead, processes"],
    "enqueuer": LOADS["an enqueuer of processes"],
    **({"torch-0": LOADS["torch, 0 workers"], "torch-1": partial(_torch, num_workers=1)} if _HAS_TORCH else {}),
}
