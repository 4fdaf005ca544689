"""Loads whose calls real signals strike at random moments: each backend, the enqueuers, Keras's, a consumer, queues.

A handler of SIGALRM raises 1 us to 1 ms after a call began, as Ctrl-C does. Nothing may be lost or come twice.
"""

import faulthandler
import os
import pickle
import random
import signal
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import mpqueue
from mpqueue.frameworks.keras.loader_passes import LoaderEnqueuer, LoaderEpochs
from mpqueue.frameworks.keras.passes import PassEnqueuer
from parts.soak.rounds import Deviation, Tally

_ENGINE = os.path.dirname(mpqueue.__file__) + os.sep
_SCALES = (2e-5, 2e-4, 1e-3)
_LENGTH = 5
_HANG_S = 300  # of an epoch: a struck one begins its workers anew, which beside ten others took over 60
# Called by the collector, for the threads that `threading` knows: what is raised there is ignored by Python.
_OF_COLLECTOR = weakref.finalize.__call__.__code__, weakref.WeakSet()._remove.__code__  # type: ignore[attr-defined]


class Struck(BaseException):
    """The exception that the handler raises."""


class Alarms:
    """Calls that a signal strikes, while a frame of the engine is at work.

    Args:
        chance: Chooses the moments.

    Attributes:
        count: How often it has struck.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._is_armed, self.count = chance, False, 0
        signal.signal(signal.SIGALRM, self._strike)

    def _strike(self, _number: int, frame: FrameType | None) -> None:
        is_ours = False
        while frame is not None:
            if frame.f_code in _OF_COLLECTOR:
                return
            is_ours = is_ours or frame.f_code.co_filename.startswith(_ENGINE)
            frame = frame.f_back
        if self._is_armed and is_ours:
            self._is_armed = False
            self.count += 1
            raise Struck

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what a call returns, in a list; an empty list if it was struck."""
        try:
            signal.setitimer(signal.ITIMER_REAL, self._chance.uniform(1e-6, self._chance.choice(_SCALES)))
            self._is_armed = True
            found = function(*arguments)
            self._is_armed = False
        except Struck:
            return []
        finally:
            self._is_armed = False
        return [found]


class Numbers:
    """Batches that tell their index."""

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> Any:
        return np.full(4, index)


