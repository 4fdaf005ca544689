"""The functions that user code calls while it computes a batch: `worker_info`, `rng`, `empty` and `stack`.

They work in worker processes, worker threads and without workers. Each of these sets the context of the thread around
user code. A worker process also has a granted slot of the ring, which all of its threads share.

An event loop runs many coroutines in one thread, in turn. So a coroutine has its context in a context variable, which
asyncio switches, and which the tasks and threads that it starts inherit.
"""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mpqueue.memory.writer import GrantedSlot
from mpqueue.seeding import seeds
from mpqueue.system.processes.own_process import ProcessMark
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.sample_block import BeginBlock, CurrentSample, SampleBlock, seed_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from mpqueue.seeding.lazy_seeding import LazySeeding

Array = np.ndarray[Any, Any]
# None where a source does not run. Type checkers accept code of a source without a check for it.
MaybeNone: TypeAlias = Any


class WorkerInfo(NamedTuple):
    """The worker that runs this code.

    Attributes:
        id: Index of the worker, from 0 to ``num_workers - 1``. A restarted worker has the same index.
        num_workers: Number of workers.
        seed: Seed of the loader or enqueuer.
        rank: Rank of the loader; see its option ``shard``.
        world: Number of ranks.
        lane: Number of the virtual shard that runs this code, over all ranks.
        num_lanes: Number of virtual shards over all ranks; 0 if the source has no virtual shards.
    """

    id: int
    num_workers: int
    seed: int
    rank: int = 0
    world: int = 1
    lane: int = 0
    num_lanes: int = 0

    @property
    def shard_id(self) -> int:
        """Number of this virtual shard, or worker, over all ranks. A generator selects its elements with it."""
        return self.lane if self.num_lanes else self.id * self.world + self.rank

    @property
    def num_shards(self) -> int:
        """Number of virtual shards, or workers, over all ranks."""
        return self.num_lanes or self.world * self.num_workers


# The values for a thread without user code.
_NAMES = ("info", "source", "begin", "may_begin_blocks", "batch", "rng", "tally", "seeding", "own", "has_stopped")
_IDLE: dict[str, Any] = dict.fromkeys(_NAMES) | {"is_seeded": False}


class _Values:
    """The attributes of a context."""

    info: WorkerInfo | None
    begin: Callable[[int, int, int], None] | None
    may_begin_blocks: Callable[[], bool] | None
    batch: seeds.BatchSeed | SampleBlock | None
    rng: "np.random.Generator | None"
    source: Any
    is_seeded: bool
    tally: Any
    seeding: "LazySeeding | None"
    own: ProcessMark | None
    has_stopped: Callable[[], bool] | None
    has_requested = is_helper = is_asking = False


class _Current(_Values, threading.local):
    def __init__(self) -> None:
        # Once per thread: then a copy of all values restores them, in 0.1 us less per batch than with missing ones.
        vars(self).update(_IDLE)


