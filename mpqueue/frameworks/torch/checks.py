"""Checks that are made when workers are to be started: what they cannot do, said before there are any."""

from typing import Any

import torch
from torch.utils.data import IterDataPipe, MapDataPipe

from mpqueue.plan.options import Options
from mpqueue.plan.sources import Items
from mpqueue.system.contents import contents


def is_supported(loader: Any) -> bool:
    """Return whether a loader has workers, and a dataset that they can run: torch's data pipes need torch's own."""
    return loader.num_workers != 0 and not isinstance(loader.dataset, IterDataPipe | MapDataPipe)


def refuse_cuda(dataset: Any, start_method: str) -> None:
    """Raise a `RuntimeError` for a dataset that holds memory of a GPU: its context does not survive a fork."""
    if start_method == "spawn" or not torch.cuda.is_initialized():
        return
    found = next(contents(dataset, _is_on_gpu), None)
    if found is not None:
        raise RuntimeError(
            f"the dataset holds memory of a GPU (dataset{found.shown}), and its workers are forked, which no CUDA "
            "context survives. Keep it in the memory of the host (`.cpu()`) and copy the batches to the GPU in the "
            'training loop; or pass multiprocessing_context="spawn", which gives each worker a context of its own; or '
            "num_workers=0"
        )


def refuse_threads(loader: Any) -> None:
    """Raise a `ValueError` for a loader whose option ``threads`` would have no effect, or do harm."""
    threads = loader.threads
    if loader._dataset_kind == torch.utils.data.dataloader._DatasetKind.Iterable or not is_supported(loader):
        if loader.num_workers:
            raise ValueError(
                f"threads={threads} computes the samples of a batch by their indices, and those of an iterable-style "
                f"dataset ({type(loader.dataset).__name__}) come one after the other: leave it out"
            )
        raise ValueError(f"threads={threads} is about workers, and there are none: pass num_workers=1 or more, too")
    if not loader._auto_collation:
        raise ValueError(
            f"threads={threads} computes the samples of a batch side by side, and with batch_size=None an item of the "
            "dataset is a batch: leave out one of them"
        )
    provide = getattr(type(loader.dataset), "__mpqueue_source__", None)
    source = Items(loader.dataset) if provide is None else provide(loader.dataset, Options(), "index")
    why = source.why_not_threads(threads)
    if why is not None:
        raise ValueError(why)


def _is_on_gpu(value: Any) -> bool:
    # Asked of the class first: an object's own __getattr__ may do anything.
    return hasattr(type(value), "is_cuda") and value.is_cuda is True
