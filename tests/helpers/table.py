"""The table of faults: place x kind x backend, with the expected outcome of each cell, or the reason why it is omitted.

This module contains only data and rules. `test_table.py` runs the cells; `hooks.py` causes the faults.
"""

from typing import NamedTuple

PLACES = {
    "forkserver": "the interpreter of the fork server starts",
    "unpickling": "the source is unpickled for the first time",
    "worker-init": "`worker_init` runs",
    "before-item": "`__getitem__` has just started",
    "amid-item": "`__getitem__` has filled one half of an array of `mpqueue.empty`",
    "amid-copy": "some bytes of the batch are in the slot",
    "before-record": "all bytes are in the slot, the record is not written",
    "after-record": "the record is written",
    "pickling-batch": "an object of the batch is pickled",
    "pickling-error": "an exception of the source is pickled",
    "idle": "all grants are reported, and the worker waits for more",
    "epoch-end": "the worker waits while the trainer is in `on_epoch_end`",
    "on-epoch-end": "`on_epoch_end` runs in the trainer",
    "push-to-fork_server": "the fork server unpickles a new state of the source",
    "push-to-worker": "a worker unpickles a new state of the source",
    "stopping": "the enqueuer stops",
}
RAISING = ("raise", "memory-error", "unpicklable", "ununpicklable", "unspeakable", "sys-exit")
DYING = ("exit-0", "exit-1", "sigkill", "sigsegv", "sigabrt", "sigterm")
PAUSING = ("sigstop-sigcont",)
HANGING = ("sigstop", "endless-loop")
KINDS = RAISING + DYING + PAUSING + HANGING
PROCESSES = ("forkserver", "fork", "spawn")
BACKENDS = (*PROCESSES, "thread", "inline")

AT = 3  # the index with the fault
LENGTH = 6  # batches per epoch
AT_START = -1

_IN_USER_CODE = ("worker-init", "before-item", "amid-item")
_LOCAL = ("thread", "inline")


class Outcome(NamedTuple):
    """The expected outcome of a cell.

    Attributes:
        error: Type name of the exception that ends the stream, or None if the stream is complete.
        after: Number of batches before it; `AT_START` if `start` raises it.
        deaths: Whether a worker or the fork server crashes.
    """

    error: str | None = None
    after: int = 0
    deaths: bool = False


class Impossible(NamedTuple):
    """A rule that omits all combinations of these places, kinds and backends."""

    places: tuple
    kinds: tuple
    backends: tuple
    reason: str


_TYPICAL = ("raise", "sigkill")
_ALL_BUT_TYPICAL = tuple(kind for kind in KINDS if kind not in _TYPICAL)
_LIKE_ANOTHER = ("exit-1", "sigsegv", "sigabrt")
_LIKE_RAISE = ("memory-error", "unpicklable", "ununpicklable", "unspeakable")
_SLOT = ("amid-copy", "before-record", "after-record", "pickling-batch", "pickling-error")
_DEADLY = (*DYING, "sigstop")
_OF_STARTS = ("worker-init", "amid-item", "stopping")
_FORK_SERVER = ("forkserver", "unpickling", "push-to-fork_server", "push-to-worker")

