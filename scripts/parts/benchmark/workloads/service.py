"""One server for many trainers: a server with consumers in other processes, compared with separate loaders.

Trainers only take the batches, and do not read them. They count them until they are killed. The counts are in shared
memory. The measuring process reads all counts at two times, so rates do not include the start or the end of a trainer,
and a trainer that waits for a batch at the end can simply be killed.
"""

import contextlib
import dataclasses
import mmap
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.consuming import LONGEST_WARM_UP_S, WARM_UP_S
from parts.benchmark.workload import OF_TENSORFLOW, RATE, Figures, Library, Setting
from parts.benchmark.workloads.batches import Batches, SourceOf, of
from parts.processes import comes_true, forks

NUM_CONSUMERS = 4
ATTACH_S = 60.0
ENOUGH_BATCHES, LONGEST_S = 100, 10.0  # slow batches are counted for longer
DEADLOCK_S = 90.0

# Called in the trainer's process with the number of the trainer, from 0; returns its batches.
Taken = Callable[[int], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Trainers:
    """Running trainers.

    Attributes:
        processes: The process of each trainer,
        counts: and its number of batches, in shared memory.
    """

    processes: list[Any]
    counts: memoryview

    def await_batches(self, num_batches: int, seconds: float = DEADLOCK_S) -> bool:
        """Wait until each trainer has taken ``num_batches``; return False after ``seconds``.

        Raises:
            RuntimeError: A trainer exited.
        """

        def are_taken() -> bool:
            self._check()
            return min(self.counts) >= num_batches

        return comes_true(are_taken, seconds)

    def rate(self, ahead: int, seconds: float) -> float:
        """Return the batches per second of all trainers together, once all of them run.

        Args:
            ahead: Number of batches ahead. Batches that were computed while a slow trainer started are not counted.
            seconds: Duration of the count; longer for slow batches.

        Raises:
            RuntimeError: A trainer exited, or got no batch.
        """
        if not self.await_batches(1):
            raise RuntimeError(f"expected a batch for each trainer within {DEADLOCK_S:g} s, got {list(self.counts)}")
        self.await_batches(4 * ahead, LONGEST_WARM_UP_S)
        time.sleep(WARM_UP_S)
        before, began = sum(self.counts), time.perf_counter()
        while True:
            time.sleep(seconds)
            counted, passed = sum(self.counts) - before, time.perf_counter() - began
            self._check()
            if counted >= ENOUGH_BATCHES or passed >= LONGEST_S:
                return counted / passed

    def _check(self) -> None:
        ended = [process.exitcode for process in self.processes if not process.is_alive()]
        if ended:
            raise RuntimeError(f"{len(ended)} of {len(self.processes)} trainers exited with {ended}")


@contextlib.contextmanager
def running_trainers(number: int, batches: Taken) -> Iterator[Trainers]:
    """Fork trainers, and kill them at the end."""
    counts = memoryview(mmap.mmap(-1, 8 * number)).cast("q")  # shared with the forks
    with forks(_train, [(batches, which, counts) for which in range(number)]) as processes:
        yield Trainers(processes, counts)


def _train(batches: Taken, which: int, counts: memoryview) -> None:
    for _ in batches(which):
        counts[which] += 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service(SourceOf):
    """A server with consumers.

    Attributes:
        mode: Mode of the server.
        consumers: Number of consumers; several consumers of a split are ranks.
    """

    mode: str
    consumers: int = NUM_CONSUMERS

    def is_installed(self, name: str) -> bool:
        """Return whether a library can be measured: none on systems without the service."""
        return sys.platform == "linux" and super().is_installed(name)

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate of all consumers together."""
        figures: Figures = self.readers[name].feed(self, setting)
        return figures


def _of_server(known: Service, setting: Setting, consumers: int | None = None) -> Figures:
    source, consumers = known.source, consumers or known.consumers
    world = consumers if consumers > 1 or known.mode == "broadcast" else None
    options: dict[str, Any] = {"mode": known.mode, "world": world, "workers": setting.num_workers}
    with tempfile.TemporaryDirectory(prefix="mpqueue-") as folder:
        name = f"{folder}/server"
        with (
            forks(_serve, [(name, source, options)]),
            running_trainers(
                consumers, partial(_attached, name, is_ranked=known.mode == "split" and world is not None)
            ) as trainers,
        ):
            return {RATE: [trainers.rate(source.ahead, setting.seconds)]}


def _serve(name: str, source: Batches, options: dict[str, Any]) -> None:
    with mpqueue.Server(name, source.make(), **options, max_queue_size=source.ahead) as server:
        server.wait()


def _attached(name: str, which: int, *, is_ranked: bool) -> Iterator[Any]:
    with mpqueue.attach(name, rank=which if is_ranked else None, timeout=ATTACH_S) as consumer:
        yield from consumer


def _of_loaders(known: Service, setting: Setting, number: int | None = None) -> Figures:
    """Measure trainers with separate loaders, which share the workers, at least one each."""
    source, number = known.source, number or known.consumers
    workers = max(1, setting.num_workers // number)

    def batches(_which: int) -> Iterator[Any]:
        with mpqueue.Loader(source.make(), workers=workers, max_queue_size=source.ahead) as loader:
            yield from loader

    with running_trainers(number, batches) as trainers:
        return {RATE: [trainers.rate(source.ahead, setting.seconds)]}


def _of_tensorflow(known: Service, setting: Setting) -> Figures:
    (array,) = known.source.make().arrays
    feed = _tf_data_service(array, setting.num_workers, known.source.ahead)
    with feed as batches, running_trainers(known.consumers, batches) as trainers:
        return {RATE: [trainers.rate(known.source.ahead, setting.seconds)]}


@contextlib.contextmanager
def _tf_data_service(array: np.ndarray, num_workers: int, ahead: int) -> Iterator[Taken]:
    """Use tf.data service: a dispatcher and a worker in one process. Every trainer gets all batches.

    A server can only run TensorFlow operations, so a batch is a constant plus a number, like mpqueue's copy of a
    constant: a new array cannot be cheaper. Its trainers share one computation through its cache. TensorFlow is only
    imported in the processes that need it, not in the process that starts them.
    """
    end, other = multiprocessing.Pipe()
    with forks(_serve_tensorflow, [(other,)]):
        target = end.recv()

        def batches(which: int) -> Iterator[Any]:
            tf = _tensorflow()
            service = tf.data.experimental.service
            constant = tf.constant(array)
            made = tf.data.Dataset.counter().map(
                lambda number: constant + tf.cast(number, constant.dtype), num_parallel_calls=num_workers
            )
            shared = service.distribute(
                service.ShardingPolicy.OFF,
                target,
                job_name="all",
                cross_trainer_cache=service.CrossTrainerCache(trainer_id=f"trainer {which}"),
            )
            return made.apply(shared).prefetch(ahead).as_numpy_iterator()  # type: ignore[no-any-return]

        yield batches


def _serve_tensorflow(end: Connection) -> None:
    service = _tensorflow().data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    end.send(dispatcher.target)
    worker.join()


def _tensorflow() -> Any:
    Library(None, "tensorflow", environ=OF_TENSORFLOW).load()
    import tensorflow as tf

    return tf


def _served(about: str, source: str, mode: str, readers: dict[str, Library], consumers: int = NUM_CONSUMERS) -> Service:
    return Service(about, **of(source), mode=mode, readers=readers, consumers=consumers)


_OURS, _LARGE = Library(_of_server), "(32, 224, 224, 3) float32 to 4 consumers, all together"
_OR_ONE_LOADER = {"mpqueue": _OURS, "one loader": Library(partial(_of_loaders, number=1))}
_OR_ONE_CONSUMER = {"mpqueue": _OURS, "one consumer": Library(partial(_of_server, consumers=1))}
_OR_OWN_LOADERS = {"mpqueue": _OURS, "own loaders": Library(_of_loaders)}
_OR_TENSORFLOW = {"mpqueue": _OURS, "tf.data service": Library(_of_tensorflow, "tensorflow")}
WORKLOADS = {
    "service tiny": _served("tiny batches to one consumer", "tiny", "split", _OR_ONE_LOADER, consumers=1),
    "service broadcast": _served(_LARGE, "image in place", "broadcast", _OR_ONE_CONSUMER),
    "service decode": _served("32 JPEG files to 4 trainers, all together", "decode", "broadcast", _OR_OWN_LOADERS),
    "service split": _served("32 JPEG files split over 4 ranks", "decode", "split", _OR_ONE_LOADER),
    "service split small": _served(
        "(32, 64, 64, 3) uint8 split over 4 ranks", "small in place", "split", _OR_ONE_LOADER
    ),
    "service peers": _served(
        "(32, 64, 64, 3) uint8 to 4 consumers, all together", "small", "broadcast", _OR_TENSORFLOW
    ),
}
