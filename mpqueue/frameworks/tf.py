"""TensorFlow: a `tf.data.Dataset` of the batches of a loader.

One iteration of the dataset is one epoch of the loader. `tf.data` calls us from a thread of its own, for one batch when
it is asked for one; it uses an array's memory as it is where that is aligned, and holds the array as long as it does,
so that the slot stays leased.

The first iteration is on trial (see `mpqueue.frameworks.keras.loader_passes`): whoever begins one to look at a batch,
as Keras does to build a model, has used up no epoch. Of a loader of one batch, or two, a look and an epoch may be the
same batches. Keras asks for the length before it begins, and tells when what it took was a look
(`mpqueue.frameworks.keras.resets`). Of others, an iteration that took one batch, and did not ask for the end, was a
look.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mpqueue.frameworks.keras import resets as keras_resets
from mpqueue.frameworks.keras.loader_passes import LoaderEpoch, LoaderEpochs
from mpqueue.loader.loader import Loader
from mpqueue.plan.backend_kinds import kind_of
from mpqueue.system.interrupts import is_of_handler
from mpqueue.system.locks import RLock

__all__ = ["dataset"]

_MOST_LOOKED = 2  # batches that Keras looks at: one, and one more where it puts them on a device ahead of use


def dataset(loader: Loader) -> Any:
    """Return a `tf.data.Dataset` that gives the batches of a loader, one epoch in each iteration.

    Example:
        Epochs of tensors::

            import numpy as np
            import mpqueue

            squares = [np.full(8, number**2, np.float32) for number in range(4)]
            with mpqueue.Loader(squares, workers=2) as loader:
                dataset = mpqueue.tf.dataset(loader)
                for epoch in range(2):
                    assert [float(batch[0]) for batch in dataset] == [0, 1, 4, 9]

    Its ``element_spec`` is that of the loader's first batch, the batch dimension None. That batch is computed now, and
    is the first of the first iteration all the same. Lists of text or numbers, and arrays of text, are tensors; another
    list is a tuple, as Keras takes it; ``None`` stays. ``len`` of the dataset is that of the loader where that has one;
    what is made of the dataset (``map``, ``batch``) has none.

    Args:
        loader: It is to outlive the dataset, and nobody else is to iterate over it meanwhile.

    Returns:
        A `tf.data.Dataset`. An error comes after the batches before it, as TensorFlow's own class with the text of what
        was raised; the following ``next`` goes on behind it.

    Raises:
        TypeError: ``loader`` is no `Loader`, or there is a leaf that cannot be a tensor; the text names it.
        ValueError: The loader gives no batch.
        ImportError: There is no TensorFlow; the text names the extra.
        Exception: What the source raised for the first batch.
    """
    tf = _import_tensorflow()
    if not isinstance(loader, Loader):
        raise TypeError(f"mpqueue.tf.dataset takes a mpqueue.Loader, got {type(loader).__name__}")
    feed = _Feed(LoaderEpochs(loader))
    try:
        first = feed.epochs.peek(0)
    except IndexError:
        raise ValueError(f"{loader!r} gives no batch, from which to learn the shapes of the others") from None
    feed.spec = _spec_of(tf, first, "batch")
    made = tf.data.Dataset.from_generator(feed.begin, output_signature=feed.spec)
    options = tf.data.Options()
    # Or it would take a batch that nobody has asked for; the loader computes ahead by itself.
    options.experimental_optimization.inject_prefetch = False
    made = made.with_options(options)
    made.take_back = feed.take_back
    length = feed.epochs.length
    if length is not None:
        # TensorFlow's `assert_cardinality` would make an error of an epoch that goes on in its middle.
        made.cardinality = lambda: tf.constant(feed.count(length), tf.int64)
    return made


class _Feed:
    """Begins the epochs of a loader for `tf.data`; the first may turn out to have been a look.

    Keras counts the batches and never asks for the end of an epoch. So an epoch is brought to its end with its last
    batch where that lies in the ring, and otherwise, as the batch may be part of the source, with the next epoch.

    Args:
        epochs: Of the loader.

    Attributes:
        spec: The type of a batch.
        error: What the loader raised at the end of an epoch, until it was raised here.
    """

    def __init__(self, epochs: LoaderEpochs) -> None:
        self.epochs, self.spec = epochs, None
        self.error: Exception | None = None
        self._latest: LoaderEpoch | None = None
        self._is_counted = False  # somebody counts the batches, and does not ask for the end
        self._hears = False  # of looks, by Keras
        self._may_look = True  # Keras has begun with us, or nobody has
        self._is_first = True
        self._is_reset = False  # and asks for the length once more
        self._lock = RLock()

    def count(self, length: int) -> int:
        """Return the length to somebody who counts the batches from now on."""
        if not self._is_counted and self._latest is None:
            self._is_counted = True
            if "keras" in sys.modules:
                with contextlib.suppress(ImportError):  # a Keras of another kind does not tell
                    keras_resets.tell(self)
                    self._hears = True
        self._may_look = not self._is_reset and (self._may_look or self._hears)
        self._is_reset = False
        return length

    def take_back(self) -> None:
        """Keras resets its data: what was taken was a look, and what follows is none."""
        with self._lock:
            if self._latest is not None and not self._may_look:  # it was begun since Keras began with us
                self.epochs.take_back(self._latest)
            self._is_reset, self._may_look = True, False

    def begin(self) -> Iterator[Any]:
        """Begin an iteration."""
        with self._lock:
            self.raise_error()
            latest, epochs = self._latest, self.epochs
            if latest is not None:
                if self._is_read(latest) and (self._is_counted or self._is_in_earnest(latest)):
                    latest.finish()
                elif self._is_first:
                    epochs.take_back(latest)
                self._is_first = False
            self._latest = epochs.begin(on_trial=self._may_look)
            self._may_look = False
            return _Elements(self, self._latest)

    def _is_read(self, epoch: LoaderEpoch) -> bool:
        return epoch.num_taken == self.epochs.length

    def _is_in_earnest(self, epoch: LoaderEpoch) -> bool:
        """Return True if so many batches were taken that it was no look."""
        return epoch.kept is None or epoch.num_taken > (_MOST_LOOKED if self._is_counted else 1)

    def give(self, epoch: LoaderEpoch) -> Any:
        """Return the next batch of an epoch."""
        self.raise_error()
        if self._hears and self._is_read(epoch) and not self._is_in_earnest(epoch):
            raise StopIteration  # Keras reads ahead; the loader is not asked before it is known that this is no look
        loader = self.epochs.loader
        first, kept, num_taken = epoch.first, epoch.kept, epoch.num_taken
        place = loader.place()
        batch = epoch.__next__()
        try:
            given = _like(self.spec, batch)
            is_ahead = loader.workers and kind_of(loader.backend).in_processes
            if is_ahead and self._is_read(epoch) and self._is_in_earnest(epoch):
                self._finish(epoch)
        except BaseException:  # the next call gives the batch, and a state is of the place before it
            epoch.first, epoch.kept, epoch.num_taken = first or ((place, batch),), kept, num_taken
            raise
        return given

    def _finish(self, epoch: LoaderEpoch) -> None:
        try:
            epoch.finish()
        except Exception as error:
            if is_of_handler(error):
                raise
            self.error = error

    def raise_error(self) -> None:
        """Raise what an epoch ended with."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class _Elements(Iterator[Any]):
    """One iteration; no generator, which would end at the first error."""

    def __init__(self, feed: _Feed, epoch: LoaderEpoch) -> None:
        self._feed, self._epoch = feed, epoch

    def __next__(self) -> Any:
        return self._feed.give(self._epoch)


