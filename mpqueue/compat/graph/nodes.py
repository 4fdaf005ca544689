"""The nodes of a graph: an `Operation` computes, a `Tensor` is one of its outputs.

A node holds no value. What an operation does when it is run is its *kernel*, a function of the run that asks for it and
of the values of its inputs; the kernel of an operation of the table is a pure NumPy function, that of a queue or a
variable finds its state in the run's session. An operation is *blocking* if its kernel may wait for somebody else.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from mpqueue.compat.ops.dims import Dims, merged
from mpqueue.compat.ops.dtypes import DType
from mpqueue.compat.ops.known import KnownInput
from mpqueue.compat.ops.tensorshape import TensorShape, as_shape

if TYPE_CHECKING:
    from mpqueue.compat.graph.graph import Graph
    from mpqueue.compat.graph.run import Run

    _Binary = Callable[["Tensor", Any], "Tensor"]
    _Unary = Callable[["Tensor"], "Tensor"]

Kernel = Callable[["Run", list[np.ndarray]], Sequence[np.ndarray]]
Entries = Callable[[int], np.ndarray | None]

_NO_VALUE: Final = (
    "A tensor of a graph has no value yet: run it in a Session, or give functions of tf (tf.cond, tf.map_fn, "
    "tf.py_func, ...) to it instead of Python's or NumPy's own."
)


class TensorAsValueError(TypeError, NotImplementedError):
    """A node was used where Python or NumPy needs a value: ``if node:``, ``for x in node``, ``np.array(node)``.

    TensorFlow raises TypeError in some of these cases and NotImplementedError in others.
    """


class Operation:
    """A node that computes.

    Args:
        graph: Where it belongs.
        name: Its unique name there.
        kind: TensorFlow's name for the type of the operation, "Placeholder" or "AddV2".
        inputs: The tensors it takes.
        outputs: (dtype, shape as far as known) of each tensor it gives.
        kernel: What it does.
        entries: What is known of an output's value before a run, by the number of the output.
        blocking: The kernel may wait for others.
        bound: What it does depends on state of the session, other than queues and readers.
        attributes: What `get_attr` tells.

    Follows: ``tf.Operation``.
    """

    def __init__(
        self,
        graph: "Graph",
        name: str,
        kind: str,
        inputs: Sequence["Tensor"],
        outputs: Sequence[tuple[DType, Dims]],
        kernel: Kernel,
        *,
        entries: Entries | None = None,
        blocking: bool = False,
        bound: bool = False,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.graph, self.name, self.type = graph, name, kind
        self.inputs = tuple(inputs)
        self.control_inputs: tuple[Operation, ...] = ()
        self.kernel, self.entries, self.blocking, self.bound = kernel, entries, blocking, bound
        self.attributes = attributes or {}
        self.device = graph.current_device
        self.branch = graph.current_branch
        self.outputs = [Tensor(self, place, dtype, dims) for place, (dtype, dims) in enumerate(outputs)]

    def values(self) -> tuple["Tensor", ...]:
        """The outputs."""
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """One of the settings with which the operation was made.

        Raises:
            ValueError: There is none of that name.
        """
        if name not in self.attributes:
            raise ValueError(f"Operation {self.name!r} has no attr named {name!r}.")
        return self.attributes[name]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it, and what it depends on, in the given or the default session.

        Raises:
            ValueError: There is no session.
        """
        self.graph.session_for(session, "run()").run(self, feed_dict)

    def __getstate__(self) -> dict[str, Any]:
        """What a plan needs in another process; the graph stays here."""
        return {name: getattr(self, name) for name in ("name", "type", "kernel", "blocking", "bound")}

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Tensor(KnownInput):
    """One output of an operation: a value that is there once a session has run it.

    Operators and indexing make further nodes. ``==`` is identity, as in TensorFlow 1 (`equal` compares values).

    Args:
        op: The operation.
        value_index: Which of its outputs.
        dtype: Type of the elements.
        dims: Shape as far as known.

    Follows: ``tf.Tensor``.
    """

    if TYPE_CHECKING:  # each asks `operators`
        __add__: _Binary
        __radd__: _Binary
        __sub__: _Binary
        __rsub__: _Binary
        __mul__: _Binary
        __rmul__: _Binary
        __truediv__: _Binary
        __rtruediv__: _Binary
        __floordiv__: _Binary
        __rfloordiv__: _Binary
        __mod__: _Binary
        __rmod__: _Binary
        __pow__: _Binary
        __rpow__: _Binary
        __matmul__: _Binary
        __and__: _Binary
        __or__: _Binary
        __xor__: _Binary
        __invert__: _Unary
        __neg__: _Unary
        __abs__: _Unary
        __lt__: _Binary
        __le__: _Binary
        __gt__: _Binary
        __ge__: _Binary
        __getitem__: _Binary

    operators: ClassVar[dict[str, Callable[..., Any]]] = {}
    """What operators do; filled by `mpqueue.compat.functions.operators`, which stands above this module."""

    def __init__(self, op: Operation, value_index: int, dtype: DType, dims: Dims) -> None:
        self.op, self.value_index, self._dtype, self._dims = op, value_index, dtype, dims
        self._entries: tuple[np.ndarray | None] | None = None

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._dtype

    @property
    def known_dims(self) -> Dims:
        """The shape as far as known, as a tuple."""
        return self._dims

    @property
    def graph(self) -> "Graph":
        """Where it belongs."""
        return self.op.graph

    @property
    def name(self) -> str:
        """The operation's name, a colon, and the number of the output."""
        return f"{self.op.name}:{self.value_index}"

    @property
    def device(self) -> str:
        """The device it was put on; without effect."""
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        """The shape as far as known."""
        return TensorShape(self._dims)

    def get_shape(self) -> TensorShape:
        """The shape as far as known."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Add what the caller knows of the shape.

        Raises:
            ValueError: It contradicts what is known.
        """
        try:
            self._dims = merged(self._dims, as_shape(shape).known)
        except ValueError:
            raise ValueError(f"Shapes {self.shape} and {as_shape(shape)} of {self.name} are not compatible") from None

    def __getstate__(self) -> dict[str, Any]:
        """What a plan needs in another process."""
        return self.__dict__ | {"_entries": (None,)}

    def known_entries(self) -> np.ndarray | None:
        """The value, as far as it follows from constants and known shapes."""
        if self._entries is None:
            find = self.op.entries
            self._entries = (None if find is None else find(self.value_index),)
        return self._entries[0]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value, computed in the given or the default session.

        Raises:
            ValueError: There is no session.
        """
        return self.graph.session_for(session, "eval()").run(self, feed_dict)

    def consumers(self) -> list[Operation]:
        """The operations that take it."""
        return [op for op in self.graph.get_operations() if any(each is self for each in op.inputs)]

    @property
    def ndim(self) -> int | None:
        """The number of axes, None if unknown."""
        return None if self._dims is None else len(self._dims)

    def __str__(self) -> str:
        shape = "" if self._dims is None else f", shape={self.shape}"
        return f'Tensor("{self.name}"{shape}, dtype={self._dtype.name})'

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={self.shape} dtype={self._dtype.name}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __bool__(self) -> bool:
        raise TensorAsValueError(f"Using {self!r} as a Python bool is not allowed. {_NO_VALUE}")

    def __iter__(self) -> Any:
        raise TensorAsValueError(f"{self!r} is not iterable; use tf.unstack. {_NO_VALUE}")

    def __len__(self) -> int:
        raise TensorAsValueError(f"len is not well defined for {self!r}; use tf.shape(x)[0]. {_NO_VALUE}")

    def __array__(self, *_args: Any, **_options: Any) -> Any:
        raise TensorAsValueError(f"Cannot convert {self!r} to an array. {_NO_VALUE}")

    def __index__(self) -> int:
        raise TensorAsValueError(f"{self!r} cannot be used as an int. {_NO_VALUE}")

    def __int__(self) -> int:
        raise TensorAsValueError(f"{self!r} cannot be used as an int. {_NO_VALUE}")

    def __float__(self) -> float:
        raise TensorAsValueError(f"{self!r} cannot be used as a float. {_NO_VALUE}")

    def __contains__(self, item: object) -> bool:
        raise TensorAsValueError(f"cannot look for {item!r} in {self!r}. {_NO_VALUE}")


def _delegate(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        return Tensor.operators[name](self, *args, **options)

    method.__name__ = name
    return method


DELEGATED: Final = tuple(
    f"__{side}{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
    for side in ("", "r")
) + tuple(
    f"__{name}__"
    for name in ("lt", "le", "gt", "ge", "neg", "abs", "invert", "getitem", "array_ufunc", "array_function")
)
for _name in DELEGATED:
    setattr(Tensor, _name, _delegate(_name))
