"""The features to read of an Example: the classes that users make, and their checked form."""

import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.examples.arguments import as_bytes, dtype_name
from mpqueue.examples.protobuf_wire import BYTES_LIST, FLOAT_LIST, INT64_LIST
from mpqueue.values.conversion import to_array
from mpqueue.values.dtypes import STRING, as_dtype
from mpqueue.values.shapes import as_shape


class VarLenFeature(NamedTuple):
    """A feature with any number of values, which becomes a sparse array.

    Args:
        dtype: float32, int64 or string.

    Follows: ``tf.VarLenFeature``.
    """

    dtype: Any


class FixedLenFeature(NamedTuple):
    """A feature with a fixed number of values, which becomes an array.

    Args:
        shape: Of one Example, fully known.
        dtype: float32, int64 or string.
        default_value: The values of an Example without the feature; None: the feature is required.

    Follows: ``tf.FixedLenFeature``. As in TensorFlow 2.21, and unlike its old documentation, a feature with an empty
    list is not missing: it has 0 values, which is the wrong number.
    """

    shape: Any
    dtype: Any
    default_value: Any = None


class FixedLenSequenceFeature(NamedTuple):
    """A feature that is a list of items of one shape, which becomes an array padded to the longest list of a batch.

    Args:
        shape: Of one item, fully known.
        dtype: float32, int64 or string.
        allow_missing: Must be True for Examples; an Example without the feature has a list of no items. In a
            SequenceExample, False makes a missing list an error.
        default_value: The value to pad with; None: 0 or the empty string.

    Follows: ``tf.FixedLenSequenceFeature``.
    """

    shape: Any
    dtype: Any
    allow_missing: bool = False
    default_value: Any = None


_CLASSES = {kind.__name__: kind for kind in (VarLenFeature, FixedLenFeature, FixedLenSequenceFeature)}


def as_feature(feature: Any) -> Any:
    """Return a feature of this module in place of TensorFlow's of the same name; anything else as it is.

    The result names its dtype by a string, so that a process that unpickles it does not import TensorFlow.
    """
    kind = _CLASSES.get(type(feature).__name__)
    if kind is None or type(feature) is kind or not hasattr(feature, "_asdict"):
        return feature
    fields = feature._asdict()
    return kind(**fields | {"dtype": None if fields["dtype"] is None else dtype_name(fields["dtype"])})


class FeatureKind(enum.Enum):
    """Kinds of features, by the array that they become."""

    FIXED, SEQUENCE, VARLEN = "fixed", "sequence", "varlen"


class Spec(NamedTuple):
    """A feature in its checked form.

    Args:
        name: Its key as the user gave it.
        key: The same as bytes.
        kind: Its kind.
        dtype: float32, int64 or string.
        tag: The byte with which a Feature of that dtype begins.
        shape: Of one Example, of one item, or () for VARLEN.
        size: Values in that shape.
        default: FIXED: flat, the values of a missing feature, None if it is required. SEQUENCE: the value to pad with.
        allow_missing: True if a list of a SequenceExample may be missing.
    """

    name: str | bytes
    key: bytes
    kind: FeatureKind
    dtype: str
    tag: int
    shape: tuple[int, ...]
    size: int
    default: NDArray[Any] | None
    allow_missing: bool

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Dtype of its array; byte strings are objects."""
        return np.dtype(object if self.dtype == STRING else self.dtype)


_TAGS = {STRING: BYTES_LIST, "float32": FLOAT_LIST, "int64": INT64_LIST}


def checked(features: Mapping[Any, Any] | None) -> tuple[Spec, ...]:
    """Return the features in checked form, in the order of their keys.

    Raises:
        ValueError: There are none, one is of no feature class, or its shape or default is wrong.
        TypeError: A dtype or a default of the wrong kind.
    """
    if not features:
        raise ValueError(
            f"features is {features!r}: give at least one, such as {{'label': FixedLenFeature([], 'int64')}}"
        )
    specs = [_spec(name, feature) for name, feature in features.items()]
    return tuple(sorted(specs, key=lambda spec: spec.key))


def _spec(name: Any, feature: Any) -> Spec:
    feature = as_feature(feature)
    if not isinstance(feature, VarLenFeature | FixedLenFeature | FixedLenSequenceFeature):
        raise ValueError(  # noqa: TRY004 - TensorFlow's class for it
            f"feature {name!r} is {feature!r}, and must be a VarLenFeature, FixedLenFeature or FixedLenSequenceFeature"
        )
    if feature.dtype is None:
        raise ValueError(f"feature {name!r} has no dtype: give float32, int64 or string")
    key = as_bytes(name, "a key of features")
    dtype = dtype_name(feature.dtype)
    if dtype not in _TAGS:
        raise TypeError(f"feature {name!r} has dtype {dtype}; Examples hold float32, int64 and string")
    if isinstance(feature, VarLenFeature):
        return Spec(name, key, FeatureKind.VARLEN, dtype, _TAGS[dtype], (), 1, None, True)
    shape = _known_shape(name, feature.shape)
    size = math.prod(shape)
    if isinstance(feature, FixedLenFeature):
        default = _default(name, feature.default_value, dtype, size)
        return Spec(name, key, FeatureKind.FIXED, dtype, _TAGS[dtype], shape, size, default, default is not None)
    if not size:
        raise ValueError(f"feature {name!r} has items of shape {list(shape)}, which hold no values to count them by")
    padding = _default(name, feature.default_value, dtype, 1)
    if padding is None:
        padding = np.array([b""], object) if dtype == STRING else np.zeros(1, dtype)
    return Spec(name, key, FeatureKind.SEQUENCE, dtype, _TAGS[dtype], shape, size, padding, bool(feature.allow_missing))


def _known_shape(name: Any, shape: Any) -> tuple[int, ...]:
    if shape is None:
        raise ValueError(f"feature {name!r} has no shape: give one, [] for a single value")
    try:
        sizes = as_shape(shape)
    except ValueError:  # a negative size
        sizes = None
    if sizes is None or None in sizes:
        raise ValueError(
            f"feature {name!r} has shape {shape}, which must be fully known: for lists of different lengths use a "
            "VarLenFeature or a FixedLenSequenceFeature"
        )
    return tuple(size for size in sizes if size is not None)


def _default(name: Any, value: Any, dtype: str, size: int) -> NDArray[Any] | None:
    """Convert a default to a flat array of ``size`` values of the dtype."""
    if value is None:
        return None
    try:
        flat = to_array(value, as_dtype(dtype), f"the default of feature {name!r}").flatten()
    except OverflowError as error:
        raise TypeError(str(error)) from None
    if flat.size != size:
        raise ValueError(f"feature {name!r} has a default of {flat.size} values and needs {size}: {value!r}")
    return flat if size else None  # a default of no values is none: as in TensorFlow, such a feature is required