def _require(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Deviation(f"{found} came, and not {wanted}")


def _epochs(alarms: Alarms, batches: Any) -> Iterator[int]:
    """Read epoch after epoch; yield the number of batches of each."""
    while True:
        while not (begun := alarms.call(iter, batches)):
            pass
        found: list[int] = []
        while True:
            try:
                got = alarms.call(next, begun[0])
            except StopIteration:
                break
            found += [int(batch[0]) for batch in got]
            got.clear()
        _require(found, list(range(_LENGTH)))
        yield len(found)


def _loader(alarms: Alarms, **options: Any) -> Iterator[int]:
    with mpqueue.Loader(Numbers(), max_queue_size=4, **options) as loader:
        yield from _epochs(alarms, loader)


def _enqueuer(alarms: Alarms, *, processes: bool) -> Iterator[int]:
    with mpqueue.OrderedEnqueuer(Numbers(), processes) as enqueuer:
        enqueuer.start(2, 4)
        batches, wanted = enqueuer.get(), 0
        while True:
            got = alarms.call(next, batches)
            _require([int(batch[0]) for batch in got], [wanted][: len(got)])
            wanted = (wanted + len(got)) % _LENGTH
            yield len(got)
            got.clear()


def _epoch_of_fit(alarms: Alarms, enqueuer: PassEnqueuer | LoaderEnqueuer) -> int:
    """Ask for an epoch as Keras does; return how many batches came before a signal ended it."""
    enqueuer.start()
    batches = enqueuer.get()
    for number in range(_LENGTH):
        got = alarms.call(next, batches)
        if not got:
            return number
        _require(int(got[0][0]), number)
        got.clear()
    while not alarms.call(enqueuer.stop):
        pass
    return _LENGTH


def _fits(alarms: Alarms, *, processes: bool) -> Iterator[int]:
    """Fit again and again; a signal ends a fit, and the next one is whole."""
    while True:
        enqueuer = PassEnqueuer(Numbers(), 2, use_multiprocessing=processes)
        for _ in range(3):
            num_batches = _epoch_of_fit(alarms, enqueuer)
            yield num_batches
            if num_batches < _LENGTH:
                break


def _fits_of_a_loader(alarms: Alarms) -> Iterator[int]:
    """The same; and a state of the loader counts what came, no more."""
    with mpqueue.Loader(Numbers(), workers=2) as loader:
        epochs, epoch = LoaderEpochs(loader), 0
        while True:
            enqueuer = LoaderEnqueuer(epochs)
            alarms.call(epochs.peek, 0)
            num_batches = _epoch_of_fit(alarms, enqueuer)
            state = loader.state_dict()
            if 0 < num_batches < _LENGTH:
                _require((state["epoch"], state["position"]), (epoch, num_batches))
            epoch += num_batches > 0
            yield num_batches


def _consumer(alarms: Alarms) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        name = str(Path(folder) / "interrupts")
        with mpqueue.Server(name, Numbers(), workers=1), mpqueue.attach(name, timeout=30) as consumer:
            yield from _epochs(alarms, consumer)


def _queue(alarms: Alarms, *, shared: bool) -> Iterator[int]:
    queue = mpqueue.FIFOQueue(8, "int64", [()])
    if shared:
        pickle.dumps(queue)  # from now on other processes may use it
    held: list[int] = []
    number = 0
    while True:
        if alarms.call(queue.enqueue, number) or int(queue.size()) > len(held):
            held.append(number)
        number += 1
        got = alarms.call(queue.dequeue) if held else []
        _require([int(one) for one in got], held[: len(got)])
        del held[: len(got)]
        _require(int(queue.size()), len(held))
        if len(held) == 8:
            _require(queue.dequeue_many(8).tolist(), held)
            held.clear()
        yield len(got)


KINDS: dict[str, Callable[[Alarms], Iterator[int]]] = {
    "processes": lambda alarms: _loader(alarms, workers=2),
    "threads": lambda alarms: _loader(alarms, workers=2, backend="thread"),
    "inline": lambda alarms: _loader(alarms, workers=0),
    "an enqueuer of processes": lambda alarms: _enqueuer(alarms, processes=True),
    "an enqueuer of threads": lambda alarms: _enqueuer(alarms, processes=False),
    "fits with processes": lambda alarms: _fits(alarms, processes=True),
    "fits with threads": lambda alarms: _fits(alarms, processes=False),
    "fits of a loader": _fits_of_a_loader,
    "a consumer": _consumer,
    "a queue": lambda alarms: _queue(alarms, shared=False),
    "a shared queue": lambda alarms: _queue(alarms, shared=True),
}


def strike(seed: int, seconds: float) -> Tally:
    """Strike each kind for so long; what was counted.

    Raises:
        Deviation: Something was lost, or came twice.
    """
    tally, before = Tally(), signal.getsignal(signal.SIGALRM)
    try:
        for name, kind in KINDS.items():
            alarms, until = Alarms(random.Random(f"{seed} {name}")), time.monotonic() + seconds
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            try:
                for num_batches in kind(alarms):
                    faulthandler.dump_traceback_later(_HANG_S, exit=True)
                    tally.rounds += 1
                    tally.batches += num_batches
                    if time.monotonic() > until:
                        break
            except Deviation as deviation:
                raise Deviation(f"{name}, struck by signals: {deviation}") from deviation
            finally:
                faulthandler.cancel_dump_traceback_later()
                tally.faults[f"signals amid calls of {name}"] += alarms.count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return tally
