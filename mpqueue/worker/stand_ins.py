"""Stand-in for Keras's `PyDataset` in a worker.

A dataset of a script or notebook travels by value, and its base class by name: every pool would import Keras and its
backend (2 to 5 s and hundreds of megabytes) for a base class that has nothing to do there. It gets this one instead.
A dataset out of a module that can be imported brings whatever that module imports, as ever.
"""

import itertools
from collections.abc import Iterator
from typing import Any


class PyDataset:
    """The part of `keras.utils.PyDataset` that items may ask for; made by unpickling only."""

    _workers, _use_multiprocessing, _max_queue_size = 1, False, 10

    @property
    def workers(self) -> Any:
        """Return the trainer's number of workers."""
        return self._workers

    @property
    def use_multiprocessing(self) -> Any:
        """Return the trainer's choice."""
        return self._use_multiprocessing

    @property
    def max_queue_size(self) -> Any:
        """Return the trainer's size of the queue."""
        return self._max_queue_size

    @property
    def num_batches(self) -> Any:
        """Return the batches per epoch."""
        length: Any = self
        return len(length)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        length = self.num_batches
        for index in itertools.count() if length is None else range(length):
            yield self[index]

    def on_epoch_begin(self) -> None:
        """Do nothing: it is called in the trainer only."""

    def on_epoch_end(self) -> None:
        """Do nothing: it is called in the trainer only."""


KERAS_NAME = ("keras.src.trainers.data_adapters.py_dataset_adapter", "PyDataset")


def py_dataset() -> type:
    """Return the class that the pickle of Keras's class names."""
    return PyDataset
