"""Validation of samples that are sequences, and construction of rows from pieces of them.

A row is a dict: the fields, `SEGMENT_IDS`, `POSITIONS`, and the fields that describe whole samples, with one value for
each piece. It depends only on its pieces, so it can be built again from their samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.dataset.transformations.pack.bin_packing import Piece
from mpqueue.memory.layout import Array
from mpqueue.samples.leaves import LeafPath, array_of, is_masked, is_number_list, is_stackable, no_sample
from mpqueue.samples.ragged import Ragged, SegmentObjects, merge_ragged

TOKENS = "tokens"
SEGMENT_IDS, POSITIONS = "segment_ids", "positions"
_REMEDY = (
    "pack takes an array or a list of numbers per sample, or a dict of these with equal lengths: make such "
    "samples with a map before pack"
)


class SequenceReader:
    """Splits samples into arrays of one length, and joins pieces of them to rows.

    Args:
        length: The length of a row.
        whole: The names of the fields that describe a sample as a whole.

    Attributes:
        shapes: The name, and the shape after the first axis, of each field of the first sample; None before that.
    """

    def __init__(self, length: int, whole: Sequence[Any] = ()) -> None:
        self._length, self._whole = length, whole
        self._inner: dict[Any, Any] = {}  # the shape after the first axis of whole fields; None: no array
        self._dtypes: dict[Any, Any] = {}
        self._count = np.arange(length + 1, dtype=np.int32)
        self.shapes: list[tuple[Any, tuple[int, ...]]] | None = None

    def read(self, sample: Any) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
        """Return the fields of a sample, in the order of the first sample's fields, and the fields that describe it.

        Raises:
            TypeError: The sample or one of its fields is not a sequence.
            ValueError: The fields have different lengths, or differ from the first sample's fields.
        """
        whole: tuple[Any, ...] = ()
        if self._whole:
            whole = self._read_whole(sample)
            sample = {name: value for name, value in sample.items() if name not in self._whole}
        if isinstance(sample, Mapping):
            fields = {name: _as_array(value, f"field {name!r} of a sample") for name, value in sample.items()}
            self._check_names(fields)
        else:
            fields = {TOKENS: _as_array(sample, "a sample")}
        shapes = self.shapes
        if shapes is None:
            shapes = self.shapes = [(name, field.shape[1:]) for name, field in fields.items()]
        if len(fields) != len(shapes) or any(
            name not in fields or fields[name].shape[1:] != shape for name, shape in shapes
        ):
            actual = [(name, field.shape[1:]) for name, field in fields.items()]
            raise ValueError(f"pack: expected samples like the first one ({_listed(shapes)}), got {_listed(actual)}")
        return tuple([fields[name] for name, _ in shapes]), whole

    def _read_whole(self, sample: Any) -> tuple[Any, ...]:
        values = []
        for name in self._whole:
            value = sample.get(name) if isinstance(sample, Mapping) else None
            if value is None:
                has = f"has the fields {list(sample)}" if isinstance(sample, Mapping) else f"is {_kind(sample)}"
                raise TypeError(
                    f"pack(whole=...) got a sample without {name!r}, or with None in it; it {has}. For a document "
                    "without this field, use an array of length 0, or an empty string"
                )
            _check_unmasked(value, f"field {name!r} of a sample")
            if is_stackable(value) or is_number_list(value):
                array = np.atleast_1d(array_of(value))
                value = value if array.dtype.kind in "OSU" else array
            self._check_form(name, value if isinstance(value, np.ndarray) else None)
            values.append(value)
        return tuple(values)

    def _check_form(self, name: Any, array: Array | None) -> None:
        """Raise a `ValueError` if a whole field differs from earlier ones; an empty list has no dtype."""
        form = None if array is None else array.shape[1:], array.dtype if array is not None and array.size else None
        first = self._inner.setdefault(name, form[0]), self._dtypes.get(name)
        if form[0] != first[0] or (form[1] is not None and form[1] != self._dtypes.setdefault(name, form[1])):
            raise ValueError(
                f"pack: expected {name!r} like in the samples before, with the inner shape and the dtype "
                f"{_form_text(*first)}, got {_form_text(*form)}"
            )

    @staticmethod
    def _check_names(fields: dict[Any, Array]) -> None:
        if not fields:
            raise ValueError(f"pack got a dict without fields. {_REMEDY}")
        for name in (SEGMENT_IDS, POSITIONS):
            if name in fields:
                raise ValueError(
                    f"pack got a sample with the field {name!r}, which is reserved for a field that pack adds to each "
                    "row: rename the field with a map before pack"
                )
        if len({len(field) for field in fields.values()}) > 1:
            lengths = ", ".join(f"{name!r}: {len(field)}" for name, field in fields.items())
            raise ValueError(f"pack got a sample with fields of different lengths: {lengths}. {_REMEDY}")

    def row(self, pieces: Sequence[Piece]) -> dict[Any, Any]:
        """Join pieces to a row."""
        assert self.shapes is not None
        length, sizes = self._length, [piece.stop - piece.start for piece in pieces]
        used = sum(sizes)
        row: dict[Any, Any] = {}
        for (name, shape), *parts in zip(self.shapes, *[piece.fields for piece in pieces], strict=True):
            dtypes = {part.dtype for part in parts}
            out = np.empty((length, *shape), dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes))
            np.concatenate(parts, out=out[:used])
            out[used:] = 0
            row[name] = out
        row[SEGMENT_IDS] = segment_ids = np.zeros(length, np.int32)
        row[POSITIONS] = positions = np.zeros(length, np.int32)
        segment_ids[:used] = np.repeat(self._count[1 : len(sizes) + 1], sizes)
        np.concatenate([self._count[:size] for size in sizes], out=positions[:used])
        for index, name in enumerate(self._whole):
            parts = [piece.whole[index] for piece in pieces]
            if isinstance(parts[0], np.ndarray):
                leaf = LeafPath([piece.token for piece in pieces], no_sample, path=(f"[{name!r}]",))
                row[name] = Ragged(*merge_ragged(parts, np.empty, leaf))
            else:
                row[name] = SegmentObjects(parts)
        return row


def _form_text(inner: Any, dtype: Any) -> str:
    return "of no array" if inner is None else f"{inner} and {dtype}"


def _check_unmasked(value: Any, name: str) -> None:
    if is_masked(value):
        raise TypeError(f"{name} is masked, and rows have no masks: call filled() in the source")


def _as_array(value: Any, name: str) -> Array:
    _check_unmasked(value, name)
    if isinstance(value, str | bytes | bytearray | tuple | set | Mapping) or not hasattr(value, "__len__"):
        raise TypeError(f"{name} is {_kind(value)}, which is not a sequence of numbers. {_REMEDY}{_hint(value)}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is {_kind(value)} that cannot be converted to an array: {error}. {_REMEDY}"
        ) from error
    if array.ndim == 0 or array.dtype.kind in "OSU":
        raise TypeError(
            f"{name} is {_kind(value)} of dtype {array.dtype}, which is not a sequence of numbers. {_REMEDY}"
        )
    return array


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _hint(value: Any) -> str:
    if isinstance(value, str):
        return " that converts text to token numbers"
    if isinstance(value, bytes | bytearray):
        return ", for example with np.frombuffer(sample, np.uint8)"
    if isinstance(value, tuple):
        return " that names each part of the tuple"
    return ""


def _listed(shapes: list[tuple[Any, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name!r} of shape {('n', *shape)}".replace("'n'", "n") for name, shape in shapes)
