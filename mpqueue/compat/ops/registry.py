"""The table of operations, and the little language in which they say what they take and give.

An operation is a pure function over arrays, registered by the decorator `op`. From this declaration follow the node,
the checks of types, and the public function over nodes with its signature and its text (here left out)::

    @op("Squeeze", "input: T -> T", "squeeze(input, squeeze_dims as axis, name)", infer=_squeezed)
    def squeeze(input, *, squeeze_dims: Axes = ()): ...

Positional parameters are the inputs, keyword-only ones the attributes. The signature says per input its type: a type's
name (``string``), a *type variable* (``T``: all inputs and outputs that share it have one type, which the first of them
decides), ``N * T`` for a list of one type, ``*`` for a list of any types. An output's type may also be the name of an
attribute that holds a type (or a list of them, with ``*`` before it: ``*Tout``), and ``num * T`` means as many outputs
as the attribute ``num`` says. Types allowed for a variable, and the one preferred for Python values, are given by
keyword; any type is allowed where nothing is said, and ``I`` is `INDEX` unless said otherwise.

``infer`` takes what is `Known` of the inputs, and the attributes, and returns what is known of the shape of the output
(a list of them for several outputs); it raises ValueError for shapes that cannot be. So may the function itself: in a
run that becomes an `InvalidArgumentError`. The third text is the form of the public function, see `signature`.

What else there is to say of an operation by itself (how it behaves under one more axis in front, say) belongs into its
declaration, too, as one more keyword of `op` and field of `Op`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import Dims
from mpqueue.compat.ops.dtypes import DType
from mpqueue.compat.ops.signature import Axes, Signature


class Known(Protocol):
    """An input as far as it is known before it is computed: an array itself, or a node of a graph."""

    @property
    def dtype(self) -> DType:
        """The type of its elements."""

    @property
    def known_dims(self) -> Dims:
        """Its shape, as far as known."""

    def known_entries(self) -> np.ndarray | None:
        """Its value; where only some entries are known, an object array with None for the others."""

    def known_value(self) -> np.ndarray | None:
        """Its value, where it follows from constants and known shapes."""

    def known_as_shape(self) -> Dims:
        """Its value, if it is a vector that stands for a shape; entries that are unknown, or below 0, become None."""


class Types(NamedTuple):
    """The types that a type variable may have, and the one that Python values prefer."""

    allowed: tuple[DType, ...]
    preferred: DType | None = None


class Arg(NamedTuple):
    """One input or output of a signature."""

    name: str
    type: str  # a type's name, a type variable, or an attribute; "" for any types
    number: str  # the variable that counts a list, "*" for a list of any types, "" for a single tensor


@dataclass(frozen=True)
class Op:
    """One operation of the table.

    Args:
        name: TensorFlow's name of the operation's type.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
        variables: What the type variables may be.
        compute: The function over arrays.
        infer: What is known of the outputs' shapes.
        entries: For vectors that describe shapes: the output's entries, None for those that are unknown, from what is
            known of the inputs; or None.
        pure: The output follows from the inputs alone.
        defaults: Default values of attributes.
        public: The form of the public function, "" if there is none, or one that does more.
        doc: What it does.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    variables: Mapping[str, Types]
    compute: Callable[..., Any]
    infer: Callable[..., Any]
    entries: Callable[..., np.ndarray | None] | None = None
    pure: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    public: str = ""
    doc: str = ""

    @cached_property
    def signature(self) -> Signature:
        """The form of the public function."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        inputs = [inspect.Parameter(arg.name, kind) for arg in self.inputs]
        parameters = inspect.signature(self.compute).parameters.values()
        attributes = [each.replace(kind=kind) for each in parameters if each.kind is each.KEYWORD_ONLY]
        name = inspect.Parameter("name", kind, default=None)
        return Signature(self.public, {each.name: each for each in (*inputs, *attributes, name)})

    def descriptions(self) -> dict[str, str]:
        """Return descriptions of the inputs and attributes, as they follow from the signature."""
        parameters = inspect.signature(self.compute).parameters.values()
        of_attributes = {p.name: _WORDS.get(p.annotation, "A setting.") for p in parameters if p.kind is p.KEYWORD_ONLY}
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
        return f"{'A list of tensors' if arg.number else 'A tensor'} of {words}{same}."


TABLE: Final[dict[str, Op]] = {}


def op(
    name: str,
    signature: str,
    public: str = "",
    *,
    infer: Callable[..., Any],
    entries: Callable[..., np.ndarray | None] | None = None,
    pure: bool = True,
    doc: str = "",
    **variables: Types,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function over arrays into the `TABLE`; see the module's text for the signature."""
    left, right = signature.split("->")
    types = {"I": INDEX} | variables

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(compute).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        text = doc or inspect.getdoc(compute) or ""
        TABLE[name] = Op(name, _args(left), _args(right), types, compute, infer, entries, pure, defaults, public, text)
        return compute

    return register


def _args(text: str) -> tuple[Arg, ...]:
    return tuple(_arg(part.strip()) for part in text.split(",") if part.strip())


def _arg(text: str) -> Arg:
    name, _, kind = text.rpartition(":")
    if kind.strip() == "*":
        return Arg(name.strip(), "", "*")
    number, star, kind = kind.rpartition("*")
    return Arg(name.strip(), kind.strip(), (number.strip() or "*") if star else "")


def is_type_name(text: str) -> bool:
    """Tell if a signature's type is a fixed one."""
    return isinstance(getattr(dtypes, text, None), DType) or text == "bool"


def type_named(text: str) -> DType:
    """The fixed type of that name."""
    return dtypes.as_dtype(text)


FLOATS: Final = (dtypes.float16, dtypes.float32, dtypes.float64)
SIGNED: Final = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
UNSIGNED: Final = (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
COMPLEX: Final = (dtypes.complex64, dtypes.complex128)
INTS: Final = SIGNED + UNSIGNED
REALS: Final = FLOATS + INTS
NUMBERS: Final = REALS + COMPLEX
ALL: Final = (*NUMBERS, dtypes.bool_, dtypes.string, dtypes.resource)

INDEX: Final = Types((dtypes.int32, dtypes.int64), dtypes.int32)

_GROUPS: Final = (
    (ALL, "any type"),
    (FLOATS, "floats"),
    (INTS, "ints"),
    (REALS, "floats or ints"),
    (NUMBERS, "numbers"),
    (COMPLEX, "complex numbers"),
    ((*FLOATS, *COMPLEX), "floats or complex numbers"),
)
_WORDS: Final[dict[Any, str]] = {
    DType: "A type of elements.",
    Dims: "A shape.",
    Axes: "An axis, or several.",
    bool: "A bool.",
    int: "An int.",
    str: "A text.",
    float: "A float.",
}
