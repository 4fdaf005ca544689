"""The sample of a lane that its worker is at, told so that the trainer knows it when the worker is dead.

    an element of a lane kills its worker      the trainer has nobody to ask what it was doing
    the lane is opened anew, *marked*          each sample is begun alone and reported before code of the user's runs
                                               for it: what was reported last stays in the pipe when the worker dies
    the same element kills the next worker     that sample is *lost*: its number and the error stand in the lane's state
    the lane is opened anew                    the lost sample raises that error in its place; those behind it follow

So nothing is told, and nothing costs, before a worker has died over an element. What is begun by (seed, epoch, place)
is one sample in one stage, so these three numbers are its name, in any worker and after a resume.

Only elements that the trainer has not got yet are marked. A sample of one that it has must not become an error: that
would take the place of another one. A report for each sample, where a mark in memory would be cheaper, reaches the
trainer from other machines too.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Begin: TypeAlias = Callable[[int, int, int], None]
Name: TypeAlias = tuple[int, int, int]

_WORD = 0xFFFFFFFFFFFFFFFF


class Marker:
    """Tells the trainer which sample is at work.

    Args:
        tell: Called with the name of a sample, or None if it is none that can be left out.

    Attributes:
        is_on: Samples are told of now.
        is_over: They will not be any more.
    """

    def __init__(self, tell: Callable[[Name | None], object]) -> None:
        self.is_on = self.is_over = False
        self._tell, self._has_told = tell, False

    def tell(self, name: Name) -> None:
        """A sample is about to be computed."""
        self._has_told = True
        self._tell(name)

    def clear(self) -> None:
        """End what was told of: it is done."""
        if self._has_told:
            self._has_told = False
            self._tell(None)

    def end(self) -> None:
        """Tell nothing any more."""
        self.is_on, self.is_over = False, True
        self.clear()


class RetryBegin:
    """Begins the samples of a lane, and raises for those that are lost.

    Args:
        begin: Begins a sample.
        marker: Is told of it; None: nobody is.
        lost: Of each lost sample: its name and the pickled error, as `mpqueue.plan.lanes.LaneTable.lose` keeps it.
    """

    def __init__(self, begin: Begin, marker: Marker | None, lost: Sequence[Any]) -> None:
        self.begin, self._marker = begin, marker
        self._lost: dict[Name, str] = {(seed, epoch, place): error for seed, epoch, place, error in lost}

    @property
    def is_single(self) -> bool:
        """True if samples are to be begun one by one."""
        return bool(self._lost) or (self._marker is not None and self._marker.is_on)

    @property
    def runs_ahead(self) -> bool:
        """True if samples may be computed before it is known that they are needed."""
        return self._marker is None or self._marker.is_over

    def look(self, seed: int, epoch: int, place: int) -> None:
        """A sample is about to be begun.

        Raises:
            WorkerDied: It has ended its workers,
            BatchTimeout: or kept them over their time.
        """
        name = seed & _WORD, epoch, place & _WORD
        if self._lost and name in self._lost:
            raise pickle.loads(bytes.fromhex(self._lost[name]))
        if self._marker is not None and self._marker.is_on:
            self._marker.tell(name)

    def __call__(self, seed: int, epoch: int, place: int) -> None:
        """Begin a sample; raises as `look` does."""
        self.look(seed, epoch, place)
        self.begin(seed, epoch, place)

    def begin_whole(self, seed: int, epoch: int, place: int) -> None:
        """Begin what cannot be left out: to read what lies behind it, its code has to run."""
        if self._marker is not None:
            self._marker.clear()
        self.begin(seed, epoch, place)

    def forget_lost(self) -> None:
        """The lost samples are behind."""
        self._lost.clear()
