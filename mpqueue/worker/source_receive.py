"""The receiver's side of sending the source: fork server and workers rebuild it, and replace changed parts.

It is separate from `mpqueue.backends.sending.source_send`, the trainer's side, so that a worker imports cloudpickle
only if its source needs it.

`PyDataset` replaces the class of Keras. A dataset of a script or notebook is pickled by value, and its base class by
name. Without the replacement, every pool would import Keras and its backend (2 to 5 s, and hundreds of megabytes) for a
base class that has no function in a worker. A dataset from an importable module imports whatever that module imports.
"""

import itertools
import operator
import pickle
from collections.abc import Iterator
from typing import Any

from mpqueue.memory.layout import Array, align
from mpqueue.memory.main_module import forget_names
from mpqueue.memory.snapshot import own_copies, reset

_LENGTH_BYTES = 8


def buffers_start(meta_bytes: int) -> int:
    """Return the offset of the buffers of an encoded patch."""
    return align(_LENGTH_BYTES + meta_bytes)


def apply_patch(encoded: Array, have: list[Any]) -> tuple[Any, list[Any]]:
    """Apply a patch of `mpqueue.backends.sending.source_send.encode_patch`; return the new source and its buffers.

    New buffers are copied to private, writable memory, so ``encoded`` may be reused. Buffers of the older image are
    reset to the sent contents: the source may have written to them, and its arrays must not depend on the age of this
    worker.

    Raises:
        OSError: Memory or descriptors are exhausted.
    """
    length = int.from_bytes(encoded[:_LENGTH_BYTES].tobytes(), "little")
    data, old, positions = pickle.loads(encoded[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes())
    start = buffers_start(length)
    sent = [encoded[start + at : start + at + nbytes].data for at, nbytes in positions.values()]
    new = dict(zip(positions, own_copies(sent), strict=True))
    # Before unpickling, which may write to the arrays again.
    reset([have[index] for index in old.values()])
    merged = {index: have[here] for index, here in old.items()} | new
    # By index: the pickle refers to its buffers by their order.
    buffers = [merged[index] for index in sorted(merged)]
    forget_names()
    return pickle.loads(data, buffers=buffers), buffers


class PyDataset:
    """The part of `keras.utils.PyDataset` that items may use; created only by unpickling."""

    _workers, _use_multiprocessing, _max_queue_size = 1, False, 10

    # The trainer's settings.
    workers = property(operator.attrgetter("_workers"))
    use_multiprocessing = property(operator.attrgetter("_use_multiprocessing"))
    max_queue_size = property(operator.attrgetter("_max_queue_size"))

    @property
    def num_batches(self) -> Any:
        """The number of batches per epoch."""
        length: Any = self
        return len(length)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        length = self.num_batches
        for index in itertools.count() if length is None else range(length):
            yield self[index]

    def on_epoch_begin(self) -> None:
        """Run no code, like Keras's own method. A subclass may call it by `super`."""

    def on_epoch_end(self) -> None:
        """Run no code, like Keras's own method. A subclass may call it by `super`."""


KERAS_NAME = ("keras.src.trainers.data_adapters.py_dataset_adapter", "PyDataset")


def py_dataset() -> type:
    """Return the replacement of Keras's class, for unpickling."""
    return PyDataset
