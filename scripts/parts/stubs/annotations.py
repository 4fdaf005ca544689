"""The source of an annotation in a stub, and the imports that it needs.

A public module may define names such as ``bool``, ``tuple`` or ``Tensor``. Annotations with these classes are then
written as ``builtins.bool``, or imported under another name.
"""

import builtins
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any


class Annotations:
    """The annotations of one stub.

    Args:
        public: The public names of the stub, with their values.

    Attributes:
        imports: The import lines that the annotations written so far need.
    """

    def __init__(self, public: Mapping[str, Any]) -> None:
        self._public = public
        self.imports: set[str] = set()

    def text(self, annotation: Any) -> str:
        """Return an annotation as source; a missing one is ``Any``."""
        if annotation is inspect.Signature.empty or annotation is Any:
            return self._imported("typing", "Any", Any)
        if annotation is None or annotation is type(None):
            return "None"
        if annotation is ...:
            return "..."
        if isinstance(annotation, list):  # the parameters of a Callable
            return f"[{self._listed(annotation)}]"
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
            if Any in typing.get_args(annotation):
                return self.text(Any)
            return " | ".join(self.text(each) for each in typing.get_args(annotation))
        if typing.get_origin(annotation) is typing.Literal:
            values = ", ".join(map(repr, typing.get_args(annotation)))
            return f"{self._imported('typing', 'Literal', typing.Literal)}[{values}]"
        if typing.get_args(annotation):
            return f"{self._class(typing.get_origin(annotation))}[{self._listed(typing.get_args(annotation))}]"
        return self._class(annotation)

    def _listed(self, annotations: Iterable[Any]) -> str:
        return ", ".join(self.text(each) for each in annotations)

    def _class(self, kind: Any) -> str:
        if not isinstance(kind, type):
            raise TypeError(f"cannot write the annotation {kind!r}: use classes, or extend {__name__}")
        if kind.__module__ == "builtins":
            return self._builtin(kind.__name__)
        return self._imported(kind.__module__, kind.__qualname__, kind)

    def _builtin(self, name: str) -> str:
        if name not in self._public or not hasattr(builtins, name):
            return name
        self.imports.add("import builtins")
        return f"builtins.{name}"

    def _imported(self, module: str, name: str, value: Any) -> str:
        if name in self._public:
            if self._public[name] is value:
                return name
            self.imports.add(f"from {module} import {name} as _{name}")
            return f"_{name}"
        self.imports.add(f"from {module} import {name}")
        return name
