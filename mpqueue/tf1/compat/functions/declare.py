"""Declaration of functions over nodes.

An operation of the table with a public signature is a function of module `direct`. A function that combines
several operations, or has a custom kernel, is written with annotated parameters and decorated with `public`. The
decorator adds the rest of TensorFlow's signature: old names, arguments without effect, a name, a name scope.

All functions of this package take nodes or values that can be converted to nodes (`convert_to_tensor`), and return
nodes. While the graph is built, they raise TypeError for incompatible types and ValueError for incompatible shapes, if
the types and shapes are known. Problems that only show at run time raise `InvalidArgumentError`. ``name`` is the name
of the new node.
"""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import GenericAlias
from typing import Any, Final, TypeVar, get_args, get_origin

from mpqueue.tf1.compat.graph import SparseTensor, Tensor, convert_to_tensor, get_default_graph
from mpqueue.tf1.compat.graph.nodes import Graph
from mpqueue.tf1.compat.ops.signature import CONVERSIONS, Signature, argument_descriptions

_Result = TypeVar("_Result")
_Class = TypeVar("_Class", bound=type)

_REFERENCE: Final = re.compile(r"See `(\w+)`\.")

CONVERSIONS[Tensor] = lambda value, name: convert_to_tensor(value, name=name)
CONVERSIONS[SparseTensor] = lambda value, _name: SparseTensor.from_value(value)


def present(function: Any, signature: Signature, result: Any) -> None:
    """Set a function's name and signature to the public ones."""
    function.__signature__ = signature.plain.replace(return_annotation=result)
    function.__name__ = function.__qualname__ = signature.path.rpartition(".")[2]


def public(
    text: str, *, scope: str | None = None, doc: str | None = None, like: Any = None
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Declare a function with TensorFlow's signature.

    Args:
        text: The public form; see `mpqueue.tf1.compat.ops.signature`.
        scope: Call the function in a name scope, named by the caller's ``name`` or else by this default. A parameter
            ``name`` of the function then receives the scope, ending in "/", as the name of the last node.
        doc: Use this docstring instead of the function's own.
        like: A function with argument descriptions to reuse for parameters of the same name. A decorated function
            with ``**given`` has all parameters of this function. A tuple adds functions that its docstring refers to.
    """
    likes = like if isinstance(like, tuple) else (like,)

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        own, is_complete = _own_parameters(function, likes[0])
        takes_name = "name" in own
        signature = Signature(text, own)
        docstring = signature.document(doc or inspect.getdoc(function) or "", _descriptions(likes))
        if scope is None and signature.is_own and is_complete:
            function.__name__ = function.__qualname__ = signature.path.rpartition(".")[2]  # for a nested function
            function.__doc__ = docstring
            return function

        @functools.wraps(function)
        def called(*args: Any, **options: Any) -> _Result:
            values = signature.bound(args, options)
            if scope is None:
                return function(**signature.converted(values))
            with get_default_graph().name_scope(values.get("name") or scope) as entered:
                if takes_name:
                    values["name"] = entered
                return function(**signature.converted(values))

        present(called, signature, _result_of(function))
        called.__doc__ = docstring
        return called

    return decorate


def of_default_graph(name: str) -> Callable[..., Any]:
    """Return a function that calls a method of the default graph, with the method's parameters and docstring."""
    method = getattr(Graph, name)

    def function(*args: Any, **options: Any) -> Any:
        return method(get_default_graph(), *args, **options)

    own = list(_parameters(method).values())
    vars(function)["__signature__"] = inspect.Signature(own, return_annotation=_result_of(method))
    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = sys._getframe(1).f_globals["__name__"], method.__doc__
    return function


def _own_parameters(function: Callable[..., Any], like: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return a function's parameters, and whether these are complete.

    Parameters of ``like`` replace ``**given``. Its keyword-only parameters are left out: they are mpqueue's,
    not TensorFlow's.
    """
    own = dict(inspect.signature(function, eval_str=True).parameters)
    if all(each.kind is not each.VAR_KEYWORD for each in own.values()):
        return own, True
    taken = [each for each in inspect.signature(like).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    return {each.name: each.replace(annotation=own.get(each.name, each).annotation) for each in taken}, False


def _descriptions(likes: Sequence[Any]) -> dict[str, str]:
    """Return the argument descriptions of the first function, with references "See `that`." resolved."""
    by_name = {each.__name__: argument_descriptions(each) for each in likes if each is not None}
    own = argument_descriptions(likes[0])
    references = {name: _REFERENCE.fullmatch(text) for name, text in own.items()}
    return own | {name: by_name.get(to[1], {}).get(name, "") for name, to in references.items() if to}


def _result_of(function: Callable[..., Any]) -> Any:
    """Return the annotation of the result; for a ``contextmanager``, a context manager of the yielded type."""
    result = inspect.signature(function).return_annotation
    is_context = get_origin(result) is Iterator and hasattr(function, "__wrapped__")
    return GenericAlias(AbstractContextManager, get_args(result)) if is_context else result


def public_class(path: str, *, like: type | None = None, unused: str = "") -> Callable[[_Class], _Class]:
    """Complete the docstrings of a class that mirrors one of TensorFlow's, and of its methods.

    Args:
        path: TensorFlow's name of the class.
        like: A class with argument descriptions to reuse for parameters of the same name.
        unused: Parameters of the constructor that have no effect.
    """

    def decorate(kind: _Class) -> _Class:
        construct = vars(kind).get("__init__")
        own = _parameters(construct) if construct else {}
        descriptions = dict.fromkeys(unused.split(), "No effect.") | argument_descriptions(like)
        kind.__doc__ = Signature(f"{path}(...)", own).document(inspect.getdoc(kind) or "", descriptions)
        for name, method in vars(kind).items():
            function = method.__func__ if isinstance(method, staticmethod) else method
            if inspect.isfunction(function) and function.__doc__ and not name.startswith("_"):
                signature = Signature(f"{path}.{name}(...)", _parameters(function))
                function.__doc__ = signature.document(inspect.getdoc(function) or "", {})
        return kind

    return decorate


def _parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a method except for self."""
    return {name: each for name, each in inspect.signature(method).parameters.items() if name != "self"}
