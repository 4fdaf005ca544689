"""torch: `DataLoader`, `install` and `prefetch`, on mpqueue's workers.

From the ground up; a module imports only from its own line and the lines above it::

    lightning_epochs.py whether Lightning saves a state at the end of an epoch
    tensors/            tensors in slots: collation, ragged batches, pinned memory
    source/             the datasets of a loader as a source of workers
    checks.py           checks before workers are started
    order/              the order of a loader's data, its state, and questions about it
    inline.py           the iterator of a map-style dataset without workers
    inline_streams.py   the iterator of an iterable-style dataset without workers
    worker_batches.py   the batches of a pass with workers, for its loader
    loader_workers.py   the workers of a loader: their job and where they begin
    passes.py           the beginning of each pass
    pass_reader.py      the batches of a pass, for the program
    iterator.py         the iterator of a loader with workers
    loader.py           the loader
    prefetching.py      batches on a device, ahead of use
    installation.py     `install`, which replaces the workers of all loaders of a process
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
from mpqueue.frameworks.torch.tensors.ragged import to_nested, to_padded

__all__ = ["DataLoader", "install", "prefetch", "to_nested", "to_padded"]
