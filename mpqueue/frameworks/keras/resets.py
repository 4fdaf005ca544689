"""Tells a dataset that Keras is about to begin its data anew.

To build a model, Keras begins an epoch, takes a batch, and calls ``EpochIterator.reset`` before it begins the first
epoch in earnest. To a dataset this looks like an epoch's end: the adapter calls the same hooks, and no count of batches
tells a look at one batch from an epoch of one. So that method is replaced (by `mpqueue.system.replacement`) as long as
there is a dataset that is to know: ours first calls ``take_back`` of the adapter's enqueuer, or of its dataset, where
it has such a method.
"""

import inspect
from importlib import import_module
from typing import Any

from mpqueue.system.replacement import Replacement


def tell(listener: Any) -> None:
    """Have Keras's resets told as long as an object lives.

    Raises:
        ImportError: There is no Keras, or one that does not reset its data in this way.
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
            f"mpqueue.keras does not fit Keras {version}: its EpochIterator has no reset(), which a "
            'Loader needs. Keras 3.8 to 3.16 are known to fit: pip install "keras>=3.8"',
            name="keras",
        )


_replacement = Replacement(__name__, _epoch_iterator, "reset", _reset, _check_fit)
