"""The life of one worker as the trainer knows it. Pure: no processes, no descriptors.

    SERVING <--feed-- STARVED     it holds a batch that it found no memory for, and waits
       | ---starve-->   |
       +-----kill-------+--> KILLED --abandon--> ABANDONED     it does not die; its number has a successor
       |                |      |
       +----------------+------+--end--> ENDED                 the launcher has reported its end, or is gone itself

A worker is SERVING from the moment it was asked for: grants wait in its pipe while its process starts. What it says is
taken in while it is KILLED and when it has ENDED, too, for a batch that it has reported stands; only its needs count
no more: `starve` does nothing then. The first cause of a `kill` stands.
"""

import enum


class WorkerState(enum.Enum):
    """State of a worker's life."""

    SERVING = "serving"
    STARVED = "starved"
    KILLED = "killed"
    ABANDONED = "abandoned"
    ENDED = "ended"


class Cause(enum.Enum):
    """Why the trainer has killed a worker."""

    HUNG = "it was over its time with a batch"
    CLOSED = "its pipe was closed"  # as a rule by its own end
    UNTRUSTED = "what came out of its pipe was no report"
    SACRIFICED = "an earlier batch needs the memory that it held"
    STOPPED = "the pool ends, or starts anew"


_SERVING, _STARVED, _KILLED, _ABANDONED, _ENDED = WorkerState


class LifeError(Exception):
    """A move that the diagram does not have."""


class Life:
    """The state of one worker, and the only code that changes it.

    Attributes:
        state: Where it is.
        cause: Why it was killed, None if it was not.
    """

    __slots__ = ("cause", "state")

    def __init__(self) -> None:
        self.state = _SERVING
        self.cause: Cause | None = None

    @property
    def is_starved(self) -> bool:
        """It waits for memory, and nobody has killed it."""
        return self.state is _STARVED

    @property
    def is_abandoned(self) -> bool:
        """It has a successor though it may still be there."""
        return self.state is _ABANDONED

    def starve(self) -> bool:
        """SERVING → STARVED; False for one that is on its way out, whose needs do not count.

        Raises:
            LifeError: It was starved already.
        """
        if self.state is _STARVED:
            raise LifeError("a worker that waits for memory cannot ask for more")
        if self.state is not _SERVING:
            return False
        self.state = _STARVED
        return True

    def feed(self) -> None:
        """STARVED → SERVING: it was asked to try again, or to give its batch up."""
        if self.state is not _STARVED:
            raise LifeError(f"a worker that is {self.state.value} waits for no memory")
        self.state = _SERVING

    def kill(self, cause: Cause) -> bool:
        """SERVING or STARVED → KILLED; False if it was killed before."""
        if self.state is not _SERVING and self.state is not _STARVED:
            return False
        self.state, self.cause = _KILLED, cause
        return True

    def abandon(self) -> None:
        """KILLED → ABANDONED: it did not die in time."""
        if self.state is not _KILLED:
            raise LifeError(f"a worker that is {self.state.value} was not killed in vain")
        self.state = _ABANDONED

    def end(self) -> None:
        """Any → ENDED, but for ABANDONED, which it stays: its number is its successor's."""
        if self.state is not _ABANDONED:
            self.state = _ENDED
