"""The loaders that mpqueue's workers run; torch's own iterators run the others."""

from typing import Any

from torch.utils.data import IterDataPipe, MapDataPipe


def is_supported(loader: Any) -> bool:
    """Return whether a loader has workers, and a dataset that they can run: torch's data pipes need torch's own."""
    return loader.num_workers != 0 and not isinstance(loader.dataset, IterDataPipe | MapDataPipe)
