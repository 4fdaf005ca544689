"""The functions of single operations, by public name, generated from the declarations in the table."""

from collections.abc import Callable
from typing import Any, Final

from mpqueue.tf1.compat.functions.declare import present
from mpqueue.tf1.compat.graph import Tensor
from mpqueue.tf1.compat.graph.build import make
from mpqueue.tf1.compat.ops.registry import Op
from mpqueue.tf1.compat.ops.table import TABLE


class _Functions:
    """The functions as attributes, created on first use."""

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        for each in TABLE.values():
            if each.public.partition("(")[0].rpartition(".")[2] == name:
                function = vars(self)[name] = _function(each)
                return function
        raise AttributeError(f"The table has no operation with the public name {name!r}")


direct: Final = _Functions()


def __getattr__(name: str) -> Any:  # for the public modules and for pickle
    return getattr(direct, name)


def _function(definition: Op) -> Callable[..., Any]:
    signature, kind = definition.signature, definition.name
    result, several = _result(definition)
    inputs = [arg.name for arg in definition.inputs]
    needed = ", ".join(each.name for each in signature.parameters if each.own in inputs)

    def function(*args: Any, **options: Any) -> Any:
        arguments = signature.converted({"name": None} | signature.bound(args, options))
        name, values = arguments.pop("name", None), [arguments.pop(each) for each in inputs]
        if any(each is None for each in values):
            raise ValueError(f"{function.__name__}() got None for one of {needed}: pass a tensor or a value")
        outputs = make(kind, *values, name=name, **arguments).outputs
        return several(outputs) if several else outputs[0]

    present(function, signature, result)
    function.__doc__ = signature.document(definition.doc, definition.descriptions())
    return function


def _result(definition: Op) -> tuple[Any, Callable[..., Any] | None]:
    """Return the type of a function's result, and the collection type of its outputs if there are several."""
    if definition.outputs[0].number:
        return list[Tensor], list
    if len(definition.outputs) > 1:
        return tuple[Tensor, ...], tuple
    return Tensor, None
