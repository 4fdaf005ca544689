"""`install`: every `DataLoader` of the process on mpqueue's workers, those that libraries make included.

What is replaced (by `mpqueue.system.replacement`) is the method ``_get_iterator`` of `torch.utils.data.DataLoader`.
Loaders that make iterators of their own (a subclass that overrides the method and does not call torch's) keep them, and
so do loaders that mpqueue's workers cannot run. Beside it the class has, as long as it stands, what our own loader has
more than torch's: its state, and its statistics. So loaders without workers have our iterator, too: it counts.
"""

from typing import Any

import torch
from torch.utils import data

from mpqueue.frameworks.torch.inline import InlineIterator
from mpqueue.frameworks.torch.iterator import Iterator
from mpqueue.frameworks.torch.loader import DataLoader
from mpqueue.frameworks.torch.supported import is_supported
from mpqueue.system.replacement import Installation, Replacement


def install() -> Installation:
    """Let every `torch.utils.data.DataLoader` with workers run in mpqueue's, without a change of the program.

    It holds for each loader that is iterated from now on, also for one that was made before, in a library, or by a
    subclass. Each has the ``state_dict``, ``load_state_dict`` and ``statistics`` of `DataLoader`, those without workers
    included, unless its class has its own.

    Example:
        For a part of a program; without ``with``, for the rest of it::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=2)
            with mpqueue.torch.install():
                assert [float(batch.sum()) for batch, in loader] == [6, 22]

    Returns:
        A context manager: leaving it undoes this installation, and no other.

    Raises:
        ImportError: This torch's `DataLoader` does not make its iterators where it is known to.
    """
    return _replacement.install()


def _get_iterator(self: Any) -> Any:
    if not _replacement.num_installations:
        return _replacement.replaced(self)
    if self.num_workers == 0:
        return InlineIterator(self)
    if not is_supported(self):
        return _replacement.replaced(self)
    self.check_worker_number_rationality()
    return Iterator(self)


def _check_fit(loader_class: Any) -> None:
    if not hasattr(loader_class, "_get_iterator"):
        raise ImportError(
            f"mpqueue.torch does not fit torch {torch.__version__}: its DataLoader has no method _get_iterator. "
            'torch 2.4 to 2.13 are known to fit: pip install "torch>=2.4"',
            name="torch",
        )


_OURS = ("state_dict", "load_state_dict", "statistics", "note_pass", "resumed", "_pass", "__getstate__")
_replacement = Replacement(
    "mpqueue.torch", lambda: data.DataLoader, "_get_iterator", _get_iterator, _check_fit,
    beside={name: vars(DataLoader)[name] for name in _OURS},
)  # fmt: skip
