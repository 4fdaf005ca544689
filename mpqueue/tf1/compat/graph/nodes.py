"""The nodes of a graph: an `Operation` computes, a `Tensor` is one of its outputs, a `Graph` holds them by name.

A node holds no value. The *kernel* of an operation computes its outputs from the current run and the values of the
inputs. Operations of the table have pure NumPy functions as kernels; kernels of queues and variables look up their
state in the session of the run. An operation is *blocking* if its kernel can wait for other threads or processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np

from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.compat.graph.scopes import Collections, Scoped, graphs, sessions
from mpqueue.tf1.compat.graph.symbolic import Operators, WithoutValue
from mpqueue.tf1.compat.ops.dims import Dims, merged
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Known
from mpqueue.tf1.compat.ops.tensorshape import TensorShape, as_shape
from mpqueue.tf1.runs.rules import Rule

_STATE = ("name", "type", "kernel", "blocking", "bound", "attributes", "rule")  # pickled for worker processes

_Attached = TypeVar("_Attached")


Kernel: TypeAlias = Callable[..., Sequence[np.ndarray]]
"""The computation of an operation: takes a `Running`, a list of arrays, and attributes to override as keywords."""
Entries: TypeAlias = Callable[[int], np.ndarray | None]


class Traits(TypedDict, total=False):
    """Optional facts about an operation."""

    entries: Entries  # returns the statically known value of an output, by output index
    blocking: bool  # the kernel can block
    bound: bool  # the result depends on session state other than queues and readers
    attributes: dict[str, Any]  # the values for `Operation.get_attr`
    rule: Rule | None  # how to compute many records at once; only for functions of the inputs


class Operation:
    """A node that computes.

    Args:
        graph: The graph of the operation.
        name: Its unique name in the graph.
        kind: TensorFlow's name of the operation type, such as "Placeholder" or "AddV2".
        inputs: The input tensors.
        outputs: (dtype, static shape) of each output tensor.
        kernel: The function that computes the outputs.
        traits: Optional facts, see `Traits`.

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
        **traits: Unpack[Traits],
    ) -> None:
        self.graph, self.name, self.type = graph, name, kind
        self.inputs = tuple(inputs)
        self.control_inputs: tuple[Operation, ...] = ()
        self.kernel, self.entries, self.rule = kernel, traits.get("entries"), traits.get("rule")
        self.blocking, self.bound = traits.get("blocking", False), traits.get("bound", False)
        self.attributes = traits.get("attributes", {})
        self.device, self.branch = graph.scopes.device, graph.scopes.branch
        self.outputs = [Tensor(self, place, dtype, dims) for place, (dtype, dims) in enumerate(outputs)]

    def values(self) -> tuple["Tensor", ...]:
        """Return the outputs."""
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """Return an attribute with which the operation was created.

        Raises:
            ValueError: The operation does not have this attribute.
        """
        if name not in self.attributes:
            raise ValueError(f"Operation {self.name!r} has no attr named {name!r}.")
        return self.attributes[name]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run the operation and its dependencies in the given or the default session.

        Raises:
            ValueError: No session is given, and there is no default session.
        """
        self.graph.session_for(session, "run()").run(self, feed_dict)

    def __getstate__(self) -> dict[str, Any]:
        """Return the part that a plan needs in another process, without the graph."""
        return {name: getattr(self, name) for name in _STATE}

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Tensor(Known, Operators, WithoutValue):
    """One output of an operation. Its value exists only while a session runs the operation.

    Operators and indexing create further nodes. ``==`` compares identity, as in TensorFlow 1; `equal` compares values.

    Args:
        op: The operation.
        value_index: Index of the output.
        dtype: Type of the elements.
        dims: Static shape.

    Follows: ``tf.Tensor``.
    """

    def __init__(self, op: Operation, value_index: int, dtype: DType, dims: Dims) -> None:
        self.op, self.value_index, self._dtype, self._dims = op, value_index, dtype, dims
        self._entries: tuple[np.ndarray | None] | None = None

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._dtype

    @property
    def known_dims(self) -> Dims:
        """The static shape, as a tuple with None for unknown sizes."""
        return self._dims

    @property
    def graph(self) -> "Graph":
        """The graph of the tensor."""
        return self.op.graph

    @property
    def name(self) -> str:
        """The operation's name, a colon, and the output index."""
        return f"{self.op.name}:{self.value_index}"

    @property
    def device(self) -> str:
        """The device set by ``tf.device``; it has no effect."""
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        return TensorShape(self._dims)

    def get_shape(self) -> TensorShape:
        """Return the static shape."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Merge ``shape`` into the static shape.

        Raises:
            ValueError: ``shape`` contradicts the known shape.
        """
        try:
            self._dims = merged(self._dims, as_shape(shape).known)
        except ValueError:
            raise ValueError(f"Shapes {self.shape} and {as_shape(shape)} of {self.name} are not compatible") from None

    def __getstate__(self) -> dict[str, Any]:
        """Return the part that a plan needs in another process."""
        return self.__dict__ | {"_entries": (None,)}

    def known_entries(self) -> np.ndarray | None:
        """Return the statically known value: what follows from constants and known shapes."""
        if self._entries is None:
            find = self.op.entries
            # A tuple distinguishes a cached None from a value that is not computed yet.
            self._entries = (None if find is None else find(self.value_index),)
        return self._entries[0]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Return the value, computed in the given or the default session.

        Raises:
            ValueError: No session is given, and there is no default session.
        """
        return self.graph.session_for(session, "eval()").run(self, feed_dict)

    def consumers(self) -> list[Operation]:
        """Return the operations that have this tensor as an input."""
        return [op for op in self.graph.get_operations() if any(each is self for each in op.inputs)]

    @property
    def ndim(self) -> int | None:
        """The number of axes, or None if unknown."""
        return None if self._dims is None else len(self._dims)

    def __str__(self) -> str:
        shape = "" if self._dims is None else f", shape={self.shape}"
        return f'Tensor("{self.name}"{shape}, dtype={self._dtype.name})'

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={self.shape} dtype={self._dtype.name}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class TensorProxy:
    """An object that represents a tensor of a graph and need not be a node: a variable or a sparse tensor."""

    _represented: Tensor

    @property
    def op(self) -> Operation:
        """The operation that computes the tensor."""
        return self._represented.op

    @property
    def graph(self) -> "Graph":
        """The graph of the tensor."""
        return self._represented.graph

    @property
    def name(self) -> str:
        """The name of the tensor."""
        return self._represented.name

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._represented.dtype

    @property
    def shape(self) -> TensorShape:
        """The static shape."""
        return self._represented.shape

    def get_shape(self) -> TensorShape:
        """Return the static shape."""
        return self.shape


class Graph(Scoped, Collections):
    """A set of operations that a `Session` can run.

    New nodes are added to the default graph: the innermost graph entered with ``as_default()`` in this thread, or
    otherwise the global graph.

    Follows: ``tf.Graph``.
    """

    def __init__(self) -> None:
        Scoped.__init__(self)
        Collections.__init__(self)
        self._operations: dict[str, Operation] = {}
        self._unfeedable: set[Tensor] = set()
        self._attached: dict[type, Any] = {}
        self._finalized = False
        self.seed: int | None = None

    def add(self, make: Callable[[str], Operation], name: str) -> Operation:
        """Add an operation under the name scope ``name`` (ending in "/") or under a new unique name.

        Raises:
            RuntimeError: The graph is finalized.
            ValueError: The name contains invalid characters.
        """
        with self._lock:
            if self._finalized:
                raise RuntimeError("Graph is finalized and cannot be modified.")
            made = make(name.rstrip("/") if name.endswith("/") else self._claimed(name))
            # As in TensorFlow, the producer of an input is not also a control input: the input may be fed instead.
            producers = {each.op for each in made.inputs}
            made.control_inputs = tuple(op for op in self.scopes.control_inputs if op not in producers)
            self._operations[made.name] = made
            return made

    @property
    def version(self) -> int:
        """The number of nodes."""
        return len(self._operations)

    def get_operations(self) -> list[Operation]:
        """Return all operations, oldest first."""
        return list(self._operations.values())

    def get_operation_by_name(self, name: str) -> Operation:
        """Return the operation with the given name.

        Raises:
            TypeError: ``name`` is not a ``str``.
            KeyError: No operation has this name.
            ValueError: ``name`` is the name of a tensor.
        """
        operation = self._named(name, allow_tensor=False)
        assert isinstance(operation, Operation)
        return operation

    def get_tensor_by_name(self, name: str) -> Tensor:
        """Return the tensor with the given name, such as "add:0".

        Raises:
            TypeError: ``name`` is not a ``str``.
            KeyError: No tensor has this name.
            ValueError: ``name`` is the name of an operation.
        """
        tensor = self._named(name, allow_operation=False)
        assert isinstance(tensor, Tensor)
        return tensor

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Tensor | Operation:
        """Return the node that ``obj`` is, represents (as a variable does), or names.

        Raises:
            TypeError: The node is not of an allowed kind.
            ValueError: The node belongs to another graph, or the name has the wrong form.
            KeyError: No node has this name.
        """
        as_element = getattr(obj, "_as_graph_element", None)
        element = as_element() if as_element is not None else obj
        if isinstance(element, str):
            return self._named(element, allow_tensor, allow_operation)
        allowed = (Tensor,) * allow_tensor + (Operation,) * allow_operation
        if not isinstance(element, allowed):
            kinds = " or ".join(kind.__name__ for kind in allowed)
            raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")
        if element.graph is not self:
            raise ValueError(f"{element!r} is not an element of this graph.")
        return element

    def _named(self, name: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Tensor | Operation:
        if not isinstance(name, str):
            raise TypeError(f"names are strings (or similar), not {type(name).__name__}.")
        base, colon, place = name.rpartition(":")
        if colon and allow_tensor:
            if not place.isdigit():
                raise ValueError(f"The name {name!r} looks like a tensor's, but is not of the form <op_name>:<output>")
            op = self._operations.get(base)
            if op is None or int(place) >= len(op.outputs):
                raise KeyError(f"The name {name!r} refers to a Tensor which does not exist in the graph.")
            return op.outputs[int(place)]
        if colon or not allow_operation:
            raise ValueError(
                f"The name {name!r} is not the name of {'an operation' if allow_operation else 'a tensor'}."
            )
        if name not in self._operations:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return self._operations[name]

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Forbid feeding this tensor, because nodes were built from its static value."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """Return whether a session can feed this tensor."""
        return tensor not in self._unfeedable

    def finalize(self) -> None:
        """Forbid new nodes."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        """True after `finalize` was called."""
        return self._finalized

    def attached(self, kind: type[_Attached]) -> _Attached:
        """Return the graph's only object of this class, created at first use."""
        attached: _Attached = self._attached.setdefault(kind, kind())
        return attached

    @context_manager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Make new nodes in this context run after ``control_inputs``; None clears the control inputs of outer scopes.

        Raises:
            TypeError: An entry is not a node.
            ValueError: An entry belongs to another graph.
        """
        inputs: list[Operation] = []
        if control_inputs is not None:
            elements = [self.as_graph_element(each) for each in control_inputs]
            added = [each.op if isinstance(each, Tensor) else each for each in elements]
            inputs = [*self.scopes.control_inputs, *added]
        with self.changed(control_inputs=tuple(dict.fromkeys(inputs))):
            yield

    def as_default(self) -> Any:
        """Return a context that makes this graph the default graph of the current thread."""
        return graphs.context(self)

    def session_for(self, session: Any, what: str) -> Any:
        """Return the given session or the default one, after checking that it runs this graph.

        Raises:
            ValueError: No session is given or the default, or the session runs another graph.
        """
        found = sessions.innermost if session is None else session
        if found is None:
            raise ValueError(
                f"Cannot use {what}: No default session is registered. Use `with sess.as_default()` or pass "
                "an explicit session"
            )
        if found.graph is not self:
            raise ValueError(f"Cannot use {what}: the session's graph is different from the node's graph.")
        return found


_global_graph = Graph()


def get_default_graph() -> Graph:
    """Return the graph to which new nodes are added in the current thread.

    Follows: ``tf.get_default_graph``.
    """
    return graphs.innermost or _global_graph


def reset_default_graph() -> None:
    """Replace the global graph by a new one; nodes of the old graph cannot be combined with new nodes.

    Raises:
        AssertionError: A graph is entered through ``as_default()``.

    Follows: ``tf.reset_default_graph``.
    """
    global _global_graph
    if graphs.innermost is not None:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, exit the nesting "
            "and create a new graph."
        )
    _global_graph = Graph()
