"""`Known` for what is there already, and the half of it that all kinds of inputs share."""

from abc import abstractmethod

import numpy as np

from mpqueue.compat.ops.dims import Dims
from mpqueue.compat.ops.dtypes import DType, as_dtype


class KnownInput:
    """The answers that follow from dtype, shape and entries: the rest of the `registry.Known` protocol."""

    @property
    @abstractmethod
    def dtype(self) -> DType:
        """The type of the elements."""

    @property
    @abstractmethod
    def known_dims(self) -> Dims:
        """The shape, as far as known."""

    @abstractmethod
    def known_entries(self) -> np.ndarray | None:
        """The value; an object array of ints and None where only some entries are known."""

    def known_value(self) -> np.ndarray | None:
        """The value, if all of it is known."""
        entries = self.known_entries()
        if entries is None or entries.dtype != object or not self.dtype.is_integer:
            return entries
        if any(item is None for item in entries.reshape(-1).tolist()):
            return None
        return entries.astype(self.dtype.as_numpy_dtype)

    def known_as_shape(self) -> Dims:
        """The value as a shape: None for unknown entries and those below 0."""
        entries = self.known_entries()
        if entries is None:
            dims = self.known_dims
            return None if dims is None or len(dims) != 1 or dims[0] is None else (None,) * dims[0]
        flat = entries.reshape(-1).tolist()
        return tuple(None if item is None or item < 0 else int(item) for item in flat)


class Constant(KnownInput):
    """An array as an input of which everything is known."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return as_dtype(self._array.dtype)

    @property
    def known_dims(self) -> Dims:
        """The array's shape."""
        return self._array.shape

    def known_entries(self) -> np.ndarray:
        """The array."""
        return self._array
