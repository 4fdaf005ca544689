"""The table of faults: place x kind x backend, with the expected outcome of each cell.

This module contains only data and rules. `test_table.py` runs the cells; `hooks.py` causes the faults.
"""

RAISING = ("raise", "memory-error", "unpicklable", "ununpicklable", "unspeakable", "sys-exit")
DYING = ("exit-0", "exit-1", "sigkill", "sigsegv", "sigabrt", "sigterm")
PAUSING = ("sigstop-sigcont",)
HANGING = ("sigstop", "endless-loop")
KINDS = RAISING + DYING + PAUSING + HANGING
PROCESSES = ("forkserver", "fork", "spawn")

AT = 3  # the index with the fault
LENGTH = 6  # batches per epoch

# All kinds strike amid an item. In the other places, the package distinguishes only an exception, an exit that looks
# regular, a crash, and a worker that does not respond; and `sys.exit()` where an `except` clause handles user code.
_ENDS = ("raise", "exit-0", "sigkill", "sigstop")
_OF_USER_CODE = (*_ENDS, "sys-exit")
_PLACES = {
    "forkserver": {
        # The interpreter of the fork server starts.
        "forkserver": ("raise", "sys-exit", "sigkill", "sigstop"),
        # The source is unpickled for the first time.
        "unpickling": (*_OF_USER_CODE, "unpicklable"),
        # `worker_init` runs.
        "worker-init": _OF_USER_CODE,
        # `__getitem__` has just started.
        "before-item": ("raise", "sigkill"),
        # `__getitem__` has filled one half of an array of `mpqueue.empty`.
        "amid-item": KINDS,
        # Some bytes of the batch are in the slot.
        "amid-copy": _ENDS,
        # All bytes are in the slot, the record is not written.
        "before-record": _ENDS,
        # The record is written.
        "after-record": _ENDS,
        # An object of the batch is pickled.
        "pickling-batch": ("raise", "sys-exit", "unpicklable", "sigkill", "sigstop"),
        # An exception of the source is pickled.
        "pickling-error": ("raise", "sigkill", "sigstop"),
        # All grants are reported, and the worker waits for more.
        "idle": (*_ENDS, *PAUSING),
        # The worker waits while the trainer is in `on_epoch_end`.
        "epoch-end": _ENDS,
        # `on_epoch_end` runs in the trainer.
        "on-epoch-end": ("raise", "sys-exit"),
        # The fork server unpickles a new state of the source.
        "push-to-fork_server": _OF_USER_CODE,
        # A worker unpickles a new state of the source.
        "push-to-worker": _OF_USER_CODE,
        # The enqueuer stops.
        "stopping": (*_ENDS, *PAUSING),
    },
    # The trainer forks the workers, and notices their exits, with separate code.
    "fork": {"amid-item": _ENDS} | dict.fromkeys(("worker-init", "idle", "epoch-end", "stopping"), ("sigkill",)),
    # The fork server forwards the source, which the workers unpickle.
    "spawn": {
        "forkserver": ("sigkill",), "unpickling": _OF_USER_CODE, "worker-init": ("raise",), "amid-item": ("sigkill",),
        "push-to-worker": ("raise", "sigkill"), "stopping": ("sigkill",),
    },
    # A thread or the caller that runs the source crashes only with the trainer. Exceptions are passed by reference.
    "thread": {
        "worker-init": ("raise", "sys-exit", "endless-loop"),
        "amid-item": ("raise", "unspeakable", "sys-exit", *PAUSING, "endless-loop"),
        "on-epoch-end": ("raise", "sys-exit"), "stopping": ("raise", "endless-loop"),
    },
    "inline": {
        "worker-init": ("raise", "sys-exit"), "amid-item": ("raise", "unspeakable", "sys-exit", *PAUSING),
        "on-epoch-end": ("raise", "sys-exit"),
    },
}  # fmt: skip
CELLS = [
    (place, kind, backend) for backend in _PLACES for place in _PLACES[backend] for kind in _PLACES[backend][place]
]

_NAMES = {
    "raise": "ValueError", "memory-error": "MemoryError", "unpicklable": "Unpicklable",
    "ununpicklable": "Ununpicklable", "unspeakable": "Unspeakable", "sys-exit": "SystemExit",
}  # fmt: skip
_AFTER = {"unpickling": 0, "worker-init": 0, "push-to-worker": LENGTH, "on-epoch-end": LENGTH}
# No user code runs here in a `try` block of the package: an exception of a user's signal handler ends the worker, and
# the fork server works without a new state.
_WITHOUT_EXCEPTIONS = (
    "forkserver", "before-record", "after-record", "idle", "epoch-end", "stopping", "push-to-fork_server",
)  # fmt: skip


def outcome_of(place, kind, backend):
    """Return the type name of the exception that ends the stream, or None, and the number of batches before it."""
    after = _AFTER.get(place, AT)
    if kind in RAISING:
        return (None, 0) if place in _WITHOUT_EXCEPTIONS else (_name_of(place, kind, backend), after)
    if backend not in PROCESSES:
        return ("BatchTimeout", after) if kind in HANGING and place != "stopping" else (None, 0)
    if place == "pickling-error":  # the source has raised, whether or not its exception can be pickled
        return "Telling", AT
    if kind in HANGING and backend == "forkserver" and place in ("forkserver", "unpickling"):
        return "Enough", 0
    return None, 0


def _name_of(place, kind, backend):
    if place == "pickling-error":  # it is pickled by its parts
        return "Telling"
    is_replaced = backend in PROCESSES and kind == "unpicklable"
    if place != "on-epoch-end" and (is_replaced or kind == "sys-exit"):
        return "WorkerRaised"
    return _NAMES[kind]
