"""`install`: run every `DataLoader` of the process with mpqueue's workers, including loaders made by libraries.

`mpqueue.system.user_code.replacement` replaces the method ``_get_iterator`` of `torch.utils.data.DataLoader`. Loaders
that make their own iterators (a subclass that overrides the method without calling torch's) keep them. So do loaders
that mpqueue's workers cannot run. While it is installed, torch's class also has the additional methods of our loader:
its state, its statistics, and the answers about its batches. So loaders without workers get our iterator, too, which
counts batches.

torchdata's ``StatefulDataLoader`` overrides all of these methods with its own iterators and states. If torchdata is
installed, the same replacements are made in its class. Its iterators for torch's data pipes are kept.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import data

from mpqueue.frameworks.torch.checks import is_supported
from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.frameworks.torch.loader import DataLoader, make_iterator
from mpqueue.frameworks.torch.order import questions
from mpqueue.system.user_code.extras import is_installed
from mpqueue.system.user_code.replacement import Installation, Replacement, install_all


def install() -> Installation:
    """Run every `torch.utils.data.DataLoader` with workers by mpqueue's workers, without changing the program.

    This applies to each loader that is iterated after this call, including loaders that were made before, by a library,
    or from a subclass. Each loader gets the additional methods of `DataLoader`, also without workers, unless its class
    defines its own: ``state_dict``, ``load_state_dict``, ``statistics``, ``last``, ``explain``, ``compute`` and
    ``exclude``. torchdata's ``StatefulDataLoader`` is included: our state
    replaces its own.

    Example:
        For a part of a program; without ``with``, for the rest of it::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=2)
            with mpqueue.torch.install():
                assert [float(batch.sum()) for batch, in loader] == [6, 22]

    Returns:
        A context manager: leaving it undoes this installation only.

    Raises:
        ImportError: The `DataLoader` of this torch release is not supported.
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
            f"mpqueue.torch does not support torch {torch.__version__}: its DataLoader has no method _get_iterator. "
            'torch 2.4 to 2.13 are supported: pip install "torch>=2.4"',
            name="torch",
        )


def _get_stateful_iterator(self: Any) -> Any:
    iterator = _get_iterator(self)
    # torchdata's loader waits for its workers, and raises an error of `worker_init_fn` here.
    if type(iterator) is PassIterator and self.worker_init_fn is not None:
        iterator.reader.raise_init_error()
    return iterator


class _Last:
    """`DataLoader.last` for other classes. An instance may set an attribute of this name, which a property refuses."""

    def __get__(self, loader: Any, owner: Any = None) -> Any:
        return self if loader is None else questions.last(loader)


_FOR_USERS = ("state_dict", "load_state_dict", "statistics", "explain", "compute", "exclude")
_INTERNAL = ("note_pass", "num_lanes", "resumed", "is_unknown", "_passes", "_pass", "_left_pass", "__getstate__")
_OURS: dict[str, Any] = {name: vars(DataLoader)[name] for name in _FOR_USERS + _INTERNAL} | {"last": _Last()}
_replacement = Replacement(
    "mpqueue.torch", lambda: data.DataLoader, "_get_iterator", _get_iterator, _check_fit, beside=_OURS
)


@functools.cache
def _stateful() -> Replacement | None:
    """Return the replacement for torchdata's loader; None: torchdata is not installed."""
    if not is_installed("torchdata"):
        return None
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:  # a release before 0.8, or one that does not support this torch
        return None

    def instead(name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
        own = getattr(StatefulDataLoader, name)

        @functools.wraps(own)
        def method(self: Any, *args: Any) -> Any:
            is_ours = replacement.num_installations and (self.num_workers == 0 or is_supported(self))
            return (ours if is_ours else own)(self, *args)

        return method

    methods = {name: instead(name, _OURS[name]) for name in ("state_dict", "load_state_dict")}
    replacement = Replacement(
        "mpqueue.torch",
        lambda: StatefulDataLoader,
        "_get_iterator",
        instead("_get_iterator", _get_stateful_iterator),
        beside=_OURS | methods | {"__iter__": instead("__iter__", data.DataLoader.__iter__)},
    )
    return replacement
