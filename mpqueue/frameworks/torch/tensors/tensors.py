"""Tensors as arrays of a batch, and back.

    worker: tensor --> NumPy array of its memory, and a `TensorForm` --> slot
    trainer: array over the slot --> `torch.from_numpy` --> the form's view of it

A tensor of a batch is sent like an array: its bytes are copied to the slot once, or are there already, and the
trainer's tensor is a view of the slot. Its storage holds the array, and the array holds the lease: the slot is kept
while any tensor with that storage exists. The form contains the properties that NumPy lacks: a dtype (bfloat16, float8;
the bytes are sent as integers of that size), the order of the axes (channels last), ``requires_grad``. It is part of
the batch's spec, and so is sent once.

A CSR tensor is sent as its three tensors. All other objects with tensors are sent in a pickle, as a `Carried`: objects
of other classes, subclasses of `Tensor`, other sparse, quantised and CUDA tensors. Plain tensors inside them are
out-of-band buffers of the pickle, and become views of the slot. The bytes of the others are in the pickle, which costs
some copies. A CUDA tensor is copied through host memory.

A tensor that is the result of differentiable operations is rejected, as torch does between processes.
"""

import functools
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpqueue.memory.layout import Array, Recorded
from mpqueue.memory.serialize import is_in_parent, reply_pickler

_REFUSAL = (
    "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support crossing "
    "process boundaries.  If you just want to transfer the data, call detach() on the tensor before it is returned "
    "from the dataset or from collate_fn."
)
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NUMPY = {
    torch.bool: np.bool_, torch.uint8: np.uint8, torch.int8: np.int8, torch.int16: np.int16, torch.int32: np.int32,
    torch.int64: np.int64, torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64,
    torch.complex64: np.complex64, torch.complex128: np.complex128, torch.uint16: np.uint16,
    torch.uint32: np.uint32, torch.uint64: np.uint64,
}  # fmt: skip
ARRAY_DTYPES = frozenset(map(np.dtype, _NUMPY.values()))
_LEAVES = frozenset({bytes, str, int, float, complex, bool, type(None)})
_Tensor = torch.Tensor
FindArray = Callable[[int], Array | None]


@dataclass(frozen=True, slots=True, eq=False)  # equal forms are one object, see `form_of`
class TensorForm:
    """The properties for making a tensor from an array.

    Attributes:
        dtype: The tensor's dtype, if NumPy lacks it.
        axes: The order of the array's axes in the tensor, if it differs.
        requires_grad: The tensor's ``requires_grad``.
    """

    dtype: torch.dtype | None
    axes: tuple[int, ...] | None
    requires_grad: bool

    def __reduce__(self) -> Any:
        return form_of, (self.dtype, self.axes, self.requires_grad)

    def _make(self, fields: list[Array]) -> torch.Tensor:
        """Make the tensor. `Recorded` calls this method by the name that named tuples use."""
        tensor = torch.from_numpy(fields[0])
        if self.dtype is not None:
            tensor = tensor.view(self.dtype)
        if self.axes is not None:
            tensor = tensor.permute(self.axes)
        return tensor.requires_grad_() if self.requires_grad else tensor


@functools.cache
def form_of(dtype: torch.dtype | None, axes: tuple[int, ...] | None, requires_grad: bool) -> TensorForm:
    """Return the form with these properties; equal forms are one object."""
    return TensorForm(dtype, axes, requires_grad)


_PLAIN = form_of(None, None, False)


@dataclass(frozen=True, slots=True)
class CsrForm:
    """The property for making a CSR tensor from its three tensors: the number of columns."""

    columns: int

    def _make(self, fields: list[torch.Tensor]) -> torch.Tensor:
        """Make the tensor; see `TensorForm`."""
        return torch.sparse_csr_tensor(*fields, size=(len(fields[0]) - 1, self.columns), check_invariants=False)


def numpy_dtype(dtype: torch.dtype) -> Any:
    """Return the NumPy dtype for sending a tensor of this dtype; None: it cannot be sent as an array."""
    found = _NUMPY.get(dtype)
    if found is None and not dtype.is_complex and dtype.itemsize in _INTEGERS and dtype not in _QUANTISED:
        found = _NUMPY[_INTEGERS[dtype.itemsize]]
    return found


_QUANTISED = {torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4}


