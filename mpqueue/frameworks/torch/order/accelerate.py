"""Loaders of Accelerate: their seeds, their ranks, and their position in the data.

Accelerate's ``skip_first_batches``, which Hugging Face's `Trainer` calls, makes a new loader without a state. The
loader's sampler leaves out the first batches. The order is the same as before, because it depends only on the seed and
the epoch of Accelerate's sampler. The random numbers of a sample depend on them and on its position in the whole order.
So the rest of an epoch is exact without a state. If the sampler has no seed, and for iterable-style datasets, only a
state is exact; a warning is logged once.

With ``use_stateful_dataloader=True``, all ranks write the state of a loader into the same file, and each rank loads
this file. So states must be equal on all ranks:

    seed          equal on all ranks; `seed_of_rank` adds the number of the rank when the workers are started
    order         determined by the sampler's seed; the state of torch's generator is left out, since ranks may differ
    dispatched    the first rank reads for all (``DataLoaderDispatcher``), so that only its state is written. It reads
                  one batch for each rank, one step ahead: the state belongs to the step, see `is_inside_step`

Persistent workers of Hugging Face's `Trainer` draw their seed from torch's generator once, in the first pass of a
process. A resumed process would draw it again, and the model's random numbers would differ. So a loader that is resumed
in a later epoch (`PassSeed.is_drawn`), and a loader of an evaluation (`evaluation`), leave that generator
unchanged.

Accelerate is not imported for any of this.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, SequentialSampler

from mpqueue.system.callers import frame_of
from mpqueue.system.log import warn

_MODULE, _STATE = "accelerate.data_loader", "accelerate.state"
_TRAINER = "transformers.trainer"
_EPOCH_BITS = 19  # bits for the epoch in a worker's message
_MAX_SEED = 0x7FFFFFFFFFFFFFFF
_RANK_STEP = 0x9E3779B97F4A7C15  # the golden ratio's bits: seeds of ranks far from each other
_has_warned = False


class PassSeed(NamedTuple):
    """The seed, epoch and position of a pass, if torch's generator does not determine them.

    Attributes:
        seed: Seed of the samples' random numbers, together with the rank, the epoch and the position of each sample.
        epoch: The epoch.
        first: Position of the first sample.
        is_drawn: A run without a break had drawn the workers' seed before this pass.
    """

    seed: int
    epoch: int
    first: int
    is_drawn: bool


def sampler_facts(loader: Any) -> PassSeed | None:
    """Return the facts that a loader's samplers report; None: they are not Accelerate's, or have no seed."""
    if _MODULE not in sys.modules:
        return None
    first = 0
    for sampler in samplers_of(loader):
        kind = _kind(sampler)
        if kind == "SkipBatchSampler" and sampler.skip_batches:
            size = _batch_size(sampler.batch_sampler)
            if size is None:
                return None
            first += sampler.skip_batches * size
        elif kind == "SeedableRandomSampler":
            is_drawn = first > 0 or (sampler.epoch > 0 and loader.persistent_workers)
            return PassSeed(sampler.initial_seed & _MAX_SEED, sampler.epoch, first, is_drawn)
    return None


def evaluation(loader: Any) -> PassSeed | None:
    """Return the facts of an evaluation of Hugging Face's `Trainer` by persistent workers; None: it is another pass.

    They are derived from torch's generator, which a checkpoint of the `Trainer` contains. The number of evaluations
    before a resume is unknown, and so is the seed that was drawn in the first one. The random numbers of an
    iterable-style dataset depend on that number nevertheless, because they do not use ``epoch``.

    Args:
        loader: The loader that is iterated.
    """
    if not loader.persistent_workers or loader.generator is not None or _TRAINER not in sys.modules:
        return None
    is_ordered = any(isinstance(sampler, SequentialSampler) for sampler in samplers_of(loader))
    if not is_ordered and not isinstance(loader.dataset, IterableDataset):
        return None  # the order is drawn from torch's generator as well
    if frame_of("evaluation_loop", _TRAINER) is None:  # neither the loader nor a global of the library shows it
        return None
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    epoch = torch.randint(1 << _EPOCH_BITS, (), generator=generator)
    return PassSeed(torch.initial_seed() & _MAX_SEED, int(epoch), 0, is_drawn=True)


def seed_of_rank(loader: Any, seed: int) -> int:
    """Return the seed that the workers of this rank use.

    Ranks of an iterable-style dataset must draw the same numbers: each iterates over all elements and takes its part.

    Args:
        loader: The loader. Accelerate's sampler has the number of the rank; the rank of other loaders is 0.
        seed: The seed of all ranks.
    """
    if _MODULE not in sys.modules:
        return seed
    rank = sum(sampler.process_index for sampler in samplers_of(loader) if is_shard(sampler))
    return (seed + rank * _RANK_STEP) & _MAX_SEED if rank else seed


def is_inside_step(loader: Any, num_returned: int) -> bool:
    """Return whether ``DataLoaderDispatcher`` has read only a part of a step of all ranks from a loader.

    It requests a state before each batch that it reads ahead, and keeps the last one. Batches of an unfinished step do
    not count.

    Args:
        loader: The loader. Its pass is not over.
        num_returned: The number of batches that the pass has returned in this process.
    """
    owner = _dispatcher_of(loader)
    if owner is None or owner.split_batches or getattr(owner, "submesh_tp", None) is not None:
        return False  # a step is one batch
    return num_returned % int(owner.state.num_processes) > 0


def keep_state_of_first_rank(loader: Any) -> None:
    """Have only the first rank write the state of a ``DataLoaderDispatcher`` that iterates over a loader.

    The iterators of the other ranks never advance, so their states are wrong. If all ranks wrote them into the same
    file at the same time, the file could not be read.
    """
    owner = _dispatcher_of(loader)
    if owner is not None and owner.state.process_index:
        owner.use_stateful_dataloader = False  # checked by `save_state`


def warn_of_skipping(loader: Any) -> None:
    """Log, once per process, that Accelerate skips batches, so that the samples after them get other random numbers."""
    global _has_warned
    if _has_warned or _MODULE not in sys.modules or sampler_facts(loader) is not None:
        return
    skipped = max(getattr(each, "skip_batches", 0) for each in (_owner_of(loader), *samplers_of(loader)))
    if not skipped:
        return
    _has_warned = True
    name = type(loader.dataset).__name__
    warn(
        f"Accelerate resumes a loader of {name} by skipping its first {skipped} batches: the random numbers of samples "
        "differ from the original run, and a stream is computed from its beginning. To resume exactly and without "
        "delay, use the loader's own state: save loader.state_dict() with each checkpoint, call load_state_dict(), and "
        "skip no batches (Trainer: ignore_data_skip=True; Accelerate: use_stateful_dataloader=True)",
        "Resume and reproduce a training",
        "Trainers",
    )


def samplers_of(loader: Any) -> Iterator[Any]:
    """Yield the sampler of a loader, and the samplers that it wraps."""
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    for _ in range(8):
        if sampler is None:
            return
        yield sampler
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)


def is_shard(sampler: Any) -> bool:
    """Return whether a batch sampler selects the batches of one of Accelerate's ranks."""
    return _kind(sampler) == "BatchSamplerShard"


