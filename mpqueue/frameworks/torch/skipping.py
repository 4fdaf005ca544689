"""Loaders of Accelerate that pass over what was seen: ``skip_first_batches``, which Hugging Face's `Trainer` calls.

Such a loader is made anew when a training is resumed, and has no state: its sampler leaves out the first batches. The
order is that of the run before, because Accelerate's sampler is seeded by a seed and the number of the epoch. So are
the random numbers of the samples then: they follow from that seed, that epoch, and the place in the whole order, that
of a rank from its number as well. So the rest of an epoch is what it would have been, to the bit, without any state.

Where the sampler tells no seed, and of iterable-style datasets, whose first batches Accelerate computes and drops,
only a state helps. The log says so once. Accelerate is not imported for any of this.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from mpqueue.system.log import warn

_MODULE = "accelerate.data_loader"
_RANK_STEP = 0x9E3779B97F4A7C15  # the golden ratio's bits: seeds of ranks far from each other
_has_told = False


class Told(NamedTuple):
    """Facts of a pass that samplers of Accelerate tell.

    Attributes:
        seed: The random numbers of the samples follow from it,
        epoch: from this,
        first: and from their places, the first of which is this.
    """

    seed: int
    epoch: int
    first: int


def told_by_sampler(loader: Any) -> Told | None:
    """Return what the samplers of a loader tell; None: they are not Accelerate's, or there is no seed."""
    if _MODULE not in sys.modules:
        return None
    rank = first = 0
    for sampler in _samplers(loader):
        kind = _kind(sampler)
        if kind == "SkipBatchSampler" and sampler.skip_batches:
            size = _batch_size(sampler.batch_sampler)
            if size is None:
                return None
            first += sampler.skip_batches * size
        elif kind == "BatchSamplerShard":
            rank = sampler.process_index
        elif kind == "SeedableRandomSampler":
            return Told((sampler.initial_seed + rank * _RANK_STEP) & 0x7FFFFFFFFFFFFFFF, sampler.epoch, first)
    return None


def warn_of_skipping(loader: Any) -> None:
    """Say, once in a process, that Accelerate passes over batches whose samples draw other random numbers now."""
    global _has_told
    if _has_told or _MODULE not in sys.modules or told_by_sampler(loader) is not None:
        return
    skipped = max([_skipped_by_caller(), *(getattr(each, "skip_batches", 0) for each in _samplers(loader))])
    if not skipped:
        return
    _has_told = True
    what = type(loader.dataset).__name__
    warn(
        f"Accelerate resumes a loader of {what} by passing over its first {skipped} batches: random numbers that "
        "samples draw are other ones than before, and a stream is computed from its beginning. The loader goes on at "
        "once, and to the bit, from its own state: save loader.state_dict() with each checkpoint, load_state_dict() "
        "it, and pass over nothing (Trainer: ignore_data_skip=True; Accelerate: use_stateful_dataloader=True). The "
        'guide "Resume that is exact" shows the lines'
    )


def _samplers(loader: Any) -> Iterator[Any]:
    """Give the sampler of a loader, and those that it wraps."""
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    for _ in range(8):
        if sampler is None:
            return
        yield sampler
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)


def _kind(sampler: Any) -> str:
    """Return the name of a class of Accelerate's; nothing for any other."""
    kind = type(sampler)
    return kind.__name__ if kind.__module__ == _MODULE else ""


def _batch_size(sampler: Any) -> int | None:
    size = getattr(sampler, "batch_size", None)
    if size is not None and getattr(sampler, "split_batches", False):
        return int(size) // int(sampler.num_processes)
    return None if size is None else int(size)


def _skipped_by_caller() -> int:
    """Return how many batches the loader of Accelerate passes over that has asked for this iterator."""
    frame: Any = sys._getframe(1)
    for _ in range(8):
        if frame is None:
            return 0
        if frame.f_globals.get("__name__") == _MODULE and frame.f_code.co_name == "__iter__":
            return int(getattr(frame.f_locals.get("self"), "skip_batches", 0))
        frame = frame.f_back
    return 0
