"""Python operators on tensors, which create further nodes, and errors for tensors that are used as values."""

from collections.abc import Callable
from typing import Any, ClassVar, Final

Method = Callable[..., Any]

_NO_VALUE: Final = (
    "A tensor of a graph has no value yet. Run it in a Session, or use functions of tf (tf.cond, tf.map_fn, "
    "tf.py_func, ...) instead of Python's or NumPy's."
)


class TensorAsValueError(TypeError, NotImplementedError):
    """A node was used where Python or NumPy needs a value: ``if node:``, ``for x in node``, ``np.array(node)``.

    TensorFlow raises TypeError in some of these cases and NotImplementedError in others.
    """


def _delegated(name: str) -> Method:
    name = f"__{name}__"

    def method(self: "Operators", *args: Any, **options: Any) -> Any:
        return Operators.operators[name](self._operand(), *args, **options)

    method.__name__ = name
    return method


def _two_sided(name: str) -> tuple[Method, Method]:
    return _delegated(name), _delegated(f"r{name}")


class Operators:
    """Operators that create nodes; one operand can be a NumPy array."""

    operators: ClassVar[dict[str, Method]] = {}
    """The implementations by method name; set by `mpqueue.tf1.compat.functions`, which is above this module."""

    def _operand(self) -> Any:
        """Return the tensor that represents this operand."""
        return self

    __add__, __radd__ = _two_sided("add")
    __sub__, __rsub__ = _two_sided("sub")
    __mul__, __rmul__ = _two_sided("mul")
    __truediv__, __rtruediv__ = _two_sided("truediv")
    __floordiv__, __rfloordiv__ = _two_sided("floordiv")
    __mod__, __rmod__ = _two_sided("mod")
    __pow__, __rpow__ = _two_sided("pow")
    __matmul__, __rmatmul__ = _two_sided("matmul")
    __and__, __rand__ = _two_sided("and")
    __or__, __ror__ = _two_sided("or")
    __xor__, __rxor__ = _two_sided("xor")
    __lt__, __le__, __gt__, __ge__ = map(_delegated, ("lt", "le", "gt", "ge"))
    __neg__, __abs__, __invert__ = map(_delegated, ("neg", "abs", "invert"))
    __getitem__ = _delegated("getitem")
    __array_priority__ = 100  # NumPy leaves `array + node` to the node


def _refused(text: str) -> Method:
    def method(*self_and_operands: Any, **_options: Any) -> Any:
        raise TensorAsValueError(f"{text.format(*self_and_operands)} {_NO_VALUE}")

    return method


class WithoutValue:
    """Methods that need a value; each raises an error with the alternative."""

    __bool__ = _refused("Using {!r} as a Python bool is not allowed.")
    __iter__ = _refused("{!r} is not iterable; use tf.unstack.")
    __len__ = _refused("len is not well defined for {!r}; use tf.shape(x)[0].")
    __array__ = _refused("Cannot convert {!r} to an array.")
    __index__ = __int__ = _refused("{!r} cannot be used as an int.")
    __float__ = _refused("{!r} cannot be used as a float.")
    __contains__ = _refused("Cannot search for {1!r} in {0!r}.")
