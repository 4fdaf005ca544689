"""TensorFlow: a `tf.data.Dataset` of the batches of a loader.

One iteration of the dataset is one epoch of the loader. `tf.data` requests each batch from its own thread, when the
batch is needed. It uses an array's memory directly if the memory is aligned. It keeps a reference to the array as
long as it uses the memory, so the slot remains leased.

The first iteration may be only a *look* (see `mpqueue.frameworks.keras.loader_passes`): a program takes a batch to
inspect it, as Keras does to build a model. A look does not use up an epoch. For a loader of one or two batches, a look
and an epoch take the same batches. Keras requests the length before it begins, and reports afterwards that an iteration
was a look (`mpqueue.frameworks.keras.resets`). For longer loaders, an iteration that took one batch and did not request
the end was a look.
"""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpqueue.frameworks.keras import resets as keras_resets
from mpqueue.frameworks.keras.loader_passes import LoaderEpoch, LoaderEpochs, NoBatch
from mpqueue.loader.loader import Loader
from mpqueue.samples.ragged import Ragged
from mpqueue.system.signals.locks import RLock
from mpqueue.system.user_code.extras import import_extra

if TYPE_CHECKING:
    from tensorflow import RaggedTensor
    from tensorflow.data import Dataset

__all__ = ["dataset", "to_ragged"]

_NEEDS = 'mpqueue.tf needs TensorFlow: pip install "mpqueue[tensorflow]"'
_MOST_LOOKED = 2  # batches of a look of Keras: one, and a second if it transfers batches to a device ahead of use


def dataset(loader: Loader[Any]) -> "Dataset":
    """Return a `tf.data.Dataset` of the batches of a loader, one epoch per iteration.

    Example:
        Epochs of tensors::

            import numpy as np
            import mpqueue

            squares = [np.full(8, number**2, np.float32) for number in range(4)]
            with mpqueue.Loader(squares, workers=2) as loader:
                dataset = mpqueue.tf.dataset(loader)
                for epoch in range(2):
                    assert [float(batch[0]) for batch in dataset] == [0, 1, 4, 9]

    Its ``element_spec`` is derived from the loader's first batch, with None as the batch dimension. This batch is
    computed immediately, and is still returned as the first batch. Lists of strings or numbers, and arrays of strings,
    become tensors; other lists become tuples, as Keras expects; ``None`` remains ``None``. ``len`` of the dataset is
    the loader's, if it has one; datasets made from it (``map``, ``batch``) have no length.

    Args:
        loader: The loader. It must outlive the dataset, and must not be iterated elsewhere at the same time.

    Returns:
        A `tf.data.Dataset`. An error is raised after the batches before it, as a TensorFlow error with the original
        message; the following ``next`` continues after it.

    Raises:
        TypeError: ``loader`` is not a `Loader`, or a leaf cannot become a tensor; the message names it.
        ValueError: The loader has no batches.
        ImportError: TensorFlow is not installed; the message names the extra.
        Exception: The error of the source for the first batch.
    """
    tf = import_extra("tensorflow", _NEEDS)
    if not isinstance(loader, Loader):
        raise TypeError(f"mpqueue.tf.dataset needs a mpqueue.Loader, got {type(loader).__name__}")
    feed = _Feed(LoaderEpochs(loader))
    try:
        first = feed.epochs.peek(0)
    except NoBatch:
        raise ValueError(f"{loader!r} has no batches, so the shapes of batches are unknown") from None
    feed.spec = _spec_of(tf, first, "batch")
    made = tf.data.Dataset.from_generator(feed.begin, output_signature=feed.spec)
    options = tf.data.Options()
    # Otherwise TensorFlow takes batches before they are needed; the loader itself computes ahead.
    options.experimental_optimization.inject_prefetch = False
    made = made.with_options(options)
    made.take_back = feed.take_back
    length = feed.epochs.length
    if length is not None:
        # TensorFlow's `assert_cardinality` would raise for an epoch that is resumed in its middle.
        made.cardinality = lambda: tf.constant(feed.count(length), tf.int64)
    return made


