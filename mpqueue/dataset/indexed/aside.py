"""Compute elements *aside*: outside of a loader.

If code of a source requests elements of a different dataset, they are computed for the current batch. Otherwise they
are computed for seed 0 and epoch 0, or for the seed that torch's loader has drawn. The caller's random states are then
restored. Generators are not seeded, saved or restored where no user code runs.
"""

import sys
from collections.abc import Callable, Iterator

from mpqueue.dataset.indexed.readers import IndexedRun
from mpqueue.seeding.eager_seeding import EagerSeeding
from mpqueue.system.signals.contexts import context_manager
from mpqueue.worker import context


@context_manager
def aside() -> Iterator[IndexedRun]:
    """Compute outside of a loader, and restore all random states afterwards."""
    batch = context.current_batch()
    if batch is None:
        saved_state = _SavedState(begin_here)
        seed = context.aside.seed
        run = IndexedRun(_seed_of_torch() if seed is None else seed, 0, saved_state.begin, watches=True)
    else:
        saved_state = _SavedState(batch[1])
        run = IndexedRun(batch[0][0], batch[0][1], saved_state.begin, watches=True)
    try:
        yield run
    finally:
        try:
            saved_state.restore()
        except BaseException:
            # Only an interrupt raises there. Restore again from the beginning. Otherwise later random numbers of this
            # thread would silently depend on the sample that was interrupted, and on its seed.
            saved_state.restore()
            raise


def begin_here(seed: int, epoch: int, position: int) -> None:
    """Seed the generators for a sample in the calling thread."""
    # Not `begin_batch` itself, which represents a worker thread.
    context.begin_batch(seed, epoch, position)


def _seed_of_torch() -> int:
    """Return the seed of the epoch in a worker of torch's DataLoader, otherwise 0."""
    module = sys.modules.get("torch.utils.data")
    info = None if module is None else module.get_worker_info()
    return 0 if info is None else int(info.seed) - int(info.id)


class _SavedState:
    """The random states of the caller, saved before the first seeding.

    Args:
        begin: A function that seeds the generators.
    """

    def __init__(self, begin: Callable[[int, int, int], None]) -> None:
        self._begin = begin
        self._is_begun = False
        self._globals: EagerSeeding | None = None

    def begin(self, seed: int, epoch: int, position: int) -> None:
        """Seed the generators for a sample in a stage."""
        if not self._is_begun:
            self._keep()
            self._is_begun = True
        self._begin(seed, epoch, position)
        if self._globals is not None:
            # A worker seeds lazily: it detects draws later, after `restore` has hidden them.
            self._globals.seed(seed, epoch, position)

    def _keep(self) -> None:
        process = context.process_batch
        self._of_process, self._restore_thread = (process.of, process.rng), context.keep_thread()
        if self._begin is context.begin_batch:
            return  # a worker thread, which seeds no shared generators
        self._globals = EagerSeeding()

    def restore(self) -> None:
        """Restore all states, if any were saved."""
        if not self._is_begun:
            return
        if not context.is_helper():  # a helper must not change the state of the worker's own thread
            process = context.process_batch
            process.of, process.rng = self._of_process
        self._restore_thread()
        if self._globals is not None:
            self._globals.restore()
