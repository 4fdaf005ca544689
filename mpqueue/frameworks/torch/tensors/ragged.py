"""``collate_fn="ragged"``: batches of tensors of different lengths and of sparse rows, without padding.

The fields that are not chosen are passed to torch's own ``default_collate``. The values and offsets of the others are
written into the slot once, as `mpqueue.samples` does for arrays.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import default_collate

from mpqueue.frameworks.torch.tensors.tensors import CsrForm, as_array, travels
from mpqueue.memory.layout import Array, Recorded
from mpqueue.plan.options.batching import Choice
from mpqueue.plan.options.checks import ragged_choice
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import NUMBERS, LeafPath, is_masked, masked_error
from mpqueue.samples.ragged import ONE_DTYPE, Ragged, merge_ragged
from mpqueue.samples.sparse import REMEDY, CsrRows, stack_rows

SPARSE = {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}

_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLAIN = (*NUMBERS, str, bytes, torch.Tensor)


class RaggedCollate:
    """The ``collate_fn`` of a loader with ``collate_fn="ragged"``.

    Args:
        choice: The fields that become `Ragged`, as in `mpqueue.plan.options.batching`.

    Attributes:
        empty: Creates arrays; in a worker, in the slot of the batch.
    """

    empty: ClassVar[Any] = staticmethod(np.empty)

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Return the batch of samples."""
        return self.of(samples, [_InBatch(index) for index in range(len(samples))])

    def of(self, samples: Sequence[Any], indices: Sequence[Any]) -> Any:
        """Return the batch of samples with these indices, which its errors name."""
        collation = _TensorCollation(len(samples), self.empty, ragged=self._choice)
        collation.add_all(samples)
        return collation.finish(indices)

    def __repr__(self) -> str:
        return f"<collate_fn={self._choice!r}>"


class _InBatch(int):
    """The index of a sample, where the loader does not know it: its index in the batch."""

    def __repr__(self) -> str:
        return f"{int(self)} of the batch"


def ragged_collate(loader: Any) -> RaggedCollate:
    """Return the function for the ``collate_fn`` of a loader, a choice of ragged fields.

    Raises:
        ValueError: It is another string, or the loader makes no batches.
    """
    ragged_choice("collate_fn", loader.collate_fn)
    if not loader._auto_collation:
        raise ValueError(f"collate_fn={loader.collate_fn!r} joins the samples of a batch: pass batch_size, too")
    return RaggedCollate(loader.collate_fn)


class _TensorCollation(Collation):
    def _merge(self, values: Sequence[Any], leaf: LeafPath) -> Any:
        if leaf.choice is None:
            return default_collate(list(values))
        if all(isinstance(value, torch.Tensor) and value.dim() for value in values):
            tensors = list(map(_as_plain, values))
            if any(tensor.layout in SPARSE for tensor in tensors):
                return self._rows_of(tensors, leaf)
            if all(map(travels, tensors)):
                return self._ragged_of(tensors, leaf)
            if leaf.choice is True:
                other = [travels(tensor) for tensor in tensors].index(False)
                raise ValueError(f"collate_fn chooses {leaf.name(other)}, which is no dense tensor in host memory")
            return default_collate(list(values))
        if leaf.choice is not True and all(
            isinstance(value, _PLAIN) and not getattr(value, "shape", ()) for value in values
        ):
            return default_collate(list(values))
        merged = super()._merge(values, leaf)
        if is_masked(merged):  # numbers; `super` refuses masked arrays with axes
            raise masked_error(values, leaf)
        if isinstance(merged, np.ndarray):
            return torch.from_numpy(merged)
        return list(merged) if type(merged) is tuple else merged  # as torch's own function

    def _ragged_of(self, tensors: Sequence[torch.Tensor], leaf: LeafPath) -> Ragged[torch.Tensor]:
        dtypes = [tensor.dtype if tensor.numel() else None for tensor in tensors]
        leaf.require_equal(dtypes, "has dtype {}".format, ONE_DTYPE)
        dtype = next(filter(None, dtypes), tensors[0].dtype)
        values, offsets = merge_ragged(list(map(_memory, tensors)), self._empty, leaf)
        return Ragged(torch.from_numpy(values).view(dtype), torch.from_numpy(offsets))

    def _rows_of(self, tensors: Sequence[torch.Tensor], leaf: LeafPath) -> torch.Tensor:
        """Return sparse rows as a CSR tensor."""
        leaf.require_equal(
            ["sparse" if tensor.layout in SPARSE else "dense" for tensor in tensors], "is {}".format, REMEDY
        )
        leaf.require_equal([tensor.dtype for tensor in tensors], "has dtype {}".format, REMEDY)
        for index, tensor in enumerate(tensors):
            if tensor.shape[:-1] not in ((), (1,)):
                raise ValueError(
                    f"{leaf.name(index)} has shape {tuple(tensor.shape)}, and a sparse sample is joined as one row, "
                    "of shape (n,) or (1, n): join other ones by a function, as collate_fn"
                )
        rows = [
            tensor.unsqueeze(0).to_sparse_csr() if tensor.dim() == 1 else tensor.to_sparse_csr() for tensor in tensors
        ]
        parts = [(_memory(row.col_indices()), _memory(row.values())) for row in rows]
        data, indices, indptr = map(
            torch.from_numpy, stack_rows(parts, [tensor.shape[-1] for tensor in tensors], self._empty, leaf)
        )
        return CsrForm(tensors[0].shape[-1])._make([indptr, indices, data.view(tensors[0].dtype)])

    def _built(self, record: Any) -> Any:
        kind = record.kind if isinstance(record, Recorded) else None
        if isinstance(kind, CsrRows):
            data, indices, indptr = map(torch.from_numpy, record.fields)
            return CsrForm(kind.columns)._make([indptr, indices, data])
        return Ragged(*map(torch.from_numpy, record.fields)) if kind is Ragged else super()._built(record)