IMPOSSIBLE = [
    Impossible(_FORK_SERVER, KINDS, _LOCAL, "the caller's source is used without a fork server and without pickling"),
    Impossible(_FORK_SERVER, KINDS, ("fork",), "workers are forked with the source at each epoch, without a fork server"),
    Impossible(("push-to-fork_server",), KINDS, ("spawn",), "the fork server forwards the source without unpickling it"),
    Impossible(
        ("forkserver",), _ALL_BUT_TYPICAL, ("spawn",), "it is the fork server of forked workers, which has these cells"
    ),
    Impossible(
        tuple(place for place in PLACES if place not in ("forkserver", "unpickling", *_OF_STARTS, "push-to-worker")),
        KINDS, ("spawn",),
        "a spawned worker runs the same code as a forked worker: the cells of the fork server cover it",
    ),
    Impossible(
        (*_OF_STARTS, "push-to-worker"), _ALL_BUT_TYPICAL, ("spawn",),
        "as for the other places: the trainer receives the same exit status and the same exceptions",
    ),
    Impossible(
        tuple(place for place in PLACES if place not in (*_FORK_SERVER, *_OF_STARTS, "idle", "epoch-end")),
        KINDS, ("fork",),
        "a worker forked by the trainer runs the same code as one forked by the fork server",
    ),
    Impossible(
        ("worker-init", "stopping", "idle", "epoch-end"), _ALL_BUT_TYPICAL, ("fork",),
        "only the trainer's handling of each kind differs from that of the fork server, which the cells amid an item cover",
    ),
    Impossible(
        ("unpickling",), _LIKE_RAISE, ("spawn",), "one `except` clause handles them, as in the fork server"
    ),
    Impossible(
        ("before-item", "amid-copy", "pickling-error", "stopping", "forkserver"), _LIKE_RAISE, ("forkserver",),
        "one `except` clause handles all exceptions in this place, or none does",
    ),
    Impossible(
        tuple(place for place in PLACES if place not in ("worker-init", "amid-item")), _LIKE_ANOTHER,
        ("forkserver", "spawn"),
        "the trainer receives only an exit status, and the worker ends as by exit-0 or SIGKILL",
    ),
    Impossible(
        ("before-record", "after-record", "idle", "epoch-end"),
        tuple(kind for kind in RAISING if kind not in ("raise", "sys-exit")), ("forkserver",),
        "no code catches exceptions in these places: each ends the worker as `raise` does",
    ),
    Impossible(_SLOT, KINDS, _LOCAL, "batches and exceptions are passed by reference, without slots and records"),
    Impossible(("idle", "epoch-end"), KINDS, ("thread",), "an idle thread runs none of the user's code"),
    Impossible(("idle", "epoch-end"), KINDS, ("inline",), "without workers, no worker can be idle"),
    Impossible(("on-epoch-end",), _DEADLY, BACKENDS, "it ends the trainer"),
    Impossible(("on-epoch-end",), PAUSING, BACKENDS, "it stops and continues the trainer, in the trainer's own code"),
    Impossible(("on-epoch-end",), ("endless-loop",), BACKENDS, "it is the trainer's own loop; a signal ends it"),
    Impossible(("stopping",), KINDS, ("inline",), "no user code runs when an inline loader stops"),
    Impossible(
        (*_IN_USER_CODE, "stopping"), _DEADLY, ("thread",),
        "it ends the trainer, which runs the source",
    ),
    Impossible(
        _IN_USER_CODE, _DEADLY, ("inline",), "it ends the trainer, which runs the source"
    ),
    Impossible(("worker-init", "stopping"), PAUSING, ("thread",), "the whole process stops, as in the cells amid an item"),
    Impossible(("worker-init",), PAUSING, ("inline",), "the whole process stops, as in the cells amid an item"),
    Impossible(_IN_USER_CODE, ("endless-loop",), ("inline",), "the caller loops in its own code; a signal ends it"),
]  # fmt: skip

_OWN_NAME = {
    "raise": "ValueError", "memory-error": "MemoryError", "unpicklable": "Unpicklable",
    "ununpicklable": "Ununpicklable", "unspeakable": "Unspeakable", "sys-exit": "SystemExit",
}  # fmt: skip
_NAME_FROM_WORKER = _OWN_NAME | {
    "unpicklable": "WorkerRaised", "ununpicklable": "WorkerRaised", "sys-exit": "WorkerRaised",
}  # fmt: skip


def reason_against(place, kind, backend):
    """Return the reason why a cell is omitted, or None."""
    for rule in IMPOSSIBLE:
        if place in rule.places and kind in rule.kinds and backend in rule.backends:
            return rule.reason
    return None


def outcome_of(place, kind, backend):
    """Return the expected outcome of a cell."""
    if backend in _LOCAL:
        return _outcome_here(place, kind, backend)
    if kind in RAISING:
        return _outcome_of_raising(place, kind, backend)
    if place == "pickling-error":  # the source has raised, whether or not its exception can be pickled
        return Outcome("Telling", AT, kind in DYING + HANGING)
    if kind in HANGING and place == "forkserver":
        return Outcome("Enough", AT_START)
    if kind in HANGING and place == "unpickling" and backend == "forkserver":
        return Outcome("Enough", AT_START)
    # A fork server that stops or pauses blocks no process. A worker that ends at its regular end does not count as a
    # crash.
    is_unharmed = kind in PAUSING or place == "stopping" or (kind in HANGING and place == "push-to-fork_server")
    return Outcome(deaths=not is_unharmed)


def _outcome_of_raising(place, kind, backend):
    name = _NAME_FROM_WORKER[kind]
    if place == "unpickling":
        return Outcome(name, AT_START if backend == "forkserver" else 0)
    if place == "worker-init":
        return Outcome(name, 0)
    if place in ("before-item", "amid-item", "amid-copy", "pickling-batch"):
        return Outcome(name, AT)
    if place == "pickling-error":
        return Outcome("WorkerRaised", AT)
    if place == "push-to-worker":
        return Outcome(name, LENGTH)
    if place == "on-epoch-end":
        return Outcome(_OWN_NAME[kind], LENGTH)
    # In the other places, no user code runs in a `try` block of the package: an exception of a user's signal handler
    # ends the worker.
    is_end_of_fork_server = place == "forkserver" and kind == "sys-exit"
    return Outcome(deaths=is_end_of_fork_server or place in ("before-record", "after-record", "idle", "epoch-end"))


def _outcome_here(place, kind, backend):
    if place == "stopping" or kind in PAUSING:
        return Outcome()
    after = {"worker-init": 0, "on-epoch-end": LENGTH}.get(place, AT)
    if kind == "sys-exit" and place != "on-epoch-end":
        return Outcome("WorkerRaised", after)
    return Outcome("BatchTimeout" if kind in HANGING else _OWN_NAME[kind], after)


CELLS = [
    (place, kind, backend)
    for place in PLACES
    for kind in KINDS
    for backend in BACKENDS
    if reason_against(place, kind, backend) is None
]
