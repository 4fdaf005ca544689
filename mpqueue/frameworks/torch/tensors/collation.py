"""torch's own collation, with the stacked tensors in the granted slot, and without a tensor for each sample.

``default_collate`` looks up the functions for tensors, arrays and numbers in ``default_collate_fn_map``. In a worker,
torch's function for tensors allocates a file of shared memory for torch's own transport. Its function for arrays makes
a tensor of each array (some microseconds), and its functions for numbers inspect each number. In the worker process,
this module replaces them by functions with the same results: they stack all samples by one call into an array of the
slot, so that every byte is copied once. They also apply to custom functions that call ``default_collate``. A function
that the user has registered is not replaced.

Other values (mixed shapes or dtypes, gaps in memory, subclasses, huge integers) are passed to torch's own functions,
with their errors and conversions.

The arrays are identified by their address, so that `mpqueue.frameworks.torch.tensors.tensors` finds them under the
tensors of the batch.
"""

import itertools
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils import collate

from mpqueue.frameworks.torch.tensors.ragged import RaggedCollate
from mpqueue.frameworks.torch.tensors.tensors import ARRAY_DTYPES, numpy_dtype, travels
from mpqueue.memory.layout import Array
from mpqueue.system.signals.exceptions import add_note
from mpqueue.system.user_code.object_walk import name_of
from mpqueue.worker import context

_INTEGERS = (np.dtype(np.int64), np.dtype(np.bool_))
_FLOATS = (np.dtype(np.float64),)
# In the errors of torch's function for tensors of different shapes, and for sparse ones.
_UNEQUAL = "equal size", "sparse"
_REMEDY = (
    'collate_fn="ragged" of mpqueue.torch.DataLoader joins tensors of different lengths to a mpqueue.Ragged, and '
    "sparse rows to a CSR tensor"
)
_DEEPEST = 20  # nested containers that are searched for None


def collated(
    collate_fn: Callable[[Any], Any], samples: Any, dataset: Any, indices: Any = None, cuts: Sequence[int] = ()
) -> Any:
    """Return ``collate_fn(samples)``. An error of torch's own function names the first sample that is, or has, None.

    Args:
        collate_fn: The function of the loader.
        samples: The samples of a batch.
        dataset: Their dataset.
        indices: Their indices, as the sampler returned them; None without indices.
        cuts: The number of samples of each micro-batch; empty: the batch is not a list of these.
    """
    if cuts:
        if len(samples) != len(indices):
            raise ValueError(
                f"with max_cost, a step has {len(indices)} samples in micro-batches, and __getitems__ of "
                f"{name_of(dataset)} returned {len(samples)}: return one for each index"
            )
        ends = list(itertools.accumulate(cuts))
        ranges = [slice(end - count, end) for end, count in zip(ends, cuts, strict=True)]
        return [collated(collate_fn, samples[each], dataset, indices[each]) for each in ranges]
    try:
        if type(collate_fn) is RaggedCollate and isinstance(indices, Collection) and len(indices) == len(samples):
            return collate_fn.of(samples, [*indices])
        return collate_fn(samples)
    except (TypeError, RuntimeError) as error:
        # Not for a user's function, which may accept None.
        is_own = collate_fn is collate.default_collate or type(collate_fn) is RaggedCollate
        if is_own and any(words in str(error) for words in _UNEQUAL):
            add_note(error, _REMEDY)
        if is_own and type(samples) is list:
            found = ((index, _path_to_none(sample, _DEEPEST)) for index, sample in enumerate(samples))
            index, path = next(((index, path) for index, path in found if path is not None), (None, ""))
            if index is not None:
                # An iterator of indices is used up, and `__getitems__` may return another number of samples.
                keys = [*indices] if isinstance(indices, Collection) else []
                is_known = len(keys) == len(samples)
                where = f"the sample of index {keys[index]!r}" if is_known else f"element {index} of a batch"
                add_note(error, _none_text(f"{where} of {name_of(dataset)}", path or ""))
        raise


def _none_text(name: str, path: str) -> str:
    if path:
        return f"{name} has None at sample{path}: torch cannot collate it. Use another value, or a collate_fn"
    return (
        f"{name} is None: did the code of the dataset forget to return? To skip samples, use "
        "mpqueue.Dataset(source).filter(function), or a collate_fn that leaves out None"
    )


