"""Functions that are just an operation of the table: their parameters are its inputs, then its attributes, then a name.

All functions of this package take nodes, or anything that can be made one (`convert_to_tensor`), and give nodes. While
the graph is built they raise TypeError for types and ValueError for shapes that cannot fit, as far as those are known;
what shows only later is an `InvalidArgumentError` of the run. ``name`` is the name of the new node.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mpqueue.compat.graph.build import make
from mpqueue.compat.graph.nodes import Operation
from mpqueue.compat.ops.registry import Op
from mpqueue.compat.ops.table import TABLE


def direct(
    kind: str, public_name: str, doc: str | None = None, *, after_name: int = 0, **renamed: str
) -> Callable[..., Any]:
    """The function over nodes of an operation of the table.

    Args:
        kind: The operation.
        public_name: TensorFlow's name of the function.
        doc: What it does, default what the operation's own text says.
        after_name: How many attributes stand behind the name, because they were added later.
        renamed: Parameters that have another name here, as operation's name = public name.
    """
    definition = TABLE[kind]
    inputs = [renamed.get(arg.name, arg.name) for arg in definition.inputs]
    attributes = [p for p in inspect.signature(definition.compute).parameters.values() if p.kind is p.KEYWORD_ONLY]
    names = {p.name: renamed.get(p.name, p.name) for p in attributes}
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    settings = [inspect.Parameter(names[p.name], positional, default=p.default) for p in attributes]
    settings.insert(len(settings) - after_name, inspect.Parameter("name", positional, default=None))
    signature = inspect.Signature([inspect.Parameter(each, positional) for each in inputs] + settings)

    def function(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        given = bound.arguments
        settings = {own: given[public] for own, public in names.items()}
        made = make(kind, *(given[each] for each in inputs), name=given["name"], **settings)
        return _outputs(definition, made)

    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = public_name.rpartition(".")[2]
    function.__doc__ = f"{doc or inspect.getdoc(definition.compute)}\n\nFollows: ``tf.{public_name}``."
    return function


def _outputs(definition: Op, made: Operation) -> Any:
    """A tensor; of several a tuple, or a list if they are one output of the signature."""
    if len(definition.outputs) == 1 and not definition.outputs[0].number:
        return made.outputs[0]
    return list(made.outputs) if definition.outputs[0].number else tuple(made.outputs)


def renamed_argument(new: Any, old: Any, new_name: str, old_name: str) -> Any:
    """The value of a parameter that has an old and a new name.

    Raises:
        ValueError: Both are given.
    """
    if old is not None and new is not None:
        raise ValueError(f"Cannot specify both {old_name!r} and {new_name!r}.")
    return new if old is None else old
