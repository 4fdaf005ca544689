"""The protocol between the consumer's side and those who run its work items.

A backend is made with the `Ledger` of its pipeline, and runs the work items that it deals. Such are worker processes
(`mpqueue.workers.process`), threads, and the caller itself. A new one is one class with this protocol, and a line in
`mpqueue.plan.backend_kinds`.

*Who calls what.* The pipeline calls everything, in the process of the trainer: `start` once, in the thread that makes
the engine; `wake` from any thread, also inside a signal handler; `stop` once, without the lock; `statistics` from any
thread, without the lock; all else under the pipeline's lock, so that no two calls meet. A backend with threads of its
own takes that lock for whatever it does with the ledger.

*What of the ledger is the backend's*: `deal` gives it work items; each is answered by an outcome in `ready`. It may
look at `credit`, `num_outstanding`, `is_outstanding`, `epoch`, `is_stream`, `counts`, `is_closed`, and call `fail` with
an error that belongs to no work item. It sets `is_waiting` around what an interrupt may end without harm, never without
the lock. An interrupt of a `wait` never does harm, and nobody asks there.

*Nothing here waits* but `wait`, which those may call that can block. Others wait for `fileno` and `timeout_s` in a loop
of their own, and call `take_in` then.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpqueue.telemetry.stats import Statistics


class EndOfStream(Exception):
    """The source has ended: there will be no more batches."""


class Stopped(Exception):
    """The pipeline was stopped while, or before, the caller waited."""


class NotYet(Exception):
    """The next batch is not there yet."""


class Backend(Protocol):
    """Runs work items; see the module's head for who calls what.

    Attributes:
        chunk: How many work items are worth a `pump`.
        low_water: Pump even for one work item while fewer than this are in flight.
        tells_changes: `is_stale` knows whether the source has changed. Otherwise the workers have the caller's own
            object, or inherited it, and nobody can tell what they have computed from: batches are not computed before
            they are asked for.
    """

    chunk: int
    low_water: int
    tells_changes: bool

    @property
    def has_waiting(self) -> bool:
        """True if work items or workers wait for slots or memory to come free."""
        ...

    @property
    def is_calm(self) -> bool:
        """True if nothing is to be done before a worker reports something."""
        ...

    def start(self) -> None:
        """Start the workers and set them to work.

        Raises:
            OSError: There are not enough processes, descriptors or memory; nothing is left behind.
            Exception: What unpickling the source raised.
        """
        ...

    def pump(self) -> None:
        """Take as many work items as `Ledger.deal` gives and get them done."""
        ...

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Take in what has arrived; return False if nothing has, and nothing has changed. Never waits.

        Args:
            head: The work item that is asked for; None: somebody only looks.
            may_fail: No memory will come free without it.
        """
        ...

    def wait(self, head: int, timeout_s: float | None) -> None:
        """Sleep until there is something for `take_in`, the time is over, or `wake`; it may return sooner.

        An interrupt of it is not noted: it does nothing but sleep.

        Args:
            head: The work item that is asked for.
            timeout_s: At most so long; None: there is no such time.
        """
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something for `take_in`, or after a `wake`."""
        ...

    def timeout_s(self) -> float | None:
        """Return the seconds after which `take_in` has to be called though nothing has arrived; None: it has not.

        Grants may be taken back and dealt anew for that.
        """
        ...

    def cancel(self) -> None:
        """Forget all work items and outcomes; the result of those at work is dropped when it comes."""
        ...

    def is_stale(self) -> bool:
        """Return whether the workers' source differs from the caller's, or may do so."""
        ...

    def refresh(self) -> None:
        """Have work that is dealt from now on computed from the source's present state."""
        ...

    def reset(self, *, anew: bool = False) -> None:
        """Forget all work items and outcomes, whatever state an interrupt has left things in, and be ready for others.

        Args:
            anew: The ledger is at the place where to begin, and nobody wants what is lost.

        Raises:
            RuntimeError: The source cannot give again what is lost.
        """
        ...

    def wake(self) -> None:
        """End a `wait`, and make `fileno` readable."""
        ...

    def statistics(self) -> "Statistics":
        """Return the backend's counters; those of the consumer stay 0. Also after `stop`."""
        ...

    def stop(self, timeout_s: float | None) -> None:
        """End all workers and free everything.

        Raises:
            StopTimeout: Some did not end in time.
        """
        ...
