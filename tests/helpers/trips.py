"""The path of a batch: the files of the package that it passes, and the number of function calls.

Each thread is profiled with `sys.setprofile`. Calls are counted in windows of `WINDOW` elements, and the window with
the fewest calls is used. A busy machine adds calls (waits for a batch that would otherwise be ready) but removes none,
so the minimum is the cost of the path itself.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from helpers.deadlock import DEADLOCK_S

import mpqueue
from mpqueue.service.connections import Handlers

# The cost of the first batch was measured with the real clock. Its weight shrinks by a sixteenth with each later batch.
WARM_UP, WINDOW = 250, 100
NUM_WINDOWS = 12  # two sides run concurrently; even on a busy machine, one of the windows is mostly undisturbed
AT_ONCE = 10  # batches that a server serves in one pass
SHAPE = (16,)  # of a batch
# Several grants and reports travel in one message, so a file counts if one element in `_ONE_IN` passes it. Timed
# batches are rarer, because only a fixed number per second is timed.
_ONE_IN = 12
_PACKAGE = str(Path(mpqueue.__file__).parent)


class Leg(NamedTuple):
    """The work of one thread or process for an element.

    Attributes:
        calls: Calls of Python functions of the package per element.
        files: Files of these functions, in the order in which they were first called.
    """

    calls: float
    files: list


class Recorder:
    """The profile function of one thread, which counts calls of the package's functions. `mark` ends an element."""

    def __init__(self):
        self._windows, self._files, self._number = [], {}, 0
        self._begin_window()

    def _begin_window(self):
        self._calls, self._passes, self._latest = 0, Counter(), {}

    def __call__(self, frame, event, _):
        if event != "call" or not (path := frame.f_code.co_filename).startswith(_PACKAGE):
            return
        self._calls += 1
        if self._latest.get(path) != self._number:
            self._latest[path] = self._number
            self._passes[path] += 1
            self._files[path] = None

    def mark(self):
        """End an element, and start the next one."""
        self._number += 1
        if self._number % WINDOW == 0:
            self._windows.append((self._calls, self._passes))
            self._begin_window()

    def leg(self):
        """Return the calls and files of the window with the fewest calls."""
        calls, passes = min(self._windows, key=lambda window: window[0])
        root = Path(_PACKAGE).parent
        files = [str(Path(path).relative_to(root)) for path in self._files if passes[path] * _ONE_IN >= WINDOW]
        return Leg(calls / WINDOW, files)


def watched(step, wait):
    """Profile a function that takes one batch. The wait before each batch is not profiled."""
    recorder = Recorder()
    step()
    for _ in range(WARM_UP):
        wait()
        step()
    try:
        for _ in range(WINDOW * NUM_WINDOWS):
            wait()
            sys.setprofile(recorder)
            step()
            sys.setprofile(None)
            recorder.mark()
    finally:
        sys.setprofile(None)
    return recorder.leg()


def _stop_clocks():
    """Set the cost of this worker's batches to zero, because slow batches change the number of grants."""
    clock = time.perf_counter_ns
    now = clock()
    for module in [module for name, module in sys.modules.items() if name.startswith("mpqueue.")]:
        for name, value in list(vars(module).items()):
            if value is clock:
                setattr(module, name, lambda: now)


class _Numbers:
    """A source of batches that profiles its worker from inside, and writes the result to a file."""

    def __init__(self, folder):
        self._path, self._pid_path = folder / "leg.json", folder / "pid"
        self._recorder = None

    def __len__(self):
        return 4 * WINDOW * NUM_WINDOWS

    def __getitem__(self, index):
        if index == 0:
            _stop_clocks()
            self._pid_path.write_text(str(os.getpid()))
        elif index == WARM_UP:
            self._recorder = Recorder()
            sys.setprofile(self._recorder)
        elif index == WARM_UP + (NUM_WINDOWS - 1) * WINDOW + 1:
            self._end()
        elif self._recorder is not None:
            self._recorder.mark()
        return np.zeros(SHAPE)

    def _end(self):
        sys.setprofile(None)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._recorder.leg()))
        new.rename(self._path)  # the trainer may look at any moment

    def wait_until_idle(self):
        """Return when the worker sleeps, which it does while it waits for grants."""
        with open(f"/proc/{self._pid_path.read_text()}/stat") as file:
            while file.read().rpartition(") ")[2][0] != "S":
                file.seek(0)

    def leg(self, batches):
        """Return the path through the worker. Take batches until the result is written."""
        while not self._path.exists():
            next(batches)
        return Leg(*json.loads(self._path.read_text()))