def travels(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is sent as an array: a dense tensor in host memory, not of a subclass."""
    return (
        type(tensor) is _Tensor
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and numpy_dtype(tensor.dtype) is not None
    )


def is_csr(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is sent as the three arrays of a CSR matrix."""
    return (
        tensor.layout is torch.sparse_csr
        and tensor.dim() == 2
        and tensor.values().dim() == 1
        and not tensor.requires_grad
        and travels(tensor.values())
    )


def encode(batch: Any, find: FindArray) -> Any:
    """Return a batch in the form for a slot: its tensors become arrays with their forms.

    Args:
        batch: The result of ``collate_fn``.
        find: Returns the array of the slot that begins at an address.

    Raises:
        RuntimeError: A tensor is the result of differentiable operations.
    """
    # Compare the class itself: an object of a subclass may contain more than its items, and is pickled.
    kind = type(batch)
    if kind is _Tensor:
        if is_csr(batch):
            parts = (batch.crow_indices(), batch.col_indices(), batch.values())
            return Recorded(CsrForm(batch.shape[1]), None, [encode(part, find) for part in parts])
        if not travels(batch):
            return Carried(batch)
        array, form = as_array(batch, find)
        return Recorded(form, None, (array,))
    if kind is dict:
        return {key: encode(value, find) for key, value in batch.items()}
    if kind is list:
        return [encode(item, find) for item in batch]
    if kind is tuple:
        return tuple([encode(item, find) for item in batch])
    if kind in _LEAVES or (kind is np.ndarray and not batch.dtype.hasobject):
        return batch
    # The trainer makes a named tuple by the name of its class. If it cannot import the class, pickle by value.
    if isinstance(batch, tuple) and hasattr(kind, "_fields") and _is_importable(kind):
        return Recorded(kind, None, [encode(item, find) for item in batch])
    return Carried(batch)


def _is_importable(kind: type) -> bool:
    """Return whether the trainer can import this class by its name; other classes are pickled by value."""
    return (kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__) or is_in_parent(kind)


def as_array(tensor: torch.Tensor, find: FindArray) -> tuple[Array, TensorForm]:
    """Return a tensor's memory as an array, and the form for making the tensor again.

    Raises:
        RuntimeError: The tensor is the result of differentiable operations.
    """
    requires_grad, axes = tensor.requires_grad, None
    if requires_grad:
        if not tensor.is_leaf:
            raise RuntimeError(_REFUSAL)
        tensor = tensor.detach()
    # Conjugation and negation are flags of a tensor, which its bytes do not contain.
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if not tensor.is_contiguous():
        tensor, axes = _in_memory_order(tensor)
    dtype = None
    if tensor.dtype not in _NUMPY:
        dtype, tensor = tensor.dtype, tensor.view(_INTEGERS[tensor.dtype.itemsize])
    array = find(tensor.data_ptr())
    # Use the slot's array only if it is the whole tensor. A part or another view is copied like other arrays.
    if (
        array is None
        or array.nbytes != tensor.nbytes
        or not tensor.is_contiguous()
        or array.dtype != _NUMPY[tensor.dtype]
    ):
        array = tensor.numpy()
    elif array.shape != tensor.shape:
        array = array.reshape(tensor.shape)
    if dtype is None and axes is None and not requires_grad:
        return array, _PLAIN
    return array, form_of(dtype, axes, requires_grad)


def _in_memory_order(tensor: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...] | None]:
    """Return the tensor with its axes in memory order, and the permutation back; or unchanged if it has gaps."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
    permuted = tensor.permute(order)
    if not permuted.is_contiguous():
        return tensor, None  # the slot gets a packed copy
    return permuted, tuple(sorted(range(tensor.dim()), key=order.__getitem__))


class Carried:
    """An object of a batch that is sent in a pickle; the trainer gets the object itself.

    Args:
        value: The object.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        buffers: list[pickle.PickleBuffer] = []
        with io.BytesIO() as file:
            _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(self._value)
            return _load, (file.getvalue(), *buffers)


class _Pickler(reply_pickler()):  # type: ignore[misc]  # cloudpickle has no types
    """The pickler of replies, with the bytes of plain tensors as out-of-band buffers."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Tensor) and obj.requires_grad and not obj.is_leaf:
            raise RuntimeError(_REFUSAL)
        if type(obj) is _Tensor and travels(obj):
            array, form = as_array(obj, lambda _: None)
            return _rebuild, (form, np.ascontiguousarray(array), array.shape)
        return super().reducer_override(obj)


def _load(data: bytes, *buffers: Any) -> Any:
    return pickle.loads(data, buffers=buffers)


def _rebuild(form: TensorForm, array: Array, shape: tuple[int, ...]) -> torch.Tensor:
    array = array.reshape(shape)
    # torch warns about tensors with read-only memory.
    return form._make([array if array.flags.writeable else array.copy()])