def _path_to_none(value: Any, depth: int) -> str | None:
    """Return the indices that lead to the first None in nested dicts, lists and tuples; None if no value is None."""
    if value is None:
        return ""
    if depth == 0 or not isinstance(value, dict | list | tuple):
        return None
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        path = _path_to_none(each, depth - 1)
        if path is not None:
            return f"[{key!r}]{path}"
    return None


class SlotCollation:
    """Stacks tensors, arrays and numbers, batch after batch."""

    def __init__(self) -> None:
        self._arrays: dict[int, Array] = {}
        self._replaced: dict[Any, Callable[..., Any]] = {}

    def install(self) -> None:
        """Replace torch's collation functions in this process."""
        table: dict[Any, Any] = collate.default_collate_fn_map
        ours: dict[Any, tuple[str, Callable[..., Any]]] = {
            torch.Tensor: ("collate_tensor_fn", self.stack_tensors),
            np.ndarray: ("collate_numpy_array_fn", self.stack_arrays),
            int: ("collate_int_fn", partial(self.join_numbers, int, _INTEGERS)),
            float: ("collate_float_fn", partial(self.join_numbers, float, _FLOATS)),
        }
        for kind, (name, function) in ours.items():
            # Only torch's own functions: a user's function may handle classes that ours do not know.
            if kind in table and table[kind] is getattr(collate, name, None):
                self._replaced[kind], table[kind] = table[kind], function
        RaggedCollate.empty = self.make

    def stack_tensors(self, tensors: Sequence[torch.Tensor], *, collate_fn_map: Any = None) -> torch.Tensor:
        """Stack tensors.

        Raises:
            RuntimeError: The shapes differ.
        """
        first = tensors[0]
        if not travels(first) or first.requires_grad:
            return self._replaced[torch.Tensor](tensors, collate_fn_map=collate_fn_map)
        out = torch.from_numpy(self._make((len(tensors), *first.shape), numpy_dtype(first.dtype)))
        if out.dtype != first.dtype:
            out = out.view(first.dtype)
        # Stack directly into the slot, so that every byte is copied once.
        return torch.stack(list(tensors), 0, out=out)

    def stack_arrays(self, arrays: Sequence[Array], *, collate_fn_map: Any = None) -> Any:
        """Stack arrays, as a tensor."""
        first = arrays[0]
        if not _are_alike(arrays) or first.dtype not in ARRAY_DTYPES or not first.shape:
            return self._replaced[np.ndarray](arrays, collate_fn_map=collate_fn_map)
        out = self._make((len(arrays), *first.shape), first.dtype)
        # np.stack takes 4 times as long.
        np.concatenate(arrays, out=out.reshape(len(arrays) * first.shape[0], *first.shape[1:]))
        return torch.from_numpy(out)

    def join_numbers(
        self, kind: type, dtypes: tuple[np.dtype[Any], ...], numbers: Sequence[Any], *, collate_fn_map: Any = None
    ) -> Any:
        """Make a tensor of numbers, beginning with one of this class, if NumPy converts them to one of the dtypes."""
        try:
            array = np.array(numbers)
        except Exception:  # torch's own function raises an appropriate error
            return self._replaced[kind](numbers, collate_fn_map=collate_fn_map)
        if array.dtype not in dtypes or array.ndim != 1:  # torch may convert differently
            return self._replaced[kind](numbers, collate_fn_map=collate_fn_map)
        return torch.from_numpy(array)

    def _make(self, shape: tuple[int, ...], dtype: Any) -> Array:
        array = context.empty(shape, dtype)
        # By address: a tensor made of the array has no other reference to it that survives collate_fn.
        self._arrays[array.__array_interface__["data"][0]] = array
        return array

    def make(self, shape: Any, dtype: Any) -> Array:
        """Return an array in the slot; one without elements has no address there, and is not in it."""
        return self._make(shape, dtype) if np.prod(shape) else np.empty(shape, dtype)

    def find(self, address: int) -> Array | None:
        """Return the array that begins at an address, if this batch has one there."""
        return self._arrays.get(address)

    def forget(self) -> None:
        """Forget the arrays after a batch. An array that is still referenced holds its slot."""
        self._arrays.clear()


def _are_alike(arrays: Sequence[Any]) -> bool:
    first = arrays[0]
    kind, shape, dtype = np.ndarray, first.shape, first.dtype
    return all(
        type(array) is kind and array.shape == shape and array.dtype == dtype and array.flags.c_contiguous
        for array in arrays
    )