class _HeldRecorder(Recorder):
    """The recorder of a server's thread, which can pause the thread between two passes, before it waits for messages.

    Otherwise one pass serves all batches that have arrived, and the calls of the pass are divided among them.
    """

    def __init__(self):
        super().__init__()
        self._is_holding, self._held, self._may_pass = False, threading.Event(), threading.Event()

    def __call__(self, frame, event, argument):
        if self._is_holding and event == "call" and frame.f_code is Handlers.wait.__code__:
            self._held.set()
            self._may_pass.wait(DEADLOCK_S)
            self._may_pass.clear()
        super().__call__(frame, event, argument)

    @contextlib.contextmanager
    def holding(self, wake):
        """Pause the thread after ``wake`` has woken it."""
        self._is_holding = True
        try:
            wake()
            self._wait_until_held()
            yield
        finally:
            self._is_holding = False
            self._may_pass.set()

    def let_pass(self):
        """Make the paused thread process the messages that have arrived."""
        self._held.clear()
        self._may_pass.set()
        self._wait_until_held()

    def _wait_until_held(self):
        assert self._held.wait(DEADLOCK_S), "the server did not process its messages"


def of_an_index(folder):
    """An index of an ordered loader with a worker process: in the trainer, and in the worker."""
    source = _Numbers(folder)
    with mpqueue.Loader(source, workers=1) as loader:
        batches = iter(loader)
        # Both sides alternate, so that all windows are equal, except on a busy machine.
        trainer = watched(lambda: next(batches), source.wait_until_idle)
        return {"trainer": trainer, "worker": source.leg(batches)}


@contextlib.contextmanager
def _threads_watched(make_recorder):
    """Yield the recorders of threads that start within the context, by name."""
    recorders = {}

    def begin(*_):
        sys.setprofile(recorders.setdefault(threading.current_thread().name, make_recorder()))

    threading.setprofile(begin)
    try:
        yield recorders
    finally:
        threading.setprofile(None)


def of_a_service(folder):
    """A batch of a server to a consumer: in the consumer, in the server's thread, and in the worker."""
    source = _Numbers(folder)
    with (
        _threads_watched(_HeldRecorder) as recorders,
        mpqueue.Server(f"{folder}/server", source, workers=1, max_queue_size=3 * AT_ONCE) as server,
        mpqueue.attach(server.folder, timeout=DEADLOCK_S) as consumer,
    ):
        batches, of_server = iter(consumer), recorders["mpqueue-server"]
        num_unannounced = 0

        def step():
            nonlocal num_unannounced
            next(batches)
            of_server.mark()
            num_unannounced += 1

        def wait():
            """After `AT_ONCE` batches, make the server process all their requests and the worker's reports."""
            nonlocal num_unannounced
            if num_unannounced == AT_ONCE:
                source.wait_until_idle()
                of_server.let_pass()
                num_unannounced = 0

        for _ in range(WARM_UP):
            next(batches)
        wake = server._run.loop._wakeup.wake
        with of_server.holding(wake):
            for _ in range(10):  # until the server has offered the maximum number of batches
                source.wait_until_idle()
                wake()
                of_server.let_pass()
            legs = {"consumer": watched(step, wait), "server": of_server.leg()}
        return legs | {"worker": source.leg(batches)}


TRIPS = {
    "index": of_an_index,
    "service": of_a_service,
}
