"""Name scopes, and variables that are looked up by name."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mpqueue.system.contexts import context_manager
from mpqueue.tf1.compat.functions.declare import public, public_class
from mpqueue.tf1.compat.functions.initializers import glorot_uniform_initializer, zeros_initializer
from mpqueue.tf1.compat.functions.keys import GraphKeys, get_collection
from mpqueue.tf1.compat.functions.variables import Variable
from mpqueue.tf1.compat.graph import get_default_graph
from mpqueue.tf1.compat.graph.make import graph_of
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.tensorshape import as_shape


class _AutoReuse:
    """The value of ``reuse`` that looks up a variable or creates it."""

    def __repr__(self) -> str:
        return "tf.AUTO_REUSE"


AUTO_REUSE: Final = _AutoReuse()


@public("name_scope(...)")
@context_manager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """Prefix the names of new nodes with ``name/``, made unique, in this context.

    Args:
        name: The prefix. If it ends in "/", it is used as is. If None, ``default_name`` is used, or no prefix.
        default_name: Used if ``name`` is None.
        values: Nodes; new nodes are created in their graph.

    Yields: The prefix, ending in "/".

    Raises:
        ValueError: ``values`` are passed without a name.
        TypeError: ``default_name`` is not a ``str``.
    """
    if default_name is not None and not isinstance(default_name, str):
        raise TypeError(f"default_name must be a str, got {default_name!r}: pass values as the parameter values")
    prefix = default_name if name is None else name
    if prefix is None and values is not None:
        raise ValueError("At least one of name and default_name must be given.")
    graph = graph_of(values or ())
    with graph.as_default(), graph.name_scope(prefix) as scope:
        yield scope


@public_class("VariableScope")
class VariableScope:
    """The settings of `get_variable` in a scope.

    Args:
        reuse: True to look up existing variables only, None to create new ones, `AUTO_REUSE` for either.
        name: Prefix of the variables' names.
        initializer: The default initializer.
        name_scope: The name scope that was entered together with this scope.
        dtype: The default type of variables.
    """

    def __init__(
        self, reuse: Any, name: str = "", initializer: Any = None, name_scope: str = "", dtype: Any = dtypes.float32
    ) -> None:
        self.reuse, self.name, self.initializer = reuse, name, initializer
        self.original_name_scope, self.dtype = name_scope, dtype

    def reuse_variables(self) -> None:
        """Only look up existing variables from this call on."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """Set the default initializer."""
        self.initializer = initializer

    def get_collection(self, name: str) -> list[Any]:
        """Return the entries of a collection with names that start with the name of this scope."""
        return get_collection(name, f"{self.name}/" if self.name else None)

    def global_variables(self) -> list[Any]:
        """Return the global variables of this scope."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        """Return the local variables of this scope."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def trainable_variables(self) -> list[Any]:
        """Return the variables of this scope that are marked as trainable."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)


class _Store:
    """The variables of a graph by name, and the current scope."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.scope = VariableScope(None)
        self.times_entered: dict[str, int] = {}

    @context_manager
    def entered(self, scope: VariableScope) -> Iterator[None]:
        """Return a context that makes ``scope`` current; default names inside are counted from 0 on each entry."""
        outer, times, inside = self.scope, self.times_entered, f"{scope.name}/"
        times[scope.name] = times.get(scope.name, 0) + 1
        before = {name: count for name, count in times.items() if name.startswith(inside)}
        self.scope = scope
        try:
            yield
        finally:
            self.scope = outer
            times |= {name: before.get(name, 0) for name in times if name.startswith(inside)}


def _store() -> _Store:
    return get_default_graph().attached(_Store)


@public("get_variable_scope(...)")
def get_variable_scope() -> VariableScope:
    """Return the current scope."""
    return _store().scope


@public(
    "variable_scope(name_or_scope, default_name=None, values=None, initializer=None, regularizer=None, "
    "caching_device=None, partitioner=None, custom_getter=None, reuse=None, dtype=None, use_resource=None, "
    "constraint=None, auxiliary_name_scope=True)"
)
@context_manager
def variable_scope(
    name_or_scope: Any,
    default_name: str | None,
    values: Any,
    initializer: Any,
    reuse: Any,
    dtype: DType | None,
    auxiliary_name_scope: bool,
) -> Iterator[VariableScope]:
    """Prefix the names of variables from `get_variable`, and of other nodes, in this context.

    Args:
        name_or_scope: The prefix, or a scope to be entered again.
        default_name: Used, made unique, if ``name_or_scope`` is None.
        values: Nodes; new nodes are created in their graph.
        initializer: The default initializer.
        reuse: True to look up existing variables only, `AUTO_REUSE` to look them up or create them.
        dtype: The default type of variables.
        auxiliary_name_scope: Also enter a name scope.

    Raises:
        TypeError: Neither a name nor a default name is passed.
        ValueError: ``reuse`` is invalid, or set without a name.
    """
    _check_reuse(name_or_scope, default_name, reuse)
    graph = graph_of(values or ())
    with graph.as_default():
        store = _store()
        name, prefix = _names(store, name_or_scope, default_name)
        again = isinstance(name_or_scope, VariableScope)
        base = name_or_scope if again else store.scope
        here = graph.get_name_scope()
        with graph.name_scope(prefix if auxiliary_name_scope else here and f"{here}/") as scope:
            inner = VariableScope(
                reuse or base.reuse,
                name,
                base.initializer if initializer is None else initializer,
                name_or_scope.original_name_scope if again else scope,
                dtype or base.dtype,
            )
            with store.entered(inner):
                yield inner


