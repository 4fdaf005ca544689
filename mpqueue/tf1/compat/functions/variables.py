"""Variables: values that a session keeps between runs.

A variable consists of three nodes. The *reference* looks up the value in the session, and raises
`FailedPreconditionError` if it is not initialized. The *initializer* sets the initial value. Other nodes take the
*read* node. A stored array is never modified, only replaced.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mpqueue.errors import FailedPreconditionError, OutOfRangeError
from mpqueue.tf1.compat.functions.cond import cond
from mpqueue.tf1.compat.functions.control import group
from mpqueue.tf1.compat.functions.declare import public, public_class
from mpqueue.tf1.compat.functions.keys import GraphKeys, add_to_collections, get_collection
from mpqueue.tf1.compat.graph import Operation, Running, Tensor, apply, convert_to_tensor, custom, get_default_graph
from mpqueue.tf1.compat.graph.nodes import TensorProxy
from mpqueue.tf1.compat.graph.run import lent
from mpqueue.tf1.compat.graph.symbolic import Operators
from mpqueue.tf1.compat.ops.dims import merged
from mpqueue.tf1.compat.ops.dtypes import bool_, string
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.tensorshape import as_shape


@public_class(
    "Variable",
    unused="caching_device expected_shape constraint use_resource synchronization aggregation",
)
class Variable(TensorProxy, Operators):
    """A value that a session keeps between runs, as in TensorFlow 1.

    Used as a tensor, a variable represents its value. mpqueue does not train, so arguments for training are accepted
    without effect.

    Args:
        initial_value: The initial value: a tensor, a value that can be converted to one, or a function that returns it.
        trainable: List the variable in `trainable_variables`; True by default.
        collections: Collections to add the variable to. If None, the global variables.
        validate_shape: Assigned values must have the shape of the initial value.
        name: Name of the reference, "Variable" by default.
        variable_def: Must be None.
        import_scope: Must be None.
        dtype: Type to convert the initial value to.
        shape: The shape, instead of the shape of the initial value.

    Attributes:
        trainable: Whether the variable is trainable.
        initializer: The operation that sets the initial value.
        initial_value: The initial value, a tensor.

    Raises:
        ValueError: The initial value is missing, or its shape is not fully known while ``validate_shape`` is set. Or
            ``variable_def`` or ``import_scope`` is not None: protocol buffers of variables are not supported.
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Iterable[str] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: Any = None,
        constraint: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        del caching_device, expected_shape, constraint, use_resource, synchronization, aggregation
        if variable_def is not None or import_scope is not None:
            raise ValueError("Variable() supports only variable_def=None and import_scope=None: pass initial_value")
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        self.trainable = trainable is None or trainable
        graph = get_default_graph()
        with graph.control_dependencies(None), graph.name_scope(name or "Variable") as scope:
            value = initial_value() if callable(initial_value) else initial_value
            self.initial_value = convert_to_tensor(value, dtype, "initial_value")
            dims = self.initial_value.known_dims if shape is None else as_shape(shape).known
            if validate_shape and (dims is None or None in dims):
                raise ValueError(f"initial_value must have a shape specified: {self.initial_value!r}")
            kind = self.initial_value.dtype.base_dtype
            outputs = [(kind._as_ref, dims if validate_shape else None)]
            holder = custom("VariableV2", (), outputs, self._read, name=scope, bound=True)
            self._represented = holder.outputs[0]
            self.initializer = self.assign(self.initial_value, validate_shape=validate_shape, name="Assign").op
            self._snapshot = apply("Identity", self._represented, name="read")
        names = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self.trainable and GraphKeys.TRAINABLE_VARIABLES not in names:
            names.append(GraphKeys.TRAINABLE_VARIABLES)
        add_to_collections(names, self)

    def _read(self, run: Running, _inputs: list[np.ndarray]) -> list[np.ndarray]:
        try:
            return [run.session.state[self._represented.op]]
        except KeyError:
            raise FailedPreconditionError(
                None,
                None,
                f"Attempting to use uninitialized value {self._represented.op.name}: run its initializer first",
            ) from None

    def _as_tensor(self) -> Tensor:
        return self._snapshot

    _operand = _as_tensor  # for the operators

    def _as_graph_element(self) -> Tensor:
        return self._represented

    @property
    def device(self) -> str:
        """The device set by ``tf.device``; it has no effect."""
        return self._represented.device

    def set_shape(self, shape: Any) -> None:
        """Merge ``shape`` into the static shape."""
        self._represented.set_shape(shape)
        self._snapshot.set_shape(shape)

    def value(self) -> Tensor:
        """Return the value, read when the tensor is run."""
        return self._snapshot

    def read_value(self) -> Tensor:
        """Return the value, read by a new node that respects `control_dependencies`."""
        kind = (self.dtype.base_dtype, self._represented.known_dims)
        return custom("Identity", (), [kind], self._read, name="read", bound=True).outputs[0]

    def initialized_value(self) -> Tensor:
        """Return the value if it is set, and the initial value otherwise."""
        value: Tensor = cond(is_variable_initialized(self), self.value, lambda: self.initial_value)
        return value

    def eval(self, session: Any = None) -> Any:
        """Return the value in the given or the default session."""
        return self._snapshot.eval(session=session)

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in the given or the default session."""
        self.graph.session_for(session, "load()").run(self.initializer, {self.initial_value: value})

    def _updating(self, kind: str, value: Any, change: Callable[..., np.ndarray], name: str | None) -> Tensor:
        operand = convert_to_tensor(value, self.dtype.base_dtype, "value")

        def kernel(run: Running, values: list[np.ndarray]) -> list[np.ndarray]:
            # Read, change and store under one lock, so that concurrent updates are not lost.
            with run.session.lock:
                run.session.state[self._represented.op] = kept = lent(np.asarray(change(run, values[0])))
            return [kept]

        made = custom(kind, [operand], [(self.dtype, self._represented.known_dims)], kernel, name=name, bound=True)
        return made.outputs[0]

    def assign(
        self: "Variable",
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        validate_shape: bool | None = True,
    ) -> Tensor:
        """Return a tensor that sets the value and has the new value.

        Raises:
            ValueError: The shape of the value is known and incompatible.
            TypeError: The value has another type.
        """
        del use_locking
        checks = validate_shape is not False
        tensor = convert_to_tensor(value, self.dtype.base_dtype, "value")
        if checks:
            merged(self._represented.known_dims, tensor.known_dims)
        out = self._updating("Assign", tensor, lambda _run, new: self._fitting(new, checks), name)
        if not checks:
            out._dims = tensor.known_dims
        return out

    def _fitting(self, value: np.ndarray, checks: bool) -> np.ndarray:
        try:
            merged(self._represented.known_dims if checks else None, value.shape)
        except ValueError:
            invalid(f"Assign requires shapes to match: {self.name} has {self.shape}, the value has {value.shape}")
        return value.copy()  # the caller of a run that also fetches the value may modify it

    def assign_add(self: "Variable", delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Return a tensor that adds to the value and has the sum; concurrent updates are not lost."""
        del use_locking
        return self._updating("AssignAdd", delta, lambda run, more: self._read(run, [])[0] + more, name)

    def assign_sub(self: "Variable", delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Return a tensor that subtracts from the value and has the difference."""
        del use_locking
        return self._updating("AssignSub", delta, lambda run, less: self._read(run, [])[0] - less, name)

    def count_up_to(self: "Variable", limit: int) -> Tensor:
        """Return a tensor with the value, which is then incremented; at ``limit`` it raises `OutOfRangeError`."""

        def kernel(run: Running, _inputs: list[np.ndarray]) -> list[np.ndarray]:
            with run.session.lock:
                (value,) = self._read(run, [])
                if value >= limit:
                    raise OutOfRangeError(None, None, f"Reached limit of {limit}")
                run.session.state[self._represented.op] = lent(np.asarray(value + value.dtype.type(1)))
            return [value]

        return custom("CountUpTo", (), [(self.dtype.base_dtype, ())], kernel, bound=True).outputs[0]

    def __repr__(self) -> str:
        return f"<tf.Variable {self.name!r} shape={self.shape} dtype={self.dtype.name}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __iter__(self) -> Any:
        raise TypeError("'Variable' object is not iterable.")


@public("is_variable_initialized(...)")
def is_variable_initialized(variable: Variable) -> Tensor:
    """Return a tensor that is True if a variable has a value."""

    def kernel(run: Running, _inputs: list[np.ndarray]) -> list[np.ndarray]:
        return [np.array(variable.op in run.session.state)]

    return custom("IsVariableInitialized", (), [(bool_, ())], kernel, bound=True).outputs[0]


@public("report_uninitialized_variables(...)")
def report_uninitialized_variables(
    var_list: Iterable[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """Return a tensor with the names of the variables that have no value yet."""
    variables = [*global_variables(), *local_variables()] if var_list is None else list(var_list)

    def kernel(run: Running, _inputs: list[np.ndarray]) -> list[np.ndarray]:
        names = [each.op.name.encode() for each in variables if each.op not in run.session.state]
        return [np.array(names, object)]

    return custom("ReportUninitialized", (), [(string, (None,))], kernel, name=name, bound=True).outputs[0]


assign = public("assign(self as ref, value, validate_shape=None, use_locking=None, name)")(Variable.assign)
assign_add = public("assign_add(self as ref, delta as value, use_locking=None, name)")(Variable.assign_add)
assign_sub = public("assign_sub(self as ref, delta as value, use_locking=None, name)")(Variable.assign_sub)
count_up_to = public("count_up_to(self as ref, limit, name)")(Variable.count_up_to)


def _listing(name: str, key: str, what: str) -> Callable[..., list[Any]]:
    text = f"Return the {what} of the default graph; ``scope`` selects names that start with it."

    @public(f"{name}(scope=None)", doc=text)
    def function(scope: str | None) -> list[Any]:
        return get_collection(key, scope)

    return function


global_variables = _listing("global_variables", GraphKeys.GLOBAL_VARIABLES, "global variables")
local_variables = _listing("local_variables", GraphKeys.LOCAL_VARIABLES, "local variables")
model_variables = _listing("model_variables", GraphKeys.MODEL_VARIABLES, "model variables")
trainable_variables = _listing("trainable_variables", GraphKeys.TRAINABLE_VARIABLES, "variables marked as trainable")


@public("variables_initializer(...)")
def variables_initializer(var_list: Iterable[Variable], name: str = "init") -> Operation:
    """Return an operation that runs the initializers of the given variables."""
    return group(*(each.initializer for each in var_list), name=name)


@public("global_variables_initializer(...)")
def global_variables_initializer() -> Operation:
    """Return an operation that sets all global variables to their initial values."""
    return variables_initializer(global_variables())


@public("local_variables_initializer(...)")
def local_variables_initializer() -> Operation:
    """Return an operation that sets all local variables (epoch counters, matched files) to their initial values."""
    return variables_initializer(local_variables(), "init_local")


@public("tables_initializer(...)")
def tables_initializer(name: str = "init_all_tables") -> Operation:
    """Return a no-op operation: mpqueue has no lookup tables."""
    return group(name=name)
