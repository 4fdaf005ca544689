"""Calls for user code that computes a batch: its worker, its random numbers, memory in the slot.

Works in worker processes, worker threads and inline; each of them sets the thread's context around user code. Only in
a worker process is there a granted slot, which all threads of the process share.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpqueue.memory.writer import GrantedSlot
from mpqueue.seeding import seeds
from mpqueue.worker.marked import MarkedBegin
from mpqueue.worker.sample_block import BeginBlock, CurrentSample, SampleBlock, seed_of

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]


class WorkerInfo(NamedTuple):
    """The worker that runs this code.

    Attributes:
        id: Its number, from 0 to ``num_workers - 1``; a replacement has the number of the worker that died.
        num_workers: How many there are.
        seed: The enqueuer's seed.
        rank: The rank of this loader among several (see its option ``shard``),
        world: and how many ranks there are.
        lane: Of a stream: the number of the lane whose code this is, among those of all ranks,
        num_lanes: and how many there are; 0: it is no lane's.
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
        """The number of this lane, or worker, among those of all ranks: a generator takes its elements by it."""
        return self.lane if self.num_lanes else self.id * self.world + self.rank

    @property
    def num_shards(self) -> int:
        """Lanes, or workers, of all ranks together."""
        return self.num_lanes or self.world * self.num_workers


class _Current(threading.local):
    info: WorkerInfo | None = None
    begin: Callable[[int, int, int], None] | None = None
    may_begin_blocks: Callable[[], bool] | None = None
    batch: seeds.BatchSeed | SampleBlock | None = None
    rng: "np.random.Generator | None" = None
    source: Any = None
    has_asked = is_seeded = is_helper = False
    tally: Any = None


class Aside(threading.local):
    """State of this thread for datasets whose elements are computed outside of a worker.

    Attributes:
        seed: Their seed; None: nobody has set one. It is set and put back by assignments: a signal handler strikes in
            none.
    """

    seed: int | None = None


_current = _Current()
aside = Aside()
_IDLE: dict[str, Any] = {
    "info": None, "source": None, "is_seeded": False, "begin": None, "may_begin_blocks": None, "batch": None,
    "rng": None, "tally": None,
}  # fmt: skip
# In a worker process every thread of the user's code belongs to the one worker.
_process_info: WorkerInfo | None = None
process_batch = CurrentSample()
_process_begin: Callable[[int, int, int], None] | None = None
_process_begin_block: BeginBlock | None = None
_process_has_asked = False
_granted: GrantedSlot | None = None


def enter_worker_process(
    info: WorkerInfo, granted: GrantedSlot, begin: Callable[[int, int, int], None],
    begin_block: BeginBlock | None = None,
) -> None:  # fmt: skip
    """This process is a worker from now on.

    Args:
        info: The worker.
        granted: The slot that it writes into.
        begin: Sets the random numbers of a batch, or of a sample,
        begin_block: and of a block of samples; see `begin_block`.
    """
    global _process_info, _process_begin, _process_begin_block, _granted
    _process_info, _process_begin, _process_begin_block, _granted = info, begin, begin_block, granted
    os.register_at_fork(after_in_child=_leave_slot)


def enter_lane(info: WorkerInfo) -> None:
    """The code of another lane of this worker (of this thread, where workers are threads) is about to run."""
    global _process_info
    if _process_info is None:
        _current.info = info
    else:
        _process_info = info


def _leave_slot() -> None:
    global _granted
    _granted = None  # a child that user code forks shares the slot's memory, but owns no slot


def process_info() -> WorkerInfo | None:
    """Return the worker that this process is, None if it is none."""
    return _process_info


def enter_thread(
    info: WorkerInfo | None, source: Any = None, *, is_seed_given: bool = False,
    begin: Callable[[int, int, int], None] | None = None, may_begin_blocks: Callable[[], bool] | None = None,
) -> None:  # fmt: skip
    """User code runs in this thread on behalf of a worker (None: no more), which has a thread for this source.

    Args:
        info: The worker.
        source: Of a worker that is a thread.
        is_seed_given: The numbers of what it computes follow from a seed that was given.
        begin: Sets the random numbers of what this thread computes; None: `begin_batch` does.
        may_begin_blocks: Tells whether ``begin`` would set nothing now but `rng`.
    """
    # One call of C: without workers each batch comes by twice, and eight attributes of a `threading.local` are 0.4 us.
    vars(_current).update(
        _IDLE, info=info, source=source, is_seeded=is_seed_given, begin=begin, may_begin_blocks=may_begin_blocks
    )


