"""The path of a batch: the files of the package that it passes, and the number of function calls.

Each thread is profiled with `sys.setprofile`. Calls are counted in windows of `WINDOW` elements, and the window with
the fewest calls is used. A busy machine adds calls (waits for a batch that would otherwise be ready) but removes none,
so the minimum is the cost of the path itself.
"""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

import mpqueue

# The cost of the first batch was measured with the real clock. Its weight shrinks by a sixteenth with each later batch.
WARM_UP, WINDOW = 250, 100
NUM_WINDOWS = 12  # two sides run concurrently; even on a busy machine, one of the windows is mostly undisturbed
SHAPE = (16,)  # of a batch
# Several grants and reports travel in one message, so a file counts if one element in `_ONE_IN` passes it. Timed
# batches are rarer, because only a fixed number per second is timed.
_ONE_IN = 12
_PACKAGE = str(Path(mpqueue.__file__).parent)


class Leg(NamedTuple):
    """The work of one thread or process for an element.

    Attributes:
        calls: Calls of Python functions of the package per element.
        files: Files of these functions, in the order of their first calls.
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


def of_an_index(folder):
    """An index of an ordered loader with a worker process: in the trainer, and in the worker."""
    source = _Numbers(folder)
    with mpqueue.Loader(source, workers=1) as loader:
        batches = iter(loader)
        # Both sides alternate, so that all windows are equal, except on a busy machine.
        trainer = watched(lambda: next(batches), source.wait_until_idle)
        return {"trainer": trainer, "worker": source.leg(batches)}