def _as_plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a subclass, such as a `Parameter`, as one of torch's own class, if its memory is its own."""
    kind = type(tensor)
    if kind is torch.Tensor or kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return tensor
    return tensor.detach().as_subclass(torch.Tensor)


def _memory(tensor: torch.Tensor) -> Array:
    """Return the elements of a tensor as an array. Dtypes that NumPy lacks become integers."""
    return as_array((tensor.detach() if tensor.is_leaf else tensor).contiguous(), lambda _: None)[0]


def to_nested(ragged: Ragged[Any]) -> torch.Tensor:
    """Return a ragged batch as a nested tensor in torch's jagged layout, without a copy.

    Example:
        Two sequences of different lengths::

            import torch
            import mpqueue

            texts = [torch.arange(3), torch.arange(5)]
            loader = mpqueue.torch.DataLoader(texts, batch_size=2, collate_fn="ragged")
            (batch,) = loader
            assert [len(text) for text in mpqueue.torch.to_nested(batch).unbind()] == [3, 5]

    Args:
        ragged: A `mpqueue.Ragged` of tensors on one device, or of arrays.

    Returns:
        A nested tensor of shape (n, lengths, ...). It uses the memory of the batch.
    """
    values, offsets = map(torch.as_tensor, ragged)
    if torch.__version__ < "2.5":  # its function has no such argument
        return torch.nested.nested_tensor_from_jagged(values, offsets)
    # Without the length, `to_padded_tensor` pads each sample to the length of all samples together.
    return torch.nested.nested_tensor_from_jagged(values, offsets, max_seqlen=longest(offsets))


def to_padded(ragged: Ragged[Any], length: int | None = None, *, padding: float = 0) -> torch.Tensor:
    """Return a ragged batch as one tensor, with each sample padded at the end. It is made on the device of the batch.

    Args:
        ragged: A `mpqueue.Ragged` of tensors on one device, or of arrays.
        length: The length of the padded samples; longer ones are cut. If None, the length of the longest sample.
        padding: The value after the end of a sample.

    Returns:
        A tensor of shape (n, length, ...) in the dtype of the batch.
    """
    values, offsets = map(torch.as_tensor, ragged)
    dtype = values.dtype
    if dtype in _UNSIGNED or (dtype.is_floating_point and dtype.itemsize == 1):
        # Torch has no operations for them. Signed integers of the same size have.
        same = _SIGNED[dtype.itemsize]
        fill = torch.tensor(padding, dtype=dtype).view(same).item()
        return to_padded(Ragged(values.view(same), offsets), length, padding=fill).view(dtype)
    lengths = offsets.diff()
    if length is None:
        length = longest(offsets)
    shape = (len(lengths), length, *values.shape[1:])
    if not len(values):
        return values.new_full(shape, padding)
    # Without a question to the device, which would wait for its copies.
    positions = torch.arange(length, device=offsets.device)
    found = values[(offsets[:-1, None] + positions).clamp(max=len(values) - 1)]
    is_empty = positions >= lengths[:, None]
    return found.masked_fill_(is_empty.reshape(*shape[:2], *[1] * (values.dim() - 1)), padding)


def longest(offsets: torch.Tensor) -> int:
    """Return the length of the longest sample of a ragged batch; 0 without samples."""
    return int(offsets.diff().max()) if len(offsets) > 1 else 0
