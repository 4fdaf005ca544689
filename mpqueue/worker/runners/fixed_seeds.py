"""Random numbers of the elements before a cache, which depend only on the dataset and the element.

A cached element is used by other processes, runs and epochs, so it must not depend on the process that computed it. A
worker seeds a generator only after it has noticed that the source uses it, and a caller without a seed seeds none. So
these elements have a separate seeding:

==============================================  ======================================================================
Thread                                          Elements before a cache
==============================================  ======================================================================
the only one of its process that computes       all shared generators, and the dataset's own, are seeded
                                                before each call of user code, and restored after the element
any other: a worker thread, a helper thread     the generators belong to several threads and are not seeded. An
                                                element is not stored if they were drawn from in the meantime
==============================================  ======================================================================

`mpqueue.rng` and `tf.random` are separate for each element in all threads.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from mpqueue.seeding.eager_seeding import EagerSeeding
from mpqueue.seeding.generators import GeneratorState, global_generators
from mpqueue.system.signals.locks import RLock, acquire
from mpqueue.worker import context
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.random_state import tensorflow_rng
from mpqueue.worker.random_state.user_generators import UserGenerators
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runners.runner import BeginBatch

T = TypeVar("T")

# Held by the thread of this process that seeds the shared generators now. Another thread does not wait for it: user
# code of the first one may wait for the second.
_seeding_thread = RLock()


def _renew_lock() -> None:
    global _seeding_thread
    _seeding_thread = RLock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it at the fork


class FixedSeeds:
    """The random numbers of elements before a cache, in one thread.

    Args:
        held: The generators that the stages hold.
        begin: Starts a sample in the run of the cache.
        tell: Called if elements are not exact; see `is_exact`.

    Attributes:
        begin: Starts a sample before the cache.
        is_exact: False if an element may have drawn numbers that were not seeded for it. Later elements may depend on
            it, too.
    """

    def __init__(self, held: UserGenerators, begin: BeginBatch, tell: Callable[[], object]) -> None:
        self._held, self._tell = held, tell
        self._retry = begin if type(begin) is RetryBegin else None
        self._begin_run: BeginBatch = begin if self._retry is None else self._retry.begin
        self.begin: BeginBatch = self._begin if self._retry is None else self._retry.starting(self._begin)
        self.is_exact = True
        self._seeding: EagerSeeding | None = None  # while this thread seeds the shared generators

    def _begin(self, seed: int, epoch: int, position: int) -> None:
        self._begin_run(seed, epoch, position)
        if self._seeding is not None:
            self._seeding.seed(seed, epoch, position)
            self._held.seed(seed, epoch, position)

    def run(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function that computes elements.

        Raises:
            BaseException: The error of the function.
        """
        restore_context, watch = context.keep(), tensorflow_rng.follow()
        owned = _seeding_thread
        try:
            # First, because an outer `aside` saves the caller's states when the first sample is started.
            self._begin_run(0, 0, 0)
            context.suspend_seeding()
            if context.shares_generators() or not acquire(owned, blocking=False):
                return self.watched(compute, *arguments)
            try:
                return self._seeded(compute, *arguments)
            finally:
                owned.release()
        finally:
            watch.end()
            _certainly(restore_context)

    def watched(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return the result of a function that runs user code in threads which share the generators.

        Raises:
            BaseException: The error of the function.
        """
        held = self._held
        held.search()
        num_late, draws = held.num_late, _DrawCheck(held)
        try:
            return compute(*arguments)
        finally:
            if held.find_late() != num_late or draws.were_made():
                self.is_exact = False
                self._tell()

    def unless_drawn(self, compute: Callable[..., T], *arguments: Any) -> T | None:
        """Return the result of a function that computes several elements; None if it may have drawn random numbers.

        Call it directly after the start of a sample.

        Raises:
            BaseException: The error of the function, which has drawn no numbers.
        """
        draws = _DrawCheck(self._held)
        try:
            made = compute(*arguments)
        except BaseException as error:
            if passes_at_once(error) or not (context.has_drawn() or draws.were_made()):
                raise
            return None
        return None if context.has_drawn() or draws.were_made() else made

    def _seeded(self, compute: Callable[..., T], *arguments: Any) -> T:
        held, before, num_late = self._held, self._seeding, self._held.num_late
        saved: list[Any] = []

        def restore() -> None:
            self._seeding = before
            for state in saved:
                state.restore()

        try:
            self._seeding = EagerSeeding()
            saved += [self._seeding, tensorflow_rng.SavedTensorFlowState(), *held.saved_states()]
            return compute(*arguments)
        finally:
            _certainly(restore)
            # A generator that the first element has created was not seeded for it.
            self.is_exact &= held.find_late() == num_late


class _DrawCheck:
    """The states of all generators before user code that may draw from them.

    Args:
        held: The generators that the stages hold.
    """

    def __init__(self, held: UserGenerators) -> None:
        self._shared = global_generators()
        self._before = [GeneratorState(generator) for generator in self._shared.values()] + held.saved_states()

    def were_made(self) -> bool:
        """Return whether a generator was drawn from; a library that was imported since counts as drawn from."""
        return len(global_generators()) != len(self._shared) or any(each.has_changed() for each in self._before)


def _certainly(restore: Callable[[], object]) -> None:
    """Call a function that restores states, a second time if an interrupt raises in it."""
    # Otherwise the caller would continue with the random numbers of an element.
    try:
        restore()
    except BaseException:
        restore()
        raise
