"""Functions for the programs of the player: they return batches as plain data, and errors in place of results."""

import contextlib
import errno
import os
import shutil
import signal
import sys
import tempfile
import time
import weakref
from functools import partial

import numpy as np
import psutil
from helpers.forked_calls import begun_in_fork
from model.elements import Failed
from model.functions import simple

import mpqueue
from mpqueue.dataset.lanes import lane
from mpqueue.memory.segment import FIRST_BYTES, Segment
from mpqueue.worker.runners import lane_runner

PACKAGE = os.path.dirname(mpqueue.__file__)
END = Failed("StopIteration", "")


def plain(value):
    """Return a batch as plain data, which can be compared and written into a program."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value).__module__.partition(".")[0] in {"torch", "jax", "jaxlib", "tensorflow"}:
        value = np.asarray(value)
    value = simple(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list) and not isinstance(value, Failed):
        return type(value)(map(plain, value))
    return value


def outcome(function, *given):
    """Call a function; return its result as plain data, or its error."""
    return _raw(lambda: plain(function(*given)))


def _raw(function, *given):
    try:
        return function(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Failed(type(error).__name__, str(error))


def take(batches):
    """Return the next batch of each rank."""
    return [outcome(next, each) for each in batches]


def kind_of(function, *given):
    """Return the type of the error of a function, or None."""
    found = outcome(function, *given)
    return found.kind if isinstance(found, Failed) else None


def workers():
    """Return the workers of this process."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if _name_of(each).startswith("mpqueue-worker")]


def _name_of(process):
    with contextlib.suppress(psutil.Error):  # it has exited
        return process.name()
    return ""


def kill(which):
    """Kill a worker, if there is one."""
    with contextlib.suppress(psutil.Error, IndexError):
        workers()[which].kill()


class Interrupted(Exception):
    """Raised by a signal handler."""


_OF_SOURCES = ("cannot add", "cannot read", "cannot take", "is damaged", "no more of", "no verdict")  # in their errors


def _is_of_source(error):
    """Return whether an error, or one that it has replaced, is of a source."""
    while error is not None and not any(word in str(error) for word in _OF_SOURCES):
        error = error.__context__
    return error is not None


def interrupted(batches, after_s):
    """Return the next batches, although a signal handler raises in the call; after that, request the batch again."""

    def handle(number, frame):
        if strikes:
            signal.setitimer(signal.ITIMER_REAL, after_s)
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        # Only before `next` has returned: otherwise this program would lose the batch. Not while an error of the source
        # is on its way: it would be the context of the interrupt, and may be raised again or not.
        if frame is not None and strikes and not _is_of_source(sys.exception()):
            strikes.pop()
            raise Interrupted

    strikes = [1, 2]
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    found = []
    try:
        while len(found) < len(batches):
            got = outcome(next, batches[len(found)])
            if not (isinstance(got, Failed) and got.kind == "Interrupted"):
                found.append(got)
    finally:
        strikes.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return found


def forked(batches):
    """Fork this process; return the types of the errors that the child gets for a batch of each rank."""
    return eval(begun_in_fork(lambda: [kind_of(next, each) for each in batches])())


def seen_by_child(batches, count):
    """Return a batch as a child sees it that was forked before this process took the later batches; and those."""
    got = [_raw(next, each) for each in batches]
    read_go, write_go = os.pipe()

    def show(got):
        os.read(read_go, 1)
        return list(map(plain, got))

    answer = begun_in_fork(partial(show, got))
    del got
    later = [take(batches) for _ in range(count)]
    os.write(write_go, b"x")
    first = eval(answer())
    os.close(read_go), os.close(write_go)
    return [first, *later]


@contextlib.contextmanager
def marked(mark):
    """Kill the next worker that computes a fatal sample."""
    path = os.path.join(tempfile.gettempdir(), mark)
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def pause(seconds=0.03):
    """Stop all workers with SIGSTOP for some time."""
    stopped = workers()
    for each in stopped:
        with contextlib.suppress(psutil.Error):
            each.suspend()
    time.sleep(seconds)
    for each in stopped:
        with contextlib.suppress(psutil.Error):
            each.resume()


def info_of(info):
    """Return the known facts of a batch: the ids of its samples, and its costs if there is a balance."""
    costs = {name: getattr(info, name) for name in ("cost", "step_cost", "tokens", "step_tokens")}
    return list(info.samples), {name: cost for name, cost in costs.items() if cost is not None}


def parts_of(loader):
    """Return the numbers of samples that each part of a mixture has returned."""
    return {name: count for name, count in loader.state_dict()["parts"].items() if count}


def save_often(*, is_on=True, usual=(lane_runner._WORK_PER_SAVE, lane_runner._BETWEEN_NS)):
    """Take a snapshot of a lane after each element, in workers that are forked from here, too."""
    lane_runner._WORK_PER_SAVE, lane_runner._BETWEEN_NS = (0, 0) if is_on else usual
    lane._UNTIL_SHORT = 0 if is_on else 16


def limit_memory(slots=None, usual=(Segment.reserve, Segment.discard)):
    """Limit the memory of the trainer to a number of empty slots per segment; None: no limit."""

    def reserve(segment, offset, end, **options):
        pages = used.setdefault(segment, set()) | {*range(offset >> 12, -(-end >> 12))}
        if len(pages) > slots * FIRST_BYTES >> 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        usual[0](segment, offset, end, **options)
        used[segment] = pages

    def discard(segment, offset, end):
        usual[1](segment, offset, end)
        used.setdefault(segment, set()).difference_update(range(offset >> 12, -(-end >> 12)))

    used = weakref.WeakKeyDictionary()
    Segment.reserve, Segment.discard = usual if slots is None else (reserve, discard)


def size_of(folder):
    """Return the size of the data and indexes in caches, without marks of their use."""
    stored = [name for name in os.listdir(folder) if name.endswith((".data", ".index"))]
    return sum(os.path.getsize(os.path.join(folder, name)) for name in stored)


def damage(folder, way):
    """Damage the files of caches: replace them by files of a different cache, change bytes, or truncate them."""
    with tempfile.TemporaryDirectory() as other:
        list(mpqueue.Dataset.range(60).map(str).cache(other))
        renamed = {os.path.splitext(name)[1]: os.path.join(other, name) for name in os.listdir(other)}
        for name in os.listdir(folder):
            if os.path.splitext(name)[1] not in renamed:  # the mark of a bound, which has no contents
                continue
            path = os.path.join(folder, name)
            size = os.path.getsize(path)
            if way == 0:
                os.replace(shutil.copy(renamed[os.path.splitext(name)[1]], other + "/copy"), path)
            elif way == 1:
                with open(path, "r+b") as file:
                    file.seek(size // 2)
                    file.write(bytes(each ^ 255 for each in file.read(100)))
            else:
                os.truncate(path, size // 2)


def jump():
    """Move the clock that this process reads by a day."""
    now = time.time
    time.time = lambda: now() + 86400
