"""Notify a dataset that Keras is about to reset its data.

To build a model, Keras begins an epoch, takes a batch, and calls ``EpochIterator.reset`` before it begins the first
real epoch. For a dataset, this looks like the end of an epoch: the adapter calls the same hooks, and a look at one
batch cannot be distinguished from an epoch of one batch. So that method is replaced (by `mpqueue.system.replacement`)
while a dataset needs the notification. The replacement first calls ``take_back`` of the adapter's enqueuer, or of its
dataset, if it has such a method.
"""

import inspect
from importlib import import_module
from typing import Any

from mpqueue.system.replacement import Replacement


def tell(listener: Any) -> None:
    """Notify datasets of Keras's resets while an object exists.

    Raises:
        ImportError: Keras is not installed, or does not reset its data in this way.
    """
    _replacement.hold_for(listener)


def _reset(self: Any) -> Any:
    adapter = self.data_adapter
    for part in (getattr(adapter, "enqueuer", None), getattr(adapter, "_dataset", None)):
        take_back = getattr(part, "take_back", None)
        if take_back is not None:
            take_back()
    return _replacement.replaced(self)


def _epoch_iterator() -> Any:
    return import_module("keras.src.trainers.epoch_iterator").EpochIterator


def _check_fit(epoch_iterator: Any) -> None:
    reset = getattr(epoch_iterator, "reset", None)
    if reset is None or tuple(inspect.signature(reset).parameters) != ("self",):
        version = import_module("keras").__version__
        raise ImportError(
            f"mpqueue.keras does not support Keras {version}: its EpochIterator has no reset(), which a "
            'Loader needs. Keras 3.8 to 3.16 are supported: pip install "keras>=3.8"',
            name="keras",
        )


_replacement = Replacement(__name__, _epoch_iterator, "reset", _reset, _check_fit)
