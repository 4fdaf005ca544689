"""`install`: every `DataLoader` of the process on mpqueue's workers, those that libraries make included.

What is replaced (by `mpqueue.system.replacement`) is the method ``_get_iterator`` of `torch.utils.data.DataLoader`.
Loaders that make iterators of their own (a subclass that overrides the method and does not call torch's) keep them, and
so do loaders that mpqueue's workers cannot run. Beside it the class has, as long as it stands, what our own loader has
more than torch's: its state, and its statistics. So loaders without workers have our iterator, too: it counts.

torchdata's ``StatefulDataLoader`` overrides all of that with iterators and states of its own, so that its class is
treated in the same way, where torchdata is installed. What it makes for torch's data pipes stays its own.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import data

from mpqueue.frameworks.torch.checks import is_supported
from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.frameworks.torch.loader import DataLoader, make_iterator
from mpqueue.system.replacement import Installation, Replacement, install_all


def install() -> Installation:
    """Let every `torch.utils.data.DataLoader` with workers run in mpqueue's, without a change of the program.

    It holds for each loader that is iterated from now on, also for one that was made before, in a library, or by a
    subclass. Each has the ``state_dict``, ``load_state_dict`` and ``statistics`` of `DataLoader`, those without workers
    included, unless its class has its own. torchdata's ``StatefulDataLoader`` is one of these loaders, with
    our state in the place of its own.

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
    stateful = _stateful()
    return install_all(_replacement, *([] if stateful is None else [stateful]))


def _get_iterator(self: Any) -> Any:
    if not _replacement.num_installations:
        return _replacement.replaced(self)
    return make_iterator(self, lambda: _replacement.replaced(self))


def _check_fit(loader_class: Any) -> None:
    if not hasattr(loader_class, "_get_iterator"):
        raise ImportError(
            f"mpqueue.torch does not fit torch {torch.__version__}: its DataLoader has no method _get_iterator. "
            'torch 2.4 to 2.13 are known to fit: pip install "torch>=2.4"',
            name="torch",
        )


def _get_stateful_iterator(self: Any) -> Any:
    iterator = _get_iterator(self)
    # torchdata's loader waits for its workers, and raises what `worker_init_fn` has raised.
    if type(iterator) is PassIterator and self.worker_init_fn is not None:
        iterator.raise_init_error()
    return iterator


_OURS = ("state_dict", "load_state_dict", "statistics", "note_pass", "num_lanes", "resumed", "_pass", "__getstate__")
_replacement = Replacement(
    "mpqueue.torch", lambda: data.DataLoader, "_get_iterator", _get_iterator, _check_fit,
    beside={name: vars(DataLoader)[name] for name in _OURS},
)  # fmt: skip


@functools.cache
def _stateful() -> Replacement | None:
    """Return what stands in for torchdata's loader; None: there is none."""
    if importlib.util.find_spec("torchdata") is None:
        return None
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:  # before 0.8, or one that does not fit this torch
        return None

    def instead(name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
        own = getattr(StatefulDataLoader, name)

        @functools.wraps(own)
        def method(self: Any, *args: Any) -> Any:
            is_ours = replacement.num_installations and (self.num_workers == 0 or is_supported(self))
            return (ours if is_ours else own)(self, *args)

        return method

    ours = vars(DataLoader)
    methods = {name: instead(name, ours[name]) for name in ("state_dict", "load_state_dict")}
    replacement = Replacement(
        "mpqueue.torch", lambda: StatefulDataLoader, "_get_iterator", instead("_get_iterator", _get_stateful_iterator),
        beside={name: ours[name] for name in _OURS if name not in methods}
        | methods | {"__iter__": instead("__iter__", data.DataLoader.__iter__)},
    )  # fmt: skip
    return replacement