def is_of_ranks(sampler: Any) -> bool:
    """Return whether a sampler returns the part of one rank, as the samplers of torch, torchdata and Accelerate do."""
    counts = (getattr(sampler, name, 1) for name in ("num_replicas", "num_processes"))
    return any(isinstance(count, int) and count > 1 for count in counts)


def _kind(sampler: Any) -> str:
    """Return the class name of a sampler of Accelerate; an empty string for other samplers."""
    kind = type(sampler)
    return kind.__name__ if kind.__module__ == _MODULE else ""


def _batch_size(sampler: Any) -> int | None:
    size = getattr(sampler, "batch_size", None)
    if size is not None and getattr(sampler, "split_batches", False):
        return int(size) // int(sampler.num_processes)
    return None if size is None else int(size)


def _dispatcher_of(loader: Any) -> Any:
    """Return the ``DataLoaderDispatcher`` that iterates over a loader; None: another object does."""
    owner = _owner_of(loader)
    return owner if owner is not None and isinstance(owner, sys.modules[_MODULE].DataLoaderDispatcher) else None


def _owner_of(loader: Any) -> Any:
    """Return the loader of Accelerate that iterates over a loader; None: another object does."""
    if _MODULE not in sys.modules:
        return None
    # Accelerate's list of the loaders that are iterated now. The dataset of one may iterate over another loader.
    for owner in reversed(sys.modules[_STATE].GradientState().dataloader_references):
        # Before Accelerate 0.34, its loaders were subclasses of torch's.
        if owner is loader or getattr(owner, "base_dataloader", None) is loader:
            return owner
    return None
