"""The nodes of a graph: an `Operation` computes, a `Tensor` is one of its outputs, a `Graph` has them by name.

A node holds no value. What an operation does when it is run is its *kernel*, a function of the run that asks for it and
of the values of its inputs; the kernel of an operation of the table is a pure NumPy function, that of a queue or a
variable finds its state in the run's session. An operation is *blocking* if its kernel may wait for somebody else.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np

from mpqueue.tf1.compat.graph.scopes import Collections, Scoped, graphs, sessions
from mpqueue.tf1.compat.graph.symbolic import Operators, WithoutValue
from mpqueue.tf1.compat.ops.dims import Dims, merged
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Known
from mpqueue.tf1.compat.ops.tensorshape import TensorShape, as_shape
from mpqueue.tf1.runs.rules import Rule

_STATE = ("name", "type", "kernel", "blocking", "bound", "attributes", "rule")  # for another process

_Attached = TypeVar("_Attached")


Kernel: TypeAlias = Callable[..., Sequence[np.ndarray]]
"""What an operation does: takes a `Running`, a list of arrays, and by keyword other settings than the operation's."""
Entries: TypeAlias = Callable[[int], np.ndarray | None]


class Traits(TypedDict, total=False):
    """The facts about an operation that need not be said of each."""

    entries: Entries  # what is known of an output's value before a run, by the number of the output
    blocking: bool  # the kernel may wait for others
    bound: bool  # what it does depends on state of the session, other than queues and readers
    attributes: dict[str, Any]  # what `Operation.get_attr` tells
    rule: Rule | None  # how it is computed for many records at once; only of functions of the inputs


class Operation:
    """A node that computes.

    Args:
        graph: Where it belongs.
        name: Its unique name there.
        kind: TensorFlow's name for the type of the operation, "Placeholder" or "AddV2".
        inputs: The tensors it takes.
        outputs: (dtype, shape as far as known) of each tensor it gives.
        kernel: What it does.
        traits: What else there is to say; see `Traits`.

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
        """Return the part that a plan needs in another process; the graph stays here."""
        return {name: getattr(self, name) for name in _STATE}

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Tensor(Known, Operators, WithoutValue):
    """One output of an operation: a value that is there once a session has run it.

    Operators and indexing make further nodes. ``==`` is identity, as in TensorFlow 1 (`equal` compares values).

    Args:
        op: The operation.
        value_index: Which of its outputs.
        dtype: Type of the elements.
        dims: Shape as far as known.

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
        """The shape as far as known, as a tuple."""
        return self._dims

    @property
    def graph(self) -> "Graph":
        """The graph that it belongs to."""
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
        """Return the part that a plan needs in another process."""
        return self.__dict__ | {"_entries": (None,)}

    def known_entries(self) -> np.ndarray | None:
        """The value, as far as it follows from constants and known shapes."""
        if self._entries is None:
            find = self.op.entries
            # In a tuple, as None is an answer, too: it is asked for only once.
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


class StandsForTensor:
    """A thing that stands for a tensor of a graph, which is not always a node: a variable, a sparse tensor."""

    _stands_for: Tensor

    @property
    def op(self) -> Operation:
        """The operation behind it."""
        return self._stands_for.op

    @property
    def graph(self) -> "Graph":
        """The graph that it belongs to."""
        return self._stands_for.graph

    @property
    def name(self) -> str:
        """The name of the tensor."""
        return self._stands_for.name

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._stands_for.dtype

    @property
    def shape(self) -> TensorShape:
        """The shape as far as known."""
        return self._stands_for.shape

    def get_shape(self) -> TensorShape:
        """The shape as far as known."""
        return self.shape


class Graph(Scoped, Collections):
    """A set of operations that a `Session` can run.

    Nodes are made in the default graph, that is, the innermost one whose ``as_default()`` is entered in this thread,
    else one global graph.

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
        """Make a node under the name scope ``name`` (ending in "/") or a new unique name.

        Raises:
            RuntimeError: The graph is finalized.
            ValueError: The name has characters that names may not have.
        """
        with self._lock:
            if self._finalized:
                raise RuntimeError("Graph is finalized and cannot be modified.")
            made = make(name.rstrip("/") if name.endswith("/") else self._claimed(name))
            # As in TensorFlow: what makes one of the inputs is no control input besides: that may be fed.
            producers = {each.op for each in made.inputs}
            made.control_inputs = tuple(op for op in self.scopes.control_inputs if op not in producers)
            self._operations[made.name] = made
            return made

    @property
    def version(self) -> int:
        """Grows with every node."""
        return len(self._operations)

    def get_operations(self) -> list[Operation]:
        """All operations, oldest first."""
        return list(self._operations.values())

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            TypeError: ``name`` is no str.
            KeyError: There is none.
            ValueError: The name is a tensor's.
        """
        return self._named(name, allow_tensor=False)  # type: ignore[return-value]

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of that name, such as "add:0".

        Raises:
            TypeError: ``name`` is no str.
            KeyError: There is none.
            ValueError: The name is an operation's.
        """
        return self._named(name, allow_operation=False)  # type: ignore[return-value]

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Tensor | Operation:
        """The node that ``obj`` is, stands for (a variable), or names.

        Raises:
            TypeError: It is of another kind than allowed.
            ValueError: It belongs to another graph, or is a name of the wrong form.
            KeyError: No node has this name.
        """
        stands_for = getattr(obj, "_as_graph_element", None)
        element = stands_for() if stands_for is not None else obj
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
            raise ValueError(f"The name {name!r} is not that of {'an operation' if allow_operation else 'a tensor'}.")
        if name not in self._operations:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return self._operations[name]

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Refuse feeds for this tensor: the graph was made believing its value."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """Tell if a session may feed this tensor."""
        return tensor not in self._unfeedable

    def finalize(self) -> None:
        """Refuse new nodes from now on."""
        self._finalized = True

    def reopen(self) -> None:
        """Allow new nodes again."""
        self._finalized = False

    @property
    def finalized(self) -> bool:
        """True once `finalize` was called."""
        return self._finalized

    def attached(self, kind: type[_Attached]) -> _Attached:
        """The one object of this class that belongs to the graph, made at first use."""
        return self._attached.setdefault(kind, kind())  # type: ignore[no-any-return]

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Inside, new nodes run after ``control_inputs``; None lifts those of outer scopes.

        Raises:
            TypeError: An entry is no node.
            ValueError: It belongs to another graph.
        """
        inputs: list[Operation] = []
        if control_inputs is not None:
            elements = [self.as_graph_element(each) for each in control_inputs]
            added = [each.op if isinstance(each, Tensor) else each for each in elements]
            inputs = [*self.scopes.control_inputs, *added]
        with self.changed(control_inputs=tuple(dict.fromkeys(inputs))):
            yield

    def as_default(self) -> Any:
        """A context in which this is the default graph of this thread."""
        return graphs.context(self)

    def session_for(self, session: Any, what: str) -> Any:
        """The given session, or the default one, checked to be of this graph.

        Raises:
            ValueError: There is none, or it is of another graph.
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
    """The graph in which nodes are made now, in this thread.

    Follows: ``tf.get_default_graph``.
    """
    return graphs.innermost or _global_graph


def reset_default_graph() -> None:
    """Begin a new global graph; nodes of the old one can no longer be mixed with new ones.

    Raises:
        AssertionError: A graph is entered by ``as_default()``.

    Follows: ``tf.reset_default_graph``.
    """
    global _global_graph
    if graphs.innermost is not None:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, exit the nesting "
            "and create a new graph."
        )
    _global_graph = Graph()