class _OfCoroutine(_Values):
    """The context of a coroutine, instead of its thread's: the same attributes, until the next `enter_thread`.

    Args:
        values: All attributes, which this object keeps.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__ = values  # twice as fast as an update: it runs once per sample


class Aside(threading.local):
    """State of this thread for datasets with elements that are computed outside of a worker.

    Attributes:
        seed: Their seed, or None. It is set and restored by single assignments.
        block: The samples that torch's own loop computes in this thread, or None; it is set in the same way.
    """

    seed: int | None = None
    block: SampleBlock | None = None


_of_thread = _Current()
_of_coroutine: ContextVar[_OfCoroutine | None] = ContextVar("mpqueue", default=None)
aside = Aside()
# In a worker process, all threads of user code belong to the one worker.
_process_info: WorkerInfo | None = None
process_batch = CurrentSample()
_process_begin: Callable[[int, int, int], None] | None = None
_process_begin_block: BeginBlock | None = None
_process_seeding: "LazySeeding | None" = None
_process_has_requested = False
_granted: GrantedSlot | None = None
_process_own: ProcessMark | None = None


def _here() -> Any:
    """Return the context of the running coroutine, or of this thread."""
    return _of_coroutine.get() or _of_thread


def enter_worker_process(
    info: WorkerInfo,
    own: ProcessMark,
    granted: GrantedSlot,
    begin: Callable[[int, int, int], None],
    begin_block: BeginBlock | None = None,
    seeding: "LazySeeding | None" = None,
) -> None:
    """Make this process a worker.

    Args:
        info: The worker.
        own: The mark of this process.
        granted: The slot that it writes into.
        begin: Sets the random numbers of a batch or sample.
        begin_block: Sets them for a block of samples; see `begin_block`.
        seeding: Seeds the global generators when ``begin`` is called.
    """
    global _process_info, _process_begin, _process_begin_block, _process_seeding, _granted, _process_own
    _process_info, _process_begin, _process_begin_block, _granted = info, begin, begin_block, granted
    _process_seeding, _process_own = seeding, own
    # The memory is shared, so a write by a child would change a batch of this worker.
    os.register_at_fork(after_in_child=_leave_slot)


def enter_lane(info: WorkerInfo) -> None:
    """Select the lane that runs next in this worker process or worker thread."""
    # A worker process keeps its info in the module, because all threads of user code belong to that worker.
    global _process_info
    if _process_info is None:
        _here().info = info
    else:
        _process_info = info


def _leave_slot() -> None:
    global _granted
    _granted = None  # a child that user code forks shares the memory of the slot, but does not own it


def process_info() -> WorkerInfo | None:
    """Return the worker of this process, or None in other processes."""
    return _process_info


def enter_thread(
    info: WorkerInfo | None, source: Any = None, *, is_seed_given: bool = False,
    begin: Callable[[int, int, int], None] | None = None, may_begin_blocks: Callable[[], bool] | None = None,
    seeding: "LazySeeding | None" = None, own: ProcessMark | None = None, has_stopped: Callable[[], bool] | None = None,
) -> None:  # fmt: skip
    """Mark that user code runs in this thread for a worker.

    Args:
        info: The worker, or None if user code has returned.
        source: The source of a worker thread.
        is_seed_given: The user has given a seed.
        begin: Sets the random numbers of a batch or sample. If None, `begin_batch` does.
        may_begin_blocks: Returns True if ``begin`` would set only `rng` now.
        seeding: Seeds the global generators when ``begin`` is called.
        own: The mark of the process of a worker thread.
        has_stopped: Returns True after the stop of the worker, which does not wait for user code.
    """
    # One call of C: it runs twice per batch without workers, and eight attributes of a `threading.local` take 0.4 us.
    vars(_here()).update(
        _IDLE, info=info, source=source, is_seeded=is_seed_given, begin=begin, may_begin_blocks=may_begin_blocks,
        seeding=seeding, own=own, has_stopped=has_stopped,
    )  # fmt: skip


def leave_in_child() -> None:
    """Mark that this thread, the only one of a forked child, does not run for a worker."""
    enter_thread(None, own=_here().own)  # with the mark, which makes the child exit when the user code ends


def is_forked() -> bool:
    """Return whether this is a child that user code has forked in a worker: it exits when that code ends."""
    own = _here().own if _process_own is None else _process_own
    return own is not None and not own[0]


def keep_thread() -> Callable[[], None]:
    """Return a function that restores the present context of this thread, such as the batch of an outer loader.

    Only this thread may call it. It is one call of C.
    """
    now = vars(_here())
    return partial(now.update, now.copy())


@contextmanager
def asking() -> Iterator[None]:
    """Compute elements in this thread to answer a question about a run, without a change of the run."""
    here = _here()
    before, here.is_asking = here.is_asking, True
    try:
        yield
    finally:
        here.is_asking = before


def is_asking() -> bool:
    """Return whether this thread computes elements only to answer a question; see `asking`."""
    is_asked: bool = _here().is_asking
    return is_asked


def has_stopped() -> bool:
    """Return whether the worker of this thread was stopped in the meantime, so that its result is discarded."""
    stopped: Callable[[], bool] | None = _here().has_stopped
    return stopped is not None and stopped()


def shares_generators() -> bool:
    """Return whether several threads use the global generators now, so that this thread cannot seed them."""
    here = _here()
    return here.is_helper or here.source is not None


def keep() -> Callable[[], None]:
    """Return a function that restores the present batch of this thread and its seeding; see `suspend_seeding`.

    It may be called twice.
    """
    restore_thread, process, is_helper = keep_thread(), process_batch, _here().is_helper
    of, rng, seeding = process.of, process.rng, _seeding()
    is_due = seeding is not None and seeding.is_due

    def restore() -> None:
        if not is_helper:  # a helper must not change the state of the worker's own thread
            process.of, process.rng = of, rng
        if seeding is not None:
            seeding.is_due = is_due
        restore_thread()

    return restore


def suspend_seeding() -> None:
    """Let the caller seed all generators of the next samples itself, until the function of `keep` is called."""
    seeding = _seeding()
    if seeding is not None:
        seeding.is_due = False
    _here().is_seeded = True


def _seeding() -> "LazySeeding | None":
    here = _here()
    return here.seeding if _process_info is None or here.is_helper else _process_seeding


def num_repeats() -> int:
    """Return `LazySeeding.num_repeats` of the generators of this thread."""
    seeding = _seeding()
    return 0 if seeding is None else seeding.num_repeats


def has_drawn() -> bool:
    """Return whether the present batch or sample of this thread has requested its generator by `rng`."""
    of, here = process_batch.of, _here()
    return (process_batch.rng if of is not None and not here.is_helper else here.rng) is not None


def begin_batch(seed: int, epoch: int, index: int) -> None:
    """Set the batch or sample that user code computes next in this thread."""
    here = _of_coroutine.get() or _of_thread  # without a call: this runs for each sample without workers
    here.batch = seeds.BatchSeed(seed, epoch, index)
    here.rng = None


def begin_block(
    begin: Callable[[int, int, int], None], seed: int, epoch: int, samples: Sequence[Any], positions: Sequence[Any]
) -> SampleBlock | None:
    """Set several samples that a function is called with next, if no generator must be seeded for each of them.

    Args:
        begin: The function that sets a single sample.
        seed: See `begin_batch`.
        epoch: See `begin_batch`.
        samples: At least one sample.
        positions: A position or token for each sample; see `mpqueue.seeding.seeds.position_of`.

    Returns:
        The block, or None if each sample must be set separately.
    """
    if type(begin) is RetryBegin:
        if begin.is_single:
            return None
        begin = begin.begin
    if begin is _process_begin:
        return None if _process_begin_block is None else _process_begin_block(seed, epoch, samples, positions)
    # A worker thread does not seed generators that it shares with other threads.
    here = _here()
    if begin is begin_batch or (begin is here.begin and here.may_begin_blocks and here.may_begin_blocks()):
        here.batch = block = SampleBlock(seed, epoch, samples, positions)
        return block
    return None


def current_batch() -> tuple[tuple[int, int, int], Callable[[int, int, int], None]] | None:
    """Return the current seed, epoch and index of this thread, and the function that sets others.

    Returns None if this thread does not compute a batch.
    """
    of, here = seed_of(process_batch.of), _here()
    if of is not None and _process_begin is not None and not here.is_helper:
        return of, _process_begin
    of = seed_of(here.batch)
    return None if of is None else (of, here.begin or begin_batch)


def begin_tally(tally: Any) -> None:
    """Set the tally of the stages of a dataset, for this thread and its helper threads; None ends it."""
    _here().tally = tally


def stage_tally() -> Any:
    """Return the `mpqueue.dataset.running.timing.StageTally` of the current batch, or None if it is not timed."""
    return _here().tally


def _of_helper() -> dict[str, Any]:
    """Return the context of user code that computes samples for this thread elsewhere."""
    here = _here()
    own: dict[str, Any] = {"is_helper": True, "begin": None, "may_begin_blocks": None, "rng": None, "seeding": None}
    own |= {"info": worker_info_unasked(), "source": here.source, "tally": here.tally, "is_asking": here.is_asking}
    return own | {"has_stopped": here.has_stopped, "is_seeded": process_batch.of is not None or here.is_seeded}


def in_any_thread(ask: Callable[[Any], Any], seed: int, epoch: int) -> Callable[[int, Any], Any]:
    """Return a function that computes a sample in a helper thread, or in the worker's own thread.

    User code sees the context of a helper thread in both cases.
    """
    own = _of_helper()

    def call(position: int, argument: Any) -> Any:
        # The dictionary of this thread: setting the attributes one by one takes three times as long.
        mine = vars(_of_thread)
        before = mine.copy()
        mine.update(own, batch=seeds.BatchSeed(seed, epoch, position))
        try:
            return ask(argument)
        finally:
            # As a whole: user code may have set further attributes, such as the batch of a nested loader.
            mine.clear()
            mine.update(before)

    return call


def in_any_task(ask: Callable[[Any], Awaitable[Any]], seed: int, epoch: int) -> Callable[[int, Any], Awaitable[Any]]:
    """Return a coroutine function that computes a sample in a separate task; see `in_any_thread`."""
    own = _IDLE | _of_helper()

    async def call(position: int, argument: Any) -> Any:
        values = own.copy()
        values["batch"] = seeds.BatchSeed(seed, epoch, position)
        _of_coroutine.set(_OfCoroutine(values))  # never reset: the task has its own copy of all context variables
        return await ask(argument)

    return call


def of_coroutine() -> _OfCoroutine:
    """Return the present context of this thread for a coroutine, which computes one element of a stream."""
    of = current_batch()
    return _OfCoroutine(_IDLE | _of_helper() | {"batch": None if of is None else seeds.BatchSeed(*of[0])})


def enter_coroutine(own: _OfCoroutine) -> None:
    """Set the context of the running task."""
    _of_coroutine.set(own)


def leave_coroutine(own: _OfCoroutine) -> None:
    """Record for this thread whether the code of a coroutine has requested its worker."""
    if own.has_requested:
        _here().has_requested = True


def seeded_batch() -> tuple[int, int, int] | None:
    """Return the current batch, or None if there is no batch, or if a thread has no given seed."""
    here = _here()
    own = seed_of(here.batch) if here.is_seeded else None
    return own if here.is_helper else seed_of(process_batch.of) or own


def thread_source() -> Any:
    """Return the source of this worker thread, or None in other threads."""
    return _here().source


def worker_info() -> WorkerInfo | MaybeNone:
    """Return information about the current worker, or None outside of workers.

    Example:
        A generator function that divides its elements among the workers::

            import mpqueue

            def lines():
                info = mpqueue.worker_info()
                for number in range(info.shard_id, 10, info.num_shards):
                    yield f"line {number}"

            with mpqueue.Loader(lines, workers=3) as loader:
                assert list(loader) == [f"line {number}" for number in range(10)]

    Returns:
        A named tuple with ``id``, ``num_workers`` and ``seed``. ``shard_id`` and ``num_shards`` count the workers of
        all ranks, or the virtual shards of a stream.

    Follows: ``torch.utils.data.get_worker_info``.
    """
    global _process_has_requested
    if _process_info is not None:
        # Recorded for streams: code that calls this has taken its share of the elements.
        _process_has_requested = True
        # The worker's own thread may be in another lane than a helper.
        return _here().info if _here().is_helper else _process_info
    here = _here()
    here.has_requested = True
    return here.info


def is_helper() -> bool:
    """Return True in a helper thread, or a coroutine, of a worker."""
    is_helper: bool = _here().is_helper
    return is_helper


def worker_info_unasked() -> WorkerInfo | None:
    """Return the result of `worker_info`, without recording the call."""
    info: WorkerInfo | None = _here().info if _process_info is None else _process_info
    return info


def note_shared_input() -> None:
    """Record that the code of this thread takes elements from a queue of this process, which divides them.

    (A queue of another process counts the processes that use it.)
    """
    _here().has_requested = True


def has_requested_info() -> bool:
    """Return True if the code of this worker has called `worker_info`, or takes elements from a queue."""
    has_requested: bool = _here().has_requested if _process_info is None else _process_has_requested
    return has_requested


def rng() -> "np.random.Generator":
    """Return the random generator of the current batch or sample.

    It is derived from (seed, epoch, index). So a batch draws the same numbers in any worker, thread or process, and
    after a worker crash or a resume. Call it in each ``__getitem__``, and do not store the result.

    Example:
        Numbers that do not depend on the number of workers::

            import mpqueue

            class Draws:
                def __len__(self):
                    return 4

                def __getitem__(self, index):
                    return mpqueue.rng().random()

            def drawn(workers):
                with mpqueue.Loader(Draws(), workers=workers, seed=7) as loader:
                    return list(loader)

            assert drawn(1) == drawn(2)

    Returns:
        The generator. Every call during one batch returns the same object.

    Raises:
        RuntimeError: This thread does not compute a batch.
    """
    process, here = process_batch, _here()
    of = process.of
    # A helper thread, or a coroutine, computes its own sample.
    if of is not None and not here.is_helper:
        if isinstance(of, SampleBlock):
            return of.rng()
        if process.rng is None:
            # Created on demand: most batches draw no numbers, and a generator takes some microseconds.
            process.rng = seeds.generator(seeds.BatchSeed(*of))
        return process.rng
    batch = here.batch
    if batch is None:
        batch = aside.block
    if isinstance(batch, SampleBlock):
        return batch.rng()
    if here.rng is None:
        if batch is None:
            raise RuntimeError(
                "mpqueue.rng() is available only while a batch is computed in this thread: "
                "call it inside __getitem__ or a generator that an enqueuer or a Loader runs"
            )
        here.rng = seeds.generator(batch)
    generator: np.random.Generator = here.rng
    return generator


def empty(shape: int | Sequence[int], dtype: "npt.DTypeLike" = float) -> Array:
    """Return an uninitialized array in the shared memory of the current batch.

    In a worker process, the array is not copied if ``__getitem__`` returns it in its batch. In other threads and
    processes, if the slot has no room, or if the dtype holds Python objects, the result is an ordinary NumPy array.

    Example:
        A batch that is created in shared memory::

            import numpy as np
            import mpqueue

            class Ones:
                def __len__(self):
                    return 4

                def __getitem__(self, index):
                    batch = mpqueue.empty((8, 16), np.float32)
                    batch.fill(index)
                    return batch

            with mpqueue.Loader(Ones(), workers=1) as loader:
                assert [float(batch[0, 0]) for batch in loader] == [0, 1, 2, 3]
                assert loader.statistics().copies_asked == 0

    Args:
        shape: Shape of the array.
        dtype: Data type, as in ``numpy.empty``.

    Returns:
        A C-contiguous, writable array, aligned to 64 bytes in shared memory. It is valid while it is referenced. If the
        source keeps it after the batch, that batch is copied.

    Follows: ``numpy.empty``.
    """
    if _granted is not None and not _here().is_helper:  # its sample may belong to another slot, and is copied anyway
        array = _granted.empty(shape, dtype)
        if array is not None:
            return array
    return np.empty(shape, dtype)


def stack(arrays: "Sequence[npt.ArrayLike]", axis: int = 0) -> Array:
    """Join arrays along a new axis, in the shared memory of the current batch; see `empty`.

    Example:
        Samples combined into a batch::

            import numpy as np
            import mpqueue

            assert mpqueue.stack([np.zeros(3), np.ones(3)]).shape == (2, 3)

    Args:
        arrays: At least one array; all have the same shape.
        axis: Position of the new axis in the result.

    Returns:
        The stacked array with the common dtype of the arrays. It is writable, C-contiguous, and valid while it is
        referenced.

    Raises:
        ValueError: There are no arrays, their shapes differ, or ``axis`` is out of range.

    Follows: ``numpy.stack``.
    """
    parts = [np.asanyarray(array) for array in arrays]
    dtype = np.result_type(*parts)
    shape = list(parts[0].shape)
    shape.insert(axis % (len(shape) + 1), len(parts))
    out = empty(shape, dtype)
    np.stack(parts, axis=axis, out=out)  # checks the shapes and the axis
    return out