def to_ragged(ragged: Ragged[Any]) -> "RaggedTensor":
    """Return a ragged batch as a `tf.RaggedTensor`, without a copy of its values.

    Example:
        In a `tf.data.Dataset` of ragged batches::

            import numpy as np
            import mpqueue

            texts = [np.arange(3), np.arange(5)]
            with mpqueue.Loader(texts, batch_size=2, collate="ragged", workers=1) as loader:
                (batch,) = mpqueue.tf.dataset(loader).map(mpqueue.tf.to_ragged)
            assert batch.to_list() == [[0, 1, 2], [0, 1, 2, 3, 4]]

    Args:
        ragged: A `mpqueue.Ragged` of tensors or arrays.

    Returns:
        A ragged tensor of shape (n, None, ...).

    Raises:
        ImportError: TensorFlow is not installed; the message names the extra.
    """
    tf = import_extra("tensorflow", _NEEDS)
    return tf.RaggedTensor.from_row_splits(*ragged, validate=False)


class _Feed:
    """Begins the epochs of a loader for `tf.data`. The first may turn out to have been a look.

    Keras counts the batches and never requests the end of an epoch. So an epoch is finished when the next one begins,
    unless the source's ``on_epoch_end`` has run by then, 0.1 s after the last batch.

    Args:
        epochs: The epochs of the loader.

    Attributes:
        spec: The type of a batch.
    """

    def __init__(self, epochs: LoaderEpochs) -> None:
        self.epochs, self.spec = epochs, None
        self._latest: LoaderEpoch | None = None
        self._is_counted = False  # the reader counts the batches, and does not request the end
        self._is_notified = False  # Keras reports its looks
        self._may_look = True  # no iteration yet, or only iterations of Keras
        self._is_first = True
        self._is_reset = False  # Keras has reset its data, and requests the length again
        self._lock = RLock()

    def count(self, length: int) -> int:
        """Return the length to a reader that then counts the batches."""
        if not self._is_counted and self._latest is None:
            self._is_counted = True
            if "keras" in sys.modules:
                with contextlib.suppress(ImportError):  # this version of Keras cannot report its looks
                    keras_resets.tell(self)
                    self._is_notified = True
        self._may_look = not self._is_reset and (self._may_look or self._is_notified)
        self._is_reset = False
        return length

    def take_back(self) -> None:
        """Undo the latest iteration, which was a look: Keras has reset its data. The next iteration is an epoch."""
        with self._lock:
            if self._latest is not None and not self._may_look:  # it was started since the last `count`
                self.epochs.take_back(self._latest)
            self._is_reset, self._may_look = True, False

    def begin(self) -> Iterator[Any]:
        """Begin an iteration."""
        with self._lock:
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
        """Return True if more batches were taken than a look takes."""
        return epoch.kept is None or epoch.num_taken > (_MOST_LOOKED if self._is_counted else 1)

    def next(self, epoch: LoaderEpoch) -> Any:
        """Return the next batch of an epoch."""
        if self._is_notified and self._is_read(epoch) and not self._is_in_earnest(epoch):
            raise StopIteration  # Keras reads ahead; this may be a look, which must not end the loader's epoch
        return epoch.next(partial(_like, self.spec))


class _Elements(Iterator[Any]):
    """One iteration. It is not a generator, which would end at the first error."""

    def __init__(self, feed: _Feed, epoch: LoaderEpoch) -> None:
        self._feed, self._epoch = feed, epoch

    def __next__(self) -> Any:
        return self._feed.next(self._epoch)


def _spec_of(tf: Any, value: Any, name: str) -> Any:
    """Return the `tf.data` type of a batch or of a part of it."""
    if value is None:
        return tf.NoneTensorSpec()
    if isinstance(value, dict):
        return {key: _spec_of(tf, part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, tuple) or (isinstance(value, list) and not _is_column(value)):
        parts = [_spec_of(tf, part, f"{name}[{index}]") for index, part in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
        raise TypeError(
            f"{name} is {kind}, which TensorFlow cannot convert to a tensor: "
            "leave it out of the batch, or convert it to numbers or strings"
        ) from error
    shape = tensor.shape
    return tf.TensorSpec(shape if not shape.rank else [None, *shape[1:]], tensor.dtype)


def _is_column(value: list[Any]) -> bool:
    """Return True for a list of strings or numbers, with one item for each row of the batch."""
    return bool(value) and all(isinstance(item, str | bytes | bool | int | float | complex) for item in value)


def _like(spec: Any, batch: Any) -> Any:
    """Return a batch in the structure of its type: TensorFlow does not accept a list in place of a tuple."""
    if isinstance(spec, dict) and isinstance(batch, dict) and spec.keys() == batch.keys():
        return {key: _like(part, batch[key]) for key, part in spec.items()}
    if isinstance(spec, tuple) and isinstance(batch, tuple | list) and len(spec) == len(batch):
        parts = [_like(*pair) for pair in zip(spec, batch, strict=True)]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch
