"""torch: `DataLoader`, `install` and `prefetch`, on mpqueue's workers.

From the ground up; a module imports only from its own line and the lines above it::

    lightning_epochs.py   whether Lightning saves a state at the end of an epoch
    tensors.py            tensors as arrays of a batch, and back
    ragged.py             `collate_fn="ragged"`: batches of tensors of different lengths and of sparse rows
    collation.py          torch's collation, into the granted slot
    samples.py            the samples of a batch, and the batch without some of them
    loaded_places.py      attributes of datasets that keep a loaded place
    iterated.py           an iterable-style dataset with its iterator, and their state
    worker.py             the source that workers run for a loader
    streams.py            a `mpqueue.Dataset` that is a stream, in lanes
    ranks.py              this rank, and its lanes of a stream
    checks.py             checks before workers are started
    pinned.py             slots that a GPU reads directly
    skipping.py           loaders of Accelerate: seeds, ranks, and batches that are skipped or read ahead
    balance.py            the batches of a loader with a balance
    order.py              the order of a map-style dataset: its description and fingerprint
    state.py              a loader's place in its data
    draws.py              the draw of a pass from its sampler, which can begin again
    questions.py             the samples of any batch of a pass, and that batch again
    awaited.py            a dataset with coroutines for torch's own fetcher
    inline.py             the iterator of a loader without workers
    iterator.py           the iterator of a loader with workers
    loader.py             the loader
    prefetching.py        batches on a device, ahead of use
    installation.py       `install`, which replaces the workers of all loaders of a process
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError('mpqueue.torch needs torch: pip install "mpqueue[torch]"', name="torch") from error

from mpqueue.frameworks.torch.installation import install
from mpqueue.frameworks.torch.loader import DataLoader
from mpqueue.frameworks.torch.prefetching import prefetch
from mpqueue.frameworks.torch.ragged import to_nested, to_padded

__all__ = ["DataLoader", "install", "prefetch", "to_nested", "to_padded"]
