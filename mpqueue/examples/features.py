"""The features to read of an Example: the classes for users, and their validated form."""

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
    """A feature with any number of values, which becomes a sparse tensor.

    Args:
        dtype: float32, int64 or string.

    Follows: ``tf.VarLenFeature``.
    """

    dtype: Any


class FixedLenFeature(NamedTuple):
    """A feature with a fixed number of values, which becomes an array.

    Args:
        shape: The shape in one Example, fully known.
        dtype: float32, int64 or string.
        default_value: The values for an Example without the feature. If None, the feature is required.

    Follows: ``tf.FixedLenFeature``. As in TensorFlow 2.21, and unlike its old documentation, a feature with an empty
        list is not missing: it has 0 values, which is the wrong number.
    """

    shape: Any
    dtype: Any
    default_value: Any = None


class FixedLenSequenceFeature(NamedTuple):
    """A feature that is a list of items of one shape, which becomes an array padded to the longest list of a batch.

    Args:
        shape: The shape of one item, fully known.
        dtype: float32, int64 or string.
        allow_missing: Must be True for Examples; an Example without the feature has an empty list. In a
            SequenceExample, False makes a missing list an error.
        default_value: The value to pad with. If None, 0 or the empty string.

    Follows: ``tf.FixedLenSequenceFeature``.
    """

    shape: Any
    dtype: Any
    allow_missing: bool = False
    default_value: Any = None


_CLASSES = {kind.__name__: kind for kind in (VarLenFeature, FixedLenFeature, FixedLenSequenceFeature)}


def as_feature(feature: Any) -> Any:
    """Return this module's feature for a TensorFlow feature of the same name; return any other object unchanged.

    The result stores its dtype as a string, so that unpickling it does not import TensorFlow.
    """
    kind = _CLASSES.get(type(feature).__name__)
    if kind is None or type(feature) is kind or not hasattr(feature, "_asdict"):
        return feature
    fields = feature._asdict()
    return kind(**fields | {"dtype": None if fields["dtype"] is None else dtype_name(fields["dtype"])})


class FeatureKind(enum.Enum):
    """The kinds of features, by the array that they become."""

    FIXED, SEQUENCE, VARLEN = "fixed", "sequence", "varlen"


class Spec(NamedTuple):
    """A feature in its validated form.

    Args:
        name: The key as passed by the user.
        key: The key as bytes.
        kind: The kind.
        dtype: float32, int64 or string.
        tag: The byte with which a Feature of that dtype begins.
        shape: The shape of one Example or of one item; () for VARLEN.
        size: The number of values in that shape.
        default: FIXED: the values of a missing feature, flat; None if it is required. SEQUENCE: the value to pad with.
        allow_missing: Whether a list of a SequenceExample may be missing.
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
        """The dtype of its array; byte strings are objects."""
        return np.dtype(object if self.dtype == STRING else self.dtype)


_TAGS = {STRING: BYTES_LIST, "float32": FLOAT_LIST, "int64": INT64_LIST}


def checked(features: Mapping[Any, Any] | None) -> tuple[Spec, ...]:
    """Return the features in validated form, in the order of their keys.

    Raises:
        ValueError: There is no feature, an object is not a feature, or its shape or default is wrong.
        TypeError: The features are not a mapping, or a dtype or a default has the wrong type.
    """
    if features and not isinstance(features, Mapping):
        raise TypeError(f"features must be a mapping of keys to features, got {features!r}")
    if not features:
        raise ValueError(
            f"features must not be empty; pass for example {{'label': FixedLenFeature([], 'int64')}}, got {features!r}"
        )
    specs = [_spec(name, feature) for name, feature in features.items()]
    return tuple(sorted(specs, key=lambda spec: spec.key))


def _spec(name: Any, feature: Any) -> Spec:
    feature = as_feature(feature)
    if not isinstance(feature, VarLenFeature | FixedLenFeature | FixedLenSequenceFeature):
        raise ValueError(  # noqa: TRY004 - TensorFlow raises this class
            f"feature {name!r} must be a VarLenFeature, FixedLenFeature or FixedLenSequenceFeature, got {feature!r}"
        )
    if feature.dtype is None:
        raise ValueError(f"feature {name!r} has no dtype: pass float32, int64 or string")
    key = as_bytes(name, "a key of features")
    dtype = dtype_name(feature.dtype)
    if dtype not in _TAGS:
        raise TypeError(f"the dtype of feature {name!r} must be float32, int64 or string, got {dtype}")
    if isinstance(feature, VarLenFeature):
        return Spec(name, key, FeatureKind.VARLEN, dtype, _TAGS[dtype], (), 1, None, True)
    shape = _known_shape(name, feature.shape)
    size = math.prod(shape)
    if isinstance(feature, FixedLenFeature):
        default = _default(name, feature.default_value, dtype, size)
        return Spec(name, key, FeatureKind.FIXED, dtype, _TAGS[dtype], shape, size, default, default is not None)
    if not size:
        raise ValueError(f"feature {name!r} must have items with at least one value, got shape {list(shape)}")
    padding = _default(name, feature.default_value, dtype, 1)
    if padding is None:
        padding = np.array([b""], object) if dtype == STRING else np.zeros(1, dtype)
    return Spec(name, key, FeatureKind.SEQUENCE, dtype, _TAGS[dtype], shape, size, padding, bool(feature.allow_missing))


def _known_shape(name: Any, shape: Any) -> tuple[int, ...]:
    if shape is None:
        raise ValueError(f"feature {name!r} has no shape: pass one, such as [] for a single value")
    try:
        sizes = as_shape(shape)
    except ValueError:  # a negative size
        sizes = None
    if sizes is None or None in sizes:
        raise ValueError(
            f"the shape of feature {name!r} must be fully known, got {shape}: for lists of different lengths use a "
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
        raise ValueError(f"the default of feature {name!r} must have {size} values, got {flat.size}: {value!r}")
    return flat if size else None  # as in TensorFlow, a feature with an empty default is required
