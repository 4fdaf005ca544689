"""Retry markers: reports of the present sample of a lane, so that the trainer knows which sample crashed a worker.

===========================================  =========================================================================
Event                                        Effect
===========================================  =========================================================================
an element of a lane crashes its worker      the trainer cannot know which sample was being computed
the lane is opened again with markers        each sample is started alone and reported before user code runs for it.
                                             The last report remains in the pipe when the worker crashes
the same element crashes the next worker     that sample is *lost*: the lane's state contains its name and the error
the lane is opened again                     the lost sample raises that error, and the samples after it follow
===========================================  =========================================================================

So before the first crash there are no reports, and no cost. A call of the begin function with (seed, epoch, position)
is one sample in one stage, so these three numbers are its name, in any worker and after a resume.

Only elements that the trainer has not yet received are marked. A sample of a received element must not become an error,
because the error would replace another sample. A report per sample costs more than a mark in shared memory, but also
reaches the trainer from other machines.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Begin: TypeAlias = Callable[[int, int, int], None]
Name: TypeAlias = tuple[int, int, int]

_WORD = 0xFFFFFFFFFFFFFFFF


class Marker:
    """Reports the present sample to the trainer.

    Args:
        tell: Called with the name of a sample; None for code that cannot be skipped.

    Attributes:
        is_on: Samples are reported now.
        is_over: No more samples will be reported.
    """

    def __init__(self, tell: Callable[[Name | None], object]) -> None:
        self.is_on = self.is_over = False
        self._tell, self._has_reported = tell, False

    def tell(self, name: Name) -> None:
        """Report a sample before it is computed."""
        self._has_reported = True
        self._tell(name)

    def clear(self) -> None:
        """Withdraw the last report, after its sample is finished."""
        if self._has_reported:
            self._has_reported = False
            self._tell(None)

    def end(self) -> None:
        """Stop reporting."""
        self.is_on, self.is_over = False, True
        self.clear()


class RetryBegin:
    """Starts the samples of a lane, and raises the errors of lost ones.

    Args:
        begin: Starts a sample.
        marker: Reports it, or None.
        lost: Name and pickled error of each lost sample, in the form of `mpqueue.plan.position.lanes.LaneTable.lose`.
    """

    def __init__(self, begin: Begin, marker: Marker | None, lost: Sequence[Any]) -> None:
        self.begin, self._marker = begin, marker
        self._lost: dict[Name, str] = {(seed, epoch, position): error for seed, epoch, position, error in lost}

    def starting(self, begin: Begin) -> "RetryBegin":
        """Return an object for the same lane that starts samples by another function."""
        made = RetryBegin(begin, self._marker, ())
        made._lost = self._lost  # the same dict: `forget_lost` applies to all
        return made

    @property
    def is_single(self) -> bool:
        """True if samples must be started one by one."""
        return bool(self._lost) or (self._marker is not None and self._marker.is_on)

    @property
    def runs_ahead(self) -> bool:
        """True if samples may be computed before they are needed."""
        return self._marker is None or self._marker.is_over

    def look(self, seed: int, epoch: int, position: int) -> None:
        """Check a sample before its start.

        Raises:
            WorkerDied: It has crashed its workers.
            BatchTimeout: It has exceeded the timeout in its workers.
        """
        # As unsigned words, the form that a report can carry. Negative positions are used for whole batches, and epochs
        # of endless passes over endless passes need more than one word.
        name = seed & _WORD, epoch & _WORD, position & _WORD
        if self._lost and name in self._lost:
            raise pickle.loads(bytes.fromhex(self._lost[name]))
        if self._marker is not None and self._marker.is_on:
            self._marker.tell(name)

    def __call__(self, seed: int, epoch: int, position: int) -> None:
        """Start a sample; raises the same errors as `look`."""
        self.look(seed, epoch, position)
        self.begin(seed, epoch, position)

    def begin_whole(self, seed: int, epoch: int, position: int) -> None:
        """Start code that cannot be skipped, because it must run to reach the elements after it."""
        # Without this, a crash here would be attributed to the sample before.
        if self._marker is not None:
            self._marker.clear()
        self.begin(seed, epoch, position)

    def forget_lost(self) -> None:
        """Forget the lost samples, after the lane has passed them."""
        self._lost.clear()