def keep_thread() -> Callable[[], None]:
    """Return what has this thread go on with what it computes now: nothing, or a batch whose source reads a loader.

    Only this thread may call it. It is one call of C: no signal handler strikes in it.
    """
    now = vars(_current)
    return partial(now.update, {**_IDLE, **now})


def begin_batch(seed: int, epoch: int, unit: int) -> None:
    """User code is about to compute this batch in this thread."""
    _current.batch = seeds.BatchSeed(seed, epoch, unit)
    _current.rng = None


def begin_block(
    begin: Callable[[int, int, int], None], seed: int, epoch: int, samples: Sequence[Any], places: Sequence[Any]
) -> SampleBlock | None:
    """User code is about to be called for each of these samples: begin them together, if that is possible now.

    Args:
        begin: What begins a single one.
        seed: As for a single one,
        epoch: likewise.
        samples: They, one at least.
        places: Of each, what `hash` makes its place of.

    Returns:
        None: each is to be begun by itself.
    """
    if type(begin) is MarkedBegin:
        if begin.is_single:
            return None
        begin = begin.begin
    if begin is _process_begin:
        return None if _process_begin_block is None else _process_begin_block(seed, epoch, samples, places)
    # A worker thread sets no generator that others share.
    if begin is begin_batch or (begin is _current.begin and _current.may_begin_blocks and _current.may_begin_blocks()):
        _current.batch = block = SampleBlock(seed, epoch, samples, places)
        return block
    return None


def current_batch() -> tuple[tuple[int, int, int], Callable[[int, int, int], None]] | None:
    """Return the seed, epoch and unit of the batch or sample that is computed here, and what sets those of another.

    None: nothing is computed here, as by a worker.
    """
    of = seed_of(process_batch.of)
    if of is not None and _process_begin is not None and not _current.is_helper:
        return of, _process_begin
    of = seed_of(_current.batch)
    return None if of is None else (of, _current.begin or begin_batch)


def begin_tally(tally: Any) -> None:
    """The stages of a dataset note their work there, in this thread and in those that help it (None: no more)."""
    _current.tally = tally


def stage_tally() -> Any:
    """Return the `mpqueue.dataset.clocks.StageTally` of the batch at work; None: it is not timed."""
    return _current.tally


def in_any_thread(ask: Callable[[Any], Any], seed: int, epoch: int) -> Callable[[int, Any], Any]:
    """Return a function that computes the sample of a place in a thread that helps this worker, or in its own.

    Either way it sees the same, as if it were in a thread that helps.
    """
    own: dict[str, Any] = {"is_helper": True, "begin": None, "may_begin_blocks": None, "rng": None}
    own |= {"info": worker_info_unasked(), "source": _current.source, "tally": _current.tally}
    own["is_seeded"] = process_batch.of is not None or _current.is_seeded

    def call(place: int, asked: Any) -> Any:
        # The dictionary of this thread: by attributes, one by one, this takes three times as long.
        mine = vars(_current)
        before = mine.copy()
        mine.update(own, batch=seeds.BatchSeed(seed, epoch, place))
        try:
            return ask(asked)
        finally:
            mine.clear()
            mine.update(before)

    return call


def thread_batch() -> tuple[int, int, int] | None:
    """Return the batch that user code computes in this thread."""
    return seed_of(_current.batch)


def seeded_batch() -> tuple[int, int, int] | None:
    """Return the batch that is computed here, None if there is none, or the user of a thread has given no seed."""
    if _current.is_helper:
        return seed_of(_current.batch) if _current.is_seeded else None
    return seed_of(process_batch.of) or (seed_of(_current.batch) if _current.is_seeded else None)


def thread_source() -> Any:
    """Return the source of the worker whose thread this is, None if it is no worker's."""
    return _current.source


