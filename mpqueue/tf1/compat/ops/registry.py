"""The table of operations, and the notation of their declarations.

An operation is a pure function over arrays, registered by the decorator `op`. Its declaration defines the node, the
checks of types and shapes, and the public function over nodes with its signature and docstring (omitted here)::

    @op("Squeeze", "input: T -> T", "squeeze(input, squeeze_dims as axis, name)", infer=_squeezed)
    def squeeze(input, *, squeeze_dims: Axes = ()): ...

Positional parameters are the inputs, keyword-only ones the attributes. The signature has the type of each input:

- the name of a type (``string``);
- a *type variable* (``T``): inputs and outputs that share it have the same type, determined by the first of them;
- ``N * T`` for a list of tensors of one type, ``*`` for a list of any types.

An output's type can also be the name of an attribute that holds a type, or with ``*`` (``*Tout``) a list of types.
``num * T`` means as many outputs as the value of attribute ``num``. Keywords set the types allowed for a variable and
the type preferred for Python values. By default any type is allowed, and ``I`` is `INDEX`.

A type can be followed by a shape in the notation of `infer`. Inputs are checked against it both while the graph is
built and during a run. ``infer`` is for outputs whose shape the notation cannot express. It takes the `Known` inputs
and the attributes, and returns the known shape of the output, or a list of shapes for several outputs. Inference
functions raise ValueError for impossible shapes. The operation itself can do so, too; during a run this becomes an
`InvalidArgumentError`. The third string is the form of the public function, see `signature`.

``rows`` is the rule that computes the operation for many records at once, see `mpqueue.tf1.runs`. Further facts about
an operation belong into its declaration, as another keyword of `op` and field of `Op`.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Sizes, bound, shaped
from mpqueue.tf1.compat.ops.signature import Axes, Signature
from mpqueue.tf1.runs.rules import Rule, per_row

_ARG: Final = re.compile(r"(?:(\w+): )?(?:(\w*) ?(\*) ?)?(\w*)(?:\[(.*)\])?")


class Types(NamedTuple):
    """The allowed types of a type variable, and the preferred type for Python values."""

    allowed: tuple[DType, ...]
    preferred: DType | None = None


class Arg(NamedTuple):
    """One input or output of a signature."""

    name: str
    type: str  # a type's name, a type variable, or an attribute; "" for any type
    number: str  # the attribute with the length of a list, "*" for a list of any types, "" for a single tensor
    sizes: Sizes = None


@dataclass(frozen=True)
class Op:
    """One operation of the table.

    Args:
        name: TensorFlow's name of the operation's type.
        inputs: The inputs, in order.
        outputs: The outputs, in order.
        variables: The types of the type variables.
        compute: The function over arrays.
        by_hand: Infers the shapes of the outputs, if the signature cannot express them.
        entries: For vectors that describe shapes: returns the entries of the output from the known inputs, with None
            for unknown entries; or returns None.
        pure: Whether the output depends on the inputs only.
        rows: The rule for many records at once, or None.
        defaults: Default values of attributes.
        public: The form of the public function, or "" if it is missing or written separately.
        doc: The docstring.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    variables: Mapping[str, Types]
    compute: Callable[..., Any]
    by_hand: Callable[..., Any] | None = None
    entries: Callable[..., np.ndarray | None] | None = None
    pure: bool = True
    rows: Rule | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    public: str = ""
    doc: str = ""

    def infer(self, *inputs: Any, **attributes: Any) -> Any:
        """Return the known shape of the output, or a list with the shape of each output.

        Raises:
            ValueError: The shapes of the inputs are incompatible.
        """
        shapes = [[one.known_dims for one in each] if isinstance(each, list) else each.known_dims for each in inputs]
        sizes = bound({arg.name: arg.sizes for arg in self.inputs}, shapes)
        if self.by_hand is not None:
            return self.by_hand(*inputs, **attributes)
        arguments = {arg.name: each for arg, each in zip(self.inputs, inputs, strict=True)} | attributes
        dims = [None if arg.sizes is None else shaped(arg.sizes, sizes, arguments) for arg in self.outputs]
        return dims if len(dims) > 1 else dims[0]

    @property
    def signature(self) -> Signature:
        """The form of the public function."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        inputs = [inspect.Parameter(arg.name, kind) for arg in self.inputs]
        parameters = inspect.signature(self.compute).parameters.values()
        attributes = [each.replace(kind=kind) for each in parameters if each.kind is each.KEYWORD_ONLY]
        name = inspect.Parameter("name", kind, default=None)
        return Signature(self.public, {each.name: each for each in (*inputs, *attributes, name)})

    def descriptions(self) -> dict[str, str]:
        """Return descriptions of the inputs and attributes, derived from the signature."""
        parameters = inspect.signature(self.compute).parameters.values()
        of_attributes = {p.name: _WORDS.get(p.annotation, "An option.") for p in parameters if p.kind is p.KEYWORD_ONLY}
        return {arg.name: self._type(arg) for arg in self.inputs} | of_attributes

    def _type(self, arg: Arg) -> str:
        choice = self.variables.get(arg.type)
        if is_type_name(arg.type):
            words = arg.type
        elif choice is None:
            words = "any type"
        else:
            words = next((word for kinds, word in _GROUPS if set(kinds) == set(choice.allowed)), None) or " or ".join(
                each.name for each in choice.allowed
            )
        shared = [other.name for other in self.inputs if other.type == arg.type and other.name != arg.name]
        same = f", the same as ``{shared[0]}``" if shared and not is_type_name(arg.type) else ""
        rank = None if arg.sizes is None or "..." in arg.sizes else len(arg.sizes)
        kind = "A list of tensors" if arg.number else _KINDS.get(rank, "A tensor")
        return f"{kind} of {words}{same}."


_P = ParamSpec("_P")
_R = TypeVar("_R")

TABLE: Final[dict[str, Op]] = {}


def op(
    name: str,
    signature: str,
    public: str = "",
    *,
    infer: Callable[..., Any] | None = None,
    entries: Callable[..., np.ndarray | None] | None = None,
    pure: bool = True,
    rows: Rule = per_row,
    doc: str = "",
    **variables: Types | tuple[DType, ...],
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Register a function over arrays in the `TABLE`; the module docstring describes the signature."""
    inputs, outputs = map(_args, signature.split("->"))
    types = {"I": INDEX} | {key: each if isinstance(each, Types) else Types(each) for key, each in variables.items()}

    def register(compute: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = inspect.signature(compute).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        text = doc or inspect.getdoc(compute) or ""
        checked = _checked(compute, inputs)
        rule = rows if pure else None
        TABLE[name] = Op(name, inputs, outputs, types, checked, infer, entries, pure, rule, defaults, public, text)
        return checked

    return register


def _args(text: str) -> tuple[Arg, ...]:
    return tuple(_arg(part.strip()) for part in text.split(",") if part.strip())


def _arg(text: str) -> Arg:
    match = _ARG.fullmatch(text)
    assert match is not None, text
    name, number, star, kind, sizes = match.groups(default="")
    return Arg(name, kind, (number or "*") if star else "", tuple(sizes.split()) if "[" in text else None)


def _checked(compute: Callable[_P, _R], inputs: tuple[Arg, ...]) -> Callable[_P, _R]:
    """Wrap a function so that it rejects arrays with other shapes than its signature."""
    patterns = {arg.name: arg.sizes for arg in inputs}
    if set(patterns.values()) <= {None, ("...",)}:
        return compute  # NumPy itself checks whether shapes broadcast

    @functools.wraps(compute)
    def checked(*arrays: _P.args, **attributes: _P.kwargs) -> _R:
        bound(patterns, [getattr(each, "shape", None) for each in arrays])  # None for lists
        return compute(*arrays, **attributes)

    return checked


def is_type_name(text: str) -> bool:
    """Return whether a type in a signature is a fixed type."""
    return isinstance(getattr(dtypes, text, None), DType) or text == "bool"


FLOATS: Final = (dtypes.float16, dtypes.float32, dtypes.float64)
SIGNED: Final = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
UNSIGNED: Final = (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
COMPLEX: Final = (dtypes.complex64, dtypes.complex128)
INTS: Final = SIGNED + UNSIGNED
REALS: Final = FLOATS + INTS
NUMBERS: Final = REALS + COMPLEX
ALL: Final = (*NUMBERS, dtypes.bool_, dtypes.string, dtypes.resource)

INDEX: Final = Types((dtypes.int32, dtypes.int64), dtypes.int32)
SUBSCRIPT: Final = Types((dtypes.int16, dtypes.int32, dtypes.int64))

_GROUPS: Final = (
    (ALL, "any type"),
    (FLOATS, "floats"),
    (INTS, "integers"),
    (REALS, "floats or integers"),
    (NUMBERS, "numbers"),
    (COMPLEX, "complex numbers"),
    ((*FLOATS, *COMPLEX), "floats or complex numbers"),
)
_KINDS: Final[dict[int | None, str]] = {0: "A scalar", 1: "A vector", 2: "A matrix"}
_WORDS: Final[dict[Any, str]] = {
    DType: "An element type.",
    Dims: "A shape.",
    Axes: "An axis, or several axes.",
    bool: "A bool.",
    int: "An integer.",
    str: "A string.",
    float: "A float.",
}
