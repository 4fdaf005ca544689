"""The receivers' side of the source as bytes: fork server and workers rebuild it and replace changed parts.

Apart from `mpqueue.workers.source_send`, the trainer's side, so that a worker whose source needs no cloudpickle does
not import it.

`PyDataset` stands in for Keras's. A dataset of a script or notebook travels by value, and its base class by name: every
pool would import Keras and its backend (2 to 5 s and hundreds of megabytes) for a base class that has nothing to do
there. A dataset out of a module that can be imported brings whatever that module imports, as ever.
"""

import itertools
import pickle
from collections.abc import Iterator
from typing import Any

from mpqueue.memory.layout import Array, align
from mpqueue.memory.snapshot import own_copies, reset

_LENGTH_BYTES = 8


def load(data: Any, buffers: list[Any]) -> Any:
    """The source again."""
    return pickle.loads(data, buffers=buffers)


def merge_buffers(patch_new: dict[int, Any], patch_old: dict[int, int], have: list[Any]) -> list[Any]:
    """All buffers of the new image, in their order: those that came, and for the others those of the older image."""
    merged = {number: have[where] for number, where in patch_old.items()} | patch_new
    return [merged[number] for number in sorted(merged)]


def buffers_start(meta_bytes: int) -> int:
    """Return the offset of the buffers of an encoded patch."""
    return align(_LENGTH_BYTES + meta_bytes)


def apply_patch(encoded: Array, have: list[Any]) -> tuple[Any, list[Any]]:
    """Read a patch of `mpqueue.workers.source_send.encode_patch`; return the new source, and the buffers under it.

    The new buffers are copied to private, writable memory; ``encoded`` may be used again afterwards. Those that the
    older image has, too, are put back to what was sent: the source may have written into them, and what its arrays hold
    must not depend on whether this worker has lived so long.

    Raises:
        OSError: There is no memory for them, or no descriptor.
    """
    length = int.from_bytes(encoded[:_LENGTH_BYTES].tobytes(), "little")
    data, old, places = pickle.loads(encoded[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes())
    start = buffers_start(length)
    sent = [encoded[start + at : start + at + nbytes].data for at, nbytes in places.values()]
    new = dict(zip(places, own_copies(sent), strict=True))
    reset([have[number] for number in old.values()])
    buffers = merge_buffers(new, old, have)
    return load(data, buffers), buffers


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