def _spec_of(tf: Any, value: Any, name: str) -> Any:
    """Return the type of a batch, or of a part of it, as `tf.data` takes it."""
    if value is None:
        return tf.NoneTensorSpec()
    if isinstance(value, dict):
        return {key: _spec_of(tf, part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, tuple) or (isinstance(value, list) and not _is_column(value)):
        parts = [_spec_of(tf, part, f"{name}[{number}]") for number, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is {_described(value)}, of which TensorFlow can make no tensor: "
            "leave it out of the batch, or make it numbers or text"
        ) from error
    shape = tensor.shape
    return tf.TensorSpec(shape if not shape.rank else [None, *shape[1:]], tensor.dtype)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"of type {type(value).__name__}"


def _is_column(value: list[Any]) -> bool:
    """Return True for a list of text or numbers, one for each row of the batch."""
    return bool(value) and all(isinstance(item, str | bytes | bool | int | float | complex) for item in value)


def _like(spec: Any, batch: Any) -> Any:
    """Return a batch in the structure of its type: TensorFlow does not take a list for a tuple."""
    if isinstance(spec, dict) and isinstance(batch, dict) and spec.keys() == batch.keys():
        return {key: _like(part, batch[key]) for key, part in spec.items()}
    if isinstance(spec, tuple) and isinstance(batch, tuple | list) and len(spec) == len(batch):
        parts = [_like(*pair) for pair in zip(spec, batch, strict=True)]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch


def _import_tensorflow() -> Any:
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":  # TensorFlow is there, and its own parts are not
            raise
        raise ImportError(
            'mpqueue.tf needs TensorFlow: pip install "mpqueue[tensorflow]"', name="tensorflow"
        ) from error
    return tf
