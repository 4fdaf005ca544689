"""Checks of a loader before its workers are started."""

from multiprocessing import context
from typing import Any

import torch
from torch.utils.data import IterDataPipe, MapDataPipe

from mpqueue.plan.options.batching import Concurrency
from mpqueue.plan.options.coroutines import has_coroutines
from mpqueue.plan.options.options import CONCURRENCY, Options
from mpqueue.plan.sources.sources import Items
from mpqueue.system.user_code.object_walk import contents

_PROCESSES = frozenset({context.Process, context.ForkProcess, context.ForkServerProcess, context.SpawnProcess})


def is_supported(loader: Any) -> bool:
    """Return whether a loader has workers, and mpqueue's workers can replace them.

    Torch's data pipes need torch's own workers. So does a context with its own class of workers, such as MONAI's
    ``"processthread"`` with threads as workers.
    """
    if loader.num_workers == 0 or isinstance(loader.dataset, IterDataPipe | MapDataPipe):
        return False
    chosen = loader.multiprocessing_context
    return chosen is None or chosen.Process in _PROCESSES


def has_own_workers(loader: Any) -> bool:
    """Return whether torch's own workers run a loader."""
    return loader.num_workers > 0 and not is_supported(loader)


def reject_cuda(dataset: Any, start_method: str) -> None:
    """Raise a `RuntimeError` for a dataset with GPU memory and forked workers: a fork has no valid CUDA context."""
    if start_method == "spawn" or not torch.cuda.is_initialized():
        return
    found = next(contents(dataset, _is_on_gpu), None)
    if found is not None:
        raise RuntimeError(
            f"the dataset contains GPU memory (dataset{found.shown}), and CUDA does not work in forked workers. Keep "
            "the data in host memory (`.cpu()`) and copy the batches to the GPU in the training loop; or pass "
            'multiprocessing_context="spawn", for a separate CUDA context in each worker; or pass num_workers=0'
        )


def coroutines_of(loader: Any) -> Concurrency | None:
    """Return how the coroutines of an asynchronous map-style dataset run; None: the dataset is not asynchronous."""
    is_indexed = loader._dataset_kind == torch.utils.data.dataloader._DatasetKind.Map
    if not is_indexed or not has_coroutines(loader.dataset, batches=not loader._auto_collation):
        return None
    return Concurrency(getattr(loader, "concurrency", None) or CONCURRENCY)


def batch_size_of(loader: Any) -> int | None:
    """Return the number of samples in a batch of a map-style dataset; None: unknown, or a sample is a batch."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)


def reject_concurrency(loader: Any) -> None:
    """Raise a `ValueError` for a loader if the option ``concurrency`` has no effect."""
    if coroutines_of(loader) is None:
        raise ValueError(
            f"concurrency={loader.concurrency} needs a map-style dataset with `async def __getitem__`, got "
            f"{type(loader.dataset).__name__}: define it, or use threads=n for code that waits without coroutines"
        )


def reject_threads(loader: Any) -> None:
    """Raise a `ValueError` for a loader if the option ``threads`` has no effect or is unsafe."""
    threads = loader.threads
    is_indexed = loader._dataset_kind == torch.utils.data.dataloader._DatasetKind.Map
    if not is_indexed or not is_supported(loader) or not loader._auto_collation:
        raise ValueError(
            f"threads={threads} computes the samples of a batch by their indices, in each worker. It needs a map-style "
            f"dataset, batches, and num_workers=1 or more, got {type(loader.dataset).__name__}, batch_size="
            f"{loader.batch_size} and num_workers={loader.num_workers}: change these, or leave out threads"
        )
    if coroutines_of(loader) is not None:
        raise ValueError(
            f"threads={threads} has no effect on {type(loader.dataset).__name__}, which is asynchronous: use "
            "concurrency=n"
        )
    provide = getattr(type(loader.dataset), "__mpqueue_source__", None)
    source = Items(loader.dataset) if provide is None else provide(loader.dataset, Options(), "index")
    why = source.parts.why_not_threads(threads)
    if why is not None:
        raise ValueError(why)


def _is_on_gpu(value: Any) -> bool:
    # Look at the class first: an object's own __getattr__ may have side effects.
    return hasattr(type(value), "is_cuda") and value.is_cuda is True