def _check_reuse(name_or_scope: Any, default_name: str | None, reuse: Any) -> None:
    if name_or_scope is None and default_name is None:
        raise TypeError("If default_name is None then name_or_scope is required")
    if reuse not in (None, True, False, AUTO_REUSE):
        raise ValueError(f"reuse must be True, False, None or tf.AUTO_REUSE, got {reuse!r}")
    if name_or_scope is None and reuse:
        raise ValueError("reuse=True cannot be used without a name_or_scope")


def _names(store: _Store, name_or_scope: Any, default_name: str | None) -> tuple[str, str]:
    """Return the full name of the scope to enter, and the name of its name scope."""
    if isinstance(name_or_scope, VariableScope):
        return name_or_scope.name, name_or_scope.name.rpartition("/")[2]
    before = f"{store.scope.name}/" if store.scope.name else ""
    if name_or_scope is not None:
        return before + name_or_scope, name_or_scope
    assert default_name is not None
    number, unique = 0, default_name
    while store.times_entered.get(before + unique):
        number += 1
        unique = f"{default_name}_{number}"
    return before + unique, unique


@public(
    "get_variable(own_name as name, shape=None, dtype=None, initializer=None, regularizer=None, trainable=None, "
    "collections=None, caching_device=None, partitioner=None, validate_shape=True, use_resource=None, "
    "custom_getter=None, constraint=None, synchronization=None, aggregation=None)"
)
def get_variable(
    own_name: str,
    shape: Any,
    dtype: DType | None,
    initializer: Any,
    trainable: bool | None,
    collections: Iterable[str] | None,
    validate_shape: bool,
) -> Variable:
    """Return the variable with this name in the current scope, or create it.

    Args:
        name: Name of the variable, appended to the name of the scope.
        shape: Shape of the variable; not allowed with an initial value.
        dtype: Type of the variable. If None, the type of the scope.
        initializer: An initial value, or a function that creates one from a shape and a type. If None, the scope's
            initializer. Without one, floats get random values and other types get zeros.
        trainable: List the variable in `trainable_variables`.
        collections: Collections to add the variable to. If None, the global variables.
        validate_shape: Assigned values must have the shape of the initial value.

    Raises:
        ValueError: The variable exists but reuse is not set, or the reverse; its shape or type differs from the
            requested one; or neither shape nor initial value is passed.
    """
    store = _store()
    scope = store.scope
    full_name = f"{scope.name}/{own_name}" if scope.name else own_name
    kind = dtype or as_dtype(scope.dtype)
    known = store.variables.get(full_name)
    if known is not None:
        return _shared(known, scope.reuse, shape, dtype)
    if scope.reuse is True:
        raise ValueError(f"Variable {full_name} does not exist: create it without reuse, or with reuse=tf.AUTO_REUSE")
    value, value_type = _initial_value(
        full_name, shape, kind, scope.initializer if initializer is None else initializer
    )
    with get_default_graph().name_scope(None):
        made = Variable(value, trainable, collections, validate_shape, name=full_name, dtype=value_type)
    store.variables[full_name] = made
    return made


def _shared(known: Variable, reuse: Any, shape: Any, kind: Any) -> Variable:
    if not reuse:
        raise ValueError(f"Variable {known.op.name} already exists: set reuse=True or reuse=tf.AUTO_REUSE in its scope")
    if shape is not None and not as_shape(shape).is_compatible_with(known.shape):
        raise ValueError(f"Variable {known.op.name} has shape {known.shape}, not {as_shape(shape)}")
    if kind is not None and kind is not known.dtype.base_dtype:
        raise ValueError(f"Variable {known.op.name} has type {known.dtype.base_dtype.name}, not {kind.name}")
    return known


def _initial_value(name: str, shape: Any, kind: dtypes.DType, initializer: Any) -> tuple[Any, Any]:
    """Return the initial value, or a function that creates it, and the type to convert it to."""
    if inspect.isclass(initializer):
        initializer = initializer()
    if initializer is not None and not callable(initializer):
        if shape is not None:
            raise ValueError("If initializer is a constant, do not specify shape.")
        return initializer, None
    if shape is None:
        if initializer is None:
            raise ValueError(f"Shape of a new variable ({name}) must be fully defined, but instead was None.")
        return initializer, None
    sizes = as_shape(shape)
    if not sizes.is_fully_defined():
        raise ValueError(f"Shape of a new variable ({name}) must be fully defined, but instead was {sizes}.")
    make = initializer or (glorot_uniform_initializer() if kind.is_floating else zeros_initializer())
    return (lambda: make(sizes.as_list(), dtype=kind)), kind
