"""Notify a dataset that Keras is about to reset its data, and keep its epochs whole.

To build a model, Keras begins an epoch, takes a batch, and calls ``EpochIterator.reset`` before it begins the first
real epoch. For a dataset, this looks like the end of an epoch: the adapter calls the same hooks, and a look at one
batch cannot be distinguished from an epoch of one batch. So that method is replaced (by
`mpqueue.system.user_code.replacement`) while a dataset needs the notification. The replacement first calls
``take_back`` of the adapter's enqueuer, or of its dataset, if it has such a method.

If such a dataset has no length, Keras uses the number of batches of the first epoch for all later epochs in the
same `fit`. But the first epoch may be the rest of a resumed one, and a filter may keep more elements in the next one.
So ``EpochIterator.catch_stop_iteration``, which records the number, is replaced as well, and forgets it.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from mpqueue.system.user_code.replacement import Replacement


def tell(listener: Any) -> None:
    """Notify datasets of Keras's resets while an object exists.

    Raises:
        ImportError: Keras is not installed, or does not reset its data in this way.
    """
    _replacement.hold_for(listener)
    _replaced_end.hold_for(listener)


def _ways_back(epoch_iterator: Any) -> list[Callable[[], None]]:
    adapter = epoch_iterator.data_adapter
    parts = getattr(adapter, "enqueuer", None), getattr(adapter, "_dataset", None)
    return [part.take_back for part in parts if part is not None and hasattr(part, "take_back")]


def _reset(self: Any) -> Any:
    for take_back in _ways_back(self):
        take_back()
    return _replacement.replaced(self)


@contextlib.contextmanager
def _catch_stop_iteration(self: Any) -> Iterator[None]:
    before = self._num_batches
    with _replaced_end.replaced(self):
        yield
    if self._num_batches != before and _ways_back(self):
        self._num_batches = before


def _epoch_iterator() -> Any:
    return import_module("keras.src.trainers.epoch_iterator").EpochIterator


def _check_fit(epoch_iterator: Any) -> None:
    reset = getattr(epoch_iterator, "reset", None)
    if reset is None or tuple(inspect.signature(reset).parameters) != ("self",):
        version = import_module("keras").__version__
        raise ImportError(
            f"mpqueue.keras does not support Keras {version}: its EpochIterator has no reset(), which a "
            'Loader needs. Keras 3.10 to 3.16 are supported: pip install "keras>=3.10"',
            name="keras",
        )


_replacement = Replacement(__name__, _epoch_iterator, "reset", _reset, _check_fit)
_replaced_end = Replacement(__name__, _epoch_iterator, "catch_stop_iteration", _catch_stop_iteration)
