"""The protocol between the pipeline and the backend, which runs its work items.

A backend is created with the `Ledger` of its pipeline and runs the work items that the ledger deals. There are backends
for worker processes (`mpqueue.backends.processes.process`), for threads, and for the calling thread itself. To add one,
write a class with this protocol and add a line to `mpqueue.plan.options.backend_kinds`.

*Threads and locks.* The pipeline makes all calls, in the trainer's process:

    start       once, in the thread that creates the engine
    wake        from any thread, also inside a signal handler
    stop        once, without the lock
    statistics  from any thread, without the lock
    all others  under the pipeline's lock, so that no two calls overlap

A backend that has its own threads takes the pipeline's lock for every use of the ledger.

*Use of the ledger.* `deal` returns work items; the backend answers each by an outcome in `ready`. It may read `credit`,
`work_items`, `cursor`, `is_stream` and `is_closed`, and call `fail` with an error that
belongs to no work item.

*Blocking.* Only `wait` blocks, and only callers that may block use it. An event loop waits for `fileno` and `timeout_s`
itself and then calls `take_in`. Only the report of a slow or hanging worker delays `take_in`: it reads the stacks.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpqueue.telemetry.stats import Statistics


class EndOfStream(Exception):
    """The source is exhausted."""


class Stopped(Exception):
    """The pipeline was stopped before or during the caller's wait."""


class NotYet(Exception):
    """The next batch is not ready yet."""


class Backend(Protocol):
    """An executor of work items; the module's docstring lists who calls which method.

    Attributes:
        chunk: The number of work items that is worth the cost of a `pump`.
        low_water: Pump even for one work item while fewer work items than this are in flight.
        tells_changes: `is_stale` detects changes of the source. Otherwise the workers use the caller's own object, or
            inherited it, and the state that they computed a batch from is unknown: batches of a later epoch are not
            computed before they are requested.
        may_change_unseen: A part of the source may change in a way that `is_stale` cannot detect, such as shared
            memory. Batches of a later epoch are not computed before they are requested, either.
    """

    chunk: int
    low_water: int
    tells_changes: bool
    may_change_unseen: bool

    @property
    def has_waiting(self) -> bool:
        """True if work items or workers are waiting for slots or memory."""

    @property
    def is_calm(self) -> bool:
        """True if all work is done until a worker reports."""

    def start(self) -> None:
        """Start the workers.

        Raises:
            OSError: There are not enough processes, descriptors or memory; everything that was started is released.
            Exception: The exception that unpickling the source raised.
        """

    def pump(self) -> None:
        """Take all work items that `Ledger.deal` returns and have them run."""

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Process the reports that have arrived, without blocking; return whether anything has changed.

        Args:
            head: The work item that the consumer waits for; None if no consumer waits.
            may_fail: Fail the work item if there is too little memory, because none will be freed without it.
        """

    def wait(self, head: int, timeout_s: float | None) -> None:
        """Block until `take_in` has something to do, the timeout expires, or `wake` is called; may return early.

        Args:
            head: The work item that the consumer waits for.
            timeout_s: Maximum time in seconds, or None for no limit.
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable when `take_in` has something to do, or after a `wake`."""

    def timeout_s(self) -> float | None:
        """Return the seconds after which `take_in` is due even without a report, or None for no limit.

        The call may take grants back from workers and deal them again.
        """

    def cancel(self) -> None:
        """Discard all work items and outcomes; results of running work items are dropped when they arrive."""

    def is_stale(self) -> bool:
        """Return whether the workers' source differs, or may differ, from the caller's."""

    def refresh(self) -> None:
        """Compute all work items that are dealt later from the current state of the source."""

    def reset(self, *, anew: bool = False) -> None:
        """Discard all work items and outcomes, whatever state an interrupt has left, and accept new ones.

        Args:
            anew: The ledger is already at the new starting position, and the discarded work is not needed.

        Raises:
            RuntimeError: The discarded work is needed, but the source cannot compute it again.
        """

    def wake(self) -> None:
        """Make `wait` return, and make `fileno` readable."""

    def statistics(self) -> "Statistics":
        """Return the backend's counters; the consumer's counters are 0. Also works after `stop`."""

    def stop(self, timeout_s: float | None) -> None:
        """Stop all workers and release all resources.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
