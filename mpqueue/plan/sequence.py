"""`Sequence`: a dataset by batches, as Keras 2 had it."""

from collections.abc import Iterator
from typing import Any


class _AttributeDefault:
    """A class attribute that says what a `Sequence` says of itself until it is told; another base class says it first.

    Args:
        value: What is said.
    """

    def __init__(self, value: int) -> None:
        self._value = value

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, sequence: Any, kind: type) -> Any:
        if sequence is None:
            return self._value
        return getattr(super(self.owner, sequence), self.name, self._value)  # Keras's, of one that is a PyDataset, too


class Sequence:
    """Base class of datasets that give complete batches by their index.

    A subclass implements `__getitem__` and `__len__`, and may implement `on_epoch_end`. It is a safer way to use many
    workers than a generator: each batch is computed exactly once per epoch. Anything with these two methods serves as
    well; the base class brings the arguments of Keras 3's `PyDataset`, and they are attributes, too.

    Example:
        A dataset of ten batches::

            import numpy as np
            import mpqueue

            class Squares(mpqueue.Sequence):
                def __len__(self):
                    return 10

                def __getitem__(self, index):
                    numbers = np.arange(32) + 32 * index
                    return numbers, numbers**2

            assert [len(x) for x, y in Squares()] == [32] * 10

    Args:
        workers: How many, for an enqueuer or `mpqueue.keras.accelerate` that gets no other number. The attribute is 1
            where none was given, which binds nobody; so it is where a subclass never calls this constructor.
        use_multiprocessing: Worker processes instead of threads, for one that gets neither. The attribute is False
            where it was not given.
        max_queue_size: Batches computed ahead, for one that gets no other number. The attribute is 10 where none was
            given.

    Follows: ``tf.keras.utils.Sequence``, and Keras 3's ``PyDataset``.
    """

    # Set only where they are given, so that `mpqueue.frameworks.enqueuers.forms.own_of` knows.
    workers: Any = _AttributeDefault(1)
    use_multiprocessing: Any = _AttributeDefault(False)
    max_queue_size: Any = _AttributeDefault(10)

    def __init__(
        self, workers: int | None = None, use_multiprocessing: bool | None = None, max_queue_size: int | None = None
    ) -> None:
        super().__init__()
        if workers is not None:
            self.workers = workers
        if use_multiprocessing is not None:
            self.use_multiprocessing = use_multiprocessing
        if max_queue_size is not None:
            self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Return the batch at position ``index``, from 0 to ``len(self) - 1``.

        Raises:
            NotImplementedError: The subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __getitem__(index), giving a complete batch")

    def __len__(self) -> int:
        """Return the number of batches in one epoch.

        Raises:
            NotImplementedError: The subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __len__(), giving the number of batches")

    def on_epoch_end(self) -> None:
        """Called once at the end of every epoch, in the process that trains."""

    def __iter__(self) -> Iterator[Any]:
        """Yield all batches of one epoch, in order, ``None`` included; `on_epoch_end` is not called."""
        for index in range(len(self)):
            yield self[index]