def worker_info() -> WorkerInfo | None:
    """Return the worker that runs the calling code, or None outside of workers.

    Example:
        Lines of which each worker takes its share::

            import mpqueue

            def lines():
                info = mpqueue.worker_info()
                for number in range(info.shard_id, 10, info.num_shards):
                    yield f"line {number}"

            with mpqueue.Loader(lines, workers=3) as loader:
                assert list(loader) == [f"line {number}" for number in range(10)]

    Returns:
        A record with ``id``, ``num_workers`` and ``seed``, and with ``shard_id`` and ``num_shards``, which count the
        workers of all ranks; where a stream has lanes, they count these.

    Follows: ``torch.utils.data.get_worker_info``.
    """
    global _process_has_asked
    if _process_info is not None:
        _process_has_asked = True
        return _current.info if _current.is_helper else _process_info  # whose own thread may be in another lane by now
    _current.has_asked = True
    return _current.info


def is_helper() -> bool:
    """Return whether this thread helps a worker."""
    return _current.is_helper


def worker_info_unasked() -> WorkerInfo | None:
    """Return what `worker_info` does; nothing is noted of who asks."""
    return _current.info if _process_info is None else _process_info


def note_shared_input() -> None:
    """The code of this thread takes its elements from a queue of this process, which divides them among those who ask.

    (A queue of another process counts the processes that use it.)
    """
    _current.has_asked = True


def has_asked() -> bool:
    """Return whether the code of this worker has called `worker_info`, or has a queue to divide its elements."""
    return _current.has_asked if _process_info is None else _process_has_asked


def rng() -> "np.random.Generator":
    """The random generator of the batch that is being computed.

    It is made from (seed, epoch, index), so a batch draws the same numbers in any worker, thread or process, and
    again after a worker's death or a resume. It belongs to the batch: ask for it in each ``__getitem__``.

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
        The batch's generator; every call during one batch gives the same object.

    Raises:
        RuntimeError: No batch is being computed in this thread.
    """
    process = process_batch
    of = process.of
    if of is not None and not _current.is_helper:
        if isinstance(of, SampleBlock):
            return of.rng()
        if process.rng is None:
            process.rng = seeds.generator(seeds.BatchSeed(*of))
        return process.rng
    batch = _current.batch
    if isinstance(batch, SampleBlock):
        return batch.rng()
    if _current.rng is None:
        if batch is None:
            raise RuntimeError(
                "mpqueue.rng() belongs to the batch that is being computed, and none is in this thread: "
                "call it inside __getitem__ or a generator that an enqueuer or a Loader runs"
            )
        _current.rng = seeds.generator(batch)
    return _current.rng


def empty(shape: int | Sequence[int], dtype: "npt.DTypeLike" = float) -> Array:
    """An uninitialised array for a batch, inside the slot where the batch will lie.

    Called while a worker process computes a batch, what is returned in the batch needs no copy. Anywhere else, in the
    threads of an option ``threads``, and where the slot has no room or the dtype holds Python objects, it is plain
    NumPy memory: the result is the same.

    Example:
        A batch that is made where it will lie::

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
        shape: Lengths.
        dtype: As for NumPy.

    Returns:
        A C-contiguous, writable array, 64-byte aligned inside a slot. It is valid as long as it is referenced; if the
        source keeps it beyond the batch, that batch is copied.

    Follows: ``numpy.empty``.
    """
    if _granted is not None and not _current.is_helper:  # whose sample may be of another slot, and is joined anyway
        array = _granted.empty(shape, dtype)
        if array is not None:
            return array
    return np.empty(shape, dtype)


def stack(arrays: "Sequence[npt.ArrayLike]", axis: int = 0) -> Array:
    """Join arrays along a new axis, inside the slot where the batch will lie, as `empty` makes it.

    Example:
        Samples as one batch::

            import numpy as np
            import mpqueue

            assert mpqueue.stack([np.zeros(3), np.ones(3)]).shape == (2, 3)

    Args:
        arrays: At least one; all of the same shape.
        axis: Where the new axis goes.

    Returns:
        The stacked array, of the arrays' common dtype: writable, C-contiguous, valid as long as it is referenced.

    Raises:
        ValueError: There are no arrays, or their shapes differ.

    Follows: ``numpy.stack``.
    """
    parts = [np.asanyarray(array) for array in arrays]
    if not parts:
        raise ValueError("stack needs at least one array, got none")
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    rank = parts[0].ndim + 1
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is out of range for a result of rank {rank}")
    shape = list(parts[0].shape)
    shape.insert(axis % rank, len(parts))
    out = empty(shape, np.result_type(*parts))
    np.stack(parts, axis=axis, out=out)
    return out
