"""Inputs of operations: arrays, and what is known of them before they are computed."""

from abc import abstractmethod

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype

Array = np.ndarray


class Known:
    """An input as rules of shapes see it: an array itself, or a node of a graph."""

    @property
    @abstractmethod
    def dtype(self) -> DType:
        """The type of its elements."""

    @property
    @abstractmethod
    def known_dims(self) -> Dims:
        """Its shape, as far as known."""

    @abstractmethod
    def known_entries(self) -> np.ndarray | None:
        """Its value; where only some entries are known, an object array of ints, with None for the others."""

    def known_value(self) -> np.ndarray | None:
        """Its value, if all of it follows from constants and known shapes."""
        entries = self.known_entries()
        if entries is None or entries.dtype != object or not self.dtype.is_integer:
            return entries
        if any(item is None for item in entries.reshape(-1).tolist()):
            return None
        return entries.astype(self.dtype.as_numpy_dtype)

    def known_as_shape(self) -> Dims:
        """Its value, if it is a vector that stands for a shape; entries that are unknown, or below 0, become None."""
        entries = self.known_entries()
        if entries is None:
            dims = self.known_dims
            return None if dims is None or len(dims) != 1 or dims[0] is None else (None,) * dims[0]
        flat = entries.reshape(-1).tolist()
        return tuple(None if item is None or item < 0 else int(item) for item in flat)


class Constant(Known):
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
