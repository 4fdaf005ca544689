"""TensorFlow's element types, based on NumPy's.

A `DType` is one of a fixed set of objects (`float32`, `string`, ...), with its number in TensorFlow's protocol buffers.
The number of a *reference* type (``float32_ref``, the type of a variable) is higher by 100. In NumPy, strings are
object arrays of ``bytes``. Tensors of type `resource`, which refer to queues and readers, are object arrays, too.
"""

import enum
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

_REFERENCE: Final = 100  # TensorFlow's offset between the numbers of a type and its reference type


class DTypeKind(enum.Enum):
    """The families of element types."""

    FLOAT = "float"
    INT = "int"
    UINT = "uint"
    COMPLEX = "complex"
    BOOL = "bool"
    TEXT = "text"
    RESOURCE = "resource"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class DType:
    """The type of a tensor's elements.

    A type equals every value that `as_dtype` converts to it: ``tf.float32 == np.float32``, ``tf.float32 == "float32"``.

    Attributes:
        as_datatype_enum: The number of the type in TensorFlow's protocol buffers.
        name: TensorFlow's name, such as "float32" or "string".
        as_numpy_dtype: The NumPy scalar type; `object` for strings.
        kind: The family of the type.
    """

    as_datatype_enum: int
    name: str
    as_numpy_dtype: type[Any]
    kind: DTypeKind

    @property
    def is_floating(self) -> bool:
        """True for the float types."""
        return self.kind is DTypeKind.FLOAT

    @property
    def is_integer(self) -> bool:
        """True for the signed and unsigned integers, not for bool."""
        return self.kind in (DTypeKind.INT, DTypeKind.UINT)

    @property
    def is_unsigned(self) -> bool:
        """True for the unsigned integers."""
        return self.kind is DTypeKind.UINT

    @property
    def is_complex(self) -> bool:
        """True for the complex types."""
        return self.kind is DTypeKind.COMPLEX

    @property
    def is_bool(self) -> bool:
        """True for bool."""
        return self.kind is DTypeKind.BOOL

    @property
    def is_quantized(self) -> bool:
        """Always False: mpqueue has no quantized types."""
        return False

    @property
    def is_numpy_compatible(self) -> bool:
        """Always True: all types have a NumPy equivalent."""
        return True

    @property
    def size(self) -> int:
        """Number of bytes per element, 0 for strings."""
        return 0 if self.kind is DTypeKind.TEXT else np.dtype(self.as_numpy_dtype).itemsize

    @property
    def min(self) -> Any:
        """The smallest finite value.

        Raises:
            TypeError: The type has no order (bool, string, complex).
        """
        return self._bounds("minimum").min

    @property
    def max(self) -> Any:
        """The largest finite value.

        Raises:
            TypeError: The type has no order (bool, string, complex).
        """
        return self._bounds("maximum").max

    @property
    def limits(self) -> tuple[Any, Any]:
        """(0, maximum intensity in an image of this type)."""
        return (0, 1 if self.is_floating else True if self.is_bool else self.max)

    @property
    def base_dtype(self) -> "DType":
        """The referenced type of a reference type, otherwise the type itself."""
        return _BY_NUMBER[self.as_datatype_enum % _REFERENCE]

    @property
    def real_dtype(self) -> "DType":
        """The type of the real part of a complex type, otherwise the type itself."""
        return {complex64: float32, complex128: float64}.get(self.base_dtype, self)

    @property
    def _as_ref(self) -> "DType":
        return _BY_NUMBER[self.as_datatype_enum % _REFERENCE + _REFERENCE]

    def is_compatible_with(self, other: Any) -> bool:
        """Return whether a tensor of type ``other`` is accepted where this type is required.

        Raises:
            TypeError: ``other`` is not a type.
        """
        other = as_dtype(other)
        return self in (other, other.base_dtype)

    def _bounds(self, which: str) -> Any:
        if self.is_floating:
            return np.finfo(self.as_numpy_dtype)
        if self.is_integer:
            return np.iinfo(self.as_numpy_dtype)
        raise TypeError(f"Cannot find {which} value of {self}: the type has no order.")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        try:
            return other is not None and self is as_dtype(other)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return self.as_datatype_enum

    def __int__(self) -> int:
        return self.as_datatype_enum

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __repr__(self) -> str:
        return f"tf.{self.name}"


_BY_NUMBER: dict[int, DType] = {}
_BY_KEY: dict[Any, DType] = {}


def _make(number: int, numpy_type: type[Any], kind: DTypeKind, name: str | None = None) -> DType:
    name = name or np.dtype(numpy_type).name
    made = DType(number, name, numpy_type, kind)
    reference = DType(number + _REFERENCE, f"{name}_ref", numpy_type, kind)
    for each in (made, reference):
        _BY_NUMBER[each.as_datatype_enum] = _BY_KEY[each.as_datatype_enum] = _BY_KEY[each.name] = each
    _BY_KEY.setdefault(numpy_type, made)
    return made


float32 = _make(1, np.float32, DTypeKind.FLOAT)
float64 = _make(2, np.float64, DTypeKind.FLOAT)
int32 = _make(3, np.int32, DTypeKind.INT)
uint8 = _make(4, np.uint8, DTypeKind.UINT)
int16 = _make(5, np.int16, DTypeKind.INT)
int8 = _make(6, np.int8, DTypeKind.INT)
string = _make(7, object, DTypeKind.TEXT, "string")
complex64 = _make(8, np.complex64, DTypeKind.COMPLEX)
int64 = _make(9, np.int64, DTypeKind.INT)
bool_ = _make(10, np.bool_, DTypeKind.BOOL, "bool")
uint16 = _make(17, np.uint16, DTypeKind.UINT)
complex128 = _make(18, np.complex128, DTypeKind.COMPLEX)
float16 = _make(19, np.float16, DTypeKind.FLOAT)
resource = _make(20, object, DTypeKind.RESOURCE, "resource")
uint32 = _make(22, np.uint32, DTypeKind.UINT)
uint64 = _make(23, np.uint64, DTypeKind.UINT)
half, double = float16, float64

# np.dtype(float) would be float64, but TensorFlow defines these three Python types differently, and no others.
_BY_KEY |= {"half": half, "float": float32, "double": double, float: float32, bool: bool_, np.object_: string}
_BY_KEY |= {np.str_: string, np.bytes_: string}


def as_dtype(type_value: Any) -> DType:
    """Convert a DType, its name or number, a NumPy type, a Python type, or the type of an array to a `DType`.

    Raises:
        TypeError: The value does not denote a type.
    """
    if isinstance(type_value, DType):
        return type_value
    # C has several names for integers of one size. NumPy distinguishes them unless they are looked up by size.
    key = np.dtype(type_value.str).type if isinstance(type_value, np.dtype) else type_value
    try:
        if key in _BY_KEY:
            return _BY_KEY[key]
    except TypeError:  # not hashable
        pass
    own = getattr(type_value, "dtype", None)
    if own is not None and not isinstance(type_value, np.dtype):
        return as_dtype(own)
    raise TypeError(
        f"Cannot convert {type_value!r} to a tensor type: use a type such as tf.float32, its name, or a NumPy type"
    )
