"""`Sequence`: a dataset of batches, as in Keras 2."""

from collections.abc import Iterator
from typing import Any


class _AttributeDefault:
    """A class attribute with a default: the value of a later base class, such as Keras's, takes precedence.

    Args:
        value: The default.
    """

    def __init__(self, value: int) -> None:
        self._value = value

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, sequence: Any, kind: type) -> Any:
        if sequence is None:
            return self._value
        return getattr(super(self.owner, sequence), self.name, self._value)  # a subclass may be a PyDataset as well


class Sequence:
    """Base class of datasets that return complete batches by index.

    A subclass implements `__getitem__` and `__len__`, and may implement `on_epoch_end`. Each batch is computed exactly
    once per epoch, with any number of workers. The base class is optional: any object with these two methods can be a
    source. It adds the arguments of Keras 3's `PyDataset`, which are also attributes.

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
        workers: Number of workers for an enqueuer or `mpqueue.keras.accelerate` that gets no other number. If it is
            not passed, the attribute is 1 and has no effect.
        use_multiprocessing: Use worker processes instead of threads, unless the enqueuer gets another value. If it is
            not passed, the attribute is False.
        max_queue_size: Number of batches computed ahead, unless the enqueuer gets another number. If it is not passed,
            the attribute is 10.

    Follows: ``tf.keras.utils.Sequence``, and Keras 3's ``PyDataset``.
    """

    # Set only if they are passed: `mpqueue.frameworks.enqueuers.forms.own_of` distinguishes them from the defaults.
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
            NotImplementedError: The subclass does not implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __getitem__(index), returning a batch")

    def __len__(self) -> int:
        """Return the number of batches in one epoch.

        Raises:
            NotImplementedError: The subclass does not implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __len__(), returning the number of batches")

    def on_epoch_end(self) -> None:
        """Run at the end of every epoch, once, in the process that trains."""

    def __iter__(self) -> Iterator[Any]:
        """Yield all batches of one epoch in order, including None. `on_epoch_end` is not called."""
        for index in range(len(self)):
            yield self[index]
