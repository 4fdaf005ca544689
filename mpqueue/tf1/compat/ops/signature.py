"""The public form of a function: TensorFlow's name and parameters, in one string.

    "squeeze(input, squeeze_dims as axis=None, name, squeeze_dims=axis)"

The parameters are in TensorFlow's order, each of one of these kinds:

    input                      a parameter of the implementation
    squeeze_dims as axis       a parameter of the implementation that is called ``axis`` in public
    axis=None                  a parameter with a different default
    name                       the name of the new node, None by default
    squeeze_dims=axis          an old name of the public parameter ``axis``
    validate_indices=None      accepted for compatibility with TensorFlow, because no value changes the result
    var!=None                  rejected, except for its default
    ...                        all other parameters of the implementation, in their order
    *                          the following parameters are keyword-only

Without parentheses the parameters are ``(..., name)``. An argument is converted if its parameter in the implementation
is annotated with one of the types in `CONVERSIONS`.
"""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.tensorshape import as_shape

Axes = tuple[int, ...]
"""Some axes: an integer, several integers, or None for no axes."""

_PART: Final = re.compile(r"(?:(\w+) as )?(\w+!?|\.\.\.|\*)(?:=(.+))?")
_SECTION: Final = re.compile(r"(?m)^(?:(Args|Attributes|Returns|Raises|Yields):|When run,)")
_ARGUMENT: Final = re.compile(r"(?m)^    (\w+): (.+(?:\n        .+)*)")

Conversion = Callable[[Any, str], Any]  # takes a value and the name of its parameter

CONVERSIONS: Final[dict[Any, Conversion]] = {
    DType: lambda value, _name: as_dtype(value).base_dtype,
    DType | None: lambda value, _name: None if value is None else as_dtype(value).base_dtype,
    Dims: lambda value, _name: as_shape(value).known,
    Axes: lambda value, _name: () if value is None else tuple(int(each) for each in np.atleast_1d(value)),
    bool: lambda value, _name: bool(value),
}


class Parameter(NamedTuple):
    """One public parameter."""

    name: str
    own: str  # the implementation's name for it; "" for an old name or a parameter without effect
    default: Any
    replaced_by: str = ""  # for an old name: the parameter that replaces it
    is_refused: bool = False  # only the default is accepted
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD


class Signature:
    """The public form of one function.

    Args:
        text: The public form; see the module docstring.
        own: The parameters of the implementation, in order.
    """

    def __init__(self, text: str, own: Mapping[str, inspect.Parameter]) -> None:
        self.path, _, inside = text.rstrip(")").partition("(")
        self._own = own
        parts = [part.strip() for part in (inside or "..., name").split(",")]
        named = {own_name or name for own_name, name, _ in map(_parsed, parts)}
        spread = [each for each in own if each not in named]
        publics = {_parsed(part)[1] for part in parts} | set(spread)
        self.parameters: list[Parameter] = []
        kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
        for part in parts:
            if part == "*":
                kind = inspect.Parameter.KEYWORD_ONLY
                continue
            if part == "...":
                self.parameters += [Parameter(name, name, own[name].default, kind=own[name].kind) for name in spread]
            else:
                self.parameters.append(self._parameter(part, publics)._replace(kind=kind))
        self.plain = inspect.Signature([self._plain(each) for each in self.parameters])
        self._positional = [p.name for p in self.parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        self._defaults = {p.name: p.default for p in self.parameters if p.default is not inspect.Parameter.empty}
        self._refused = [(p.name, p.default) for p in self.parameters if p.is_refused]
        self._old = [(p.name, p.replaced_by) for p in self.parameters if p.replaced_by]
        self._passed = [
            (p.own, p.name, CONVERSIONS.get(own[p.own].annotation)) for p in self.parameters if p.own in own
        ]
        if "name" in own and "name" not in self.plain.parameters:  # a scope that callers cannot name
            self._passed.append(("name", "name", None))

    @property
    def _label(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def is_own(self) -> bool:
        """True if the implementation has exactly the public signature, without conversions."""
        mine = [(each.own, each.name, each.default) for each in self.parameters]
        same = mine == [(name, name, each.default) for name, each in self._own.items()]
        return same and not any(convert for _, _, convert in self._passed)

    def _parameter(self, part: str, publics: set[str]) -> Parameter:
        own, name, default = _parsed(part)
        own = own or name
        if default in publics and default != name:
            return Parameter(name, "", None, default)
        value = _literal(default) if default else None
        if name.endswith("!"):
            return Parameter(name[:-1], "", value, is_refused=True)
        if own == "name":
            return Parameter(name, own, value)
        if own in self._own:
            return Parameter(name, own, value if default else self._own[own].default)
        return Parameter(name, "", value)

    def _plain(self, parameter: Parameter) -> inspect.Parameter:
        own = self._own.get(parameter.own)
        kind = (str | None) if parameter.own == "name" else own.annotation if own is not None else Any
        kind = Any if kind in CONVERSIONS and kind is not bool else kind  # any convertible value is accepted
        if parameter.default is None and kind is not Any:
            kind |= None
        return inspect.Parameter(parameter.name, parameter.kind, default=parameter.default, annotation=kind)

    def bound(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a public call by their public names, including defaults.

        Raises:
            TypeError: The arguments do not match the parameters.
            ValueError: An argument is passed under both of its names, or is not supported.
        """
        positional = dict(zip(self._positional, args, strict=False))
        arguments = self._defaults | positional | options
        fits = len(args) == len(positional) and options.keys().isdisjoint(positional)
        if not fits or len(arguments) != len(self.parameters):
            self._refuse(args, options)
        for name, default in self._refused:
            if arguments[name] is not default and arguments[name] != default:
                raise ValueError(f"{self._label}() supports only {name}={default!r}, got {arguments[name]!r}")
        for old, new in self._old:
            if arguments[old] is not None:
                if arguments[new] is not None:
                    raise ValueError(f"Cannot specify both {old!r} and {new!r}.")
                arguments[new] = arguments[old]
        return arguments

    def _refuse(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            self.plain.bind(*args, **options)  # explains the problem, but is too slow for every call
        except TypeError as error:
            raise TypeError(f"{self._label}() {error}") from None

    def converted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by the implementation's names, converted to its types."""
        return {
            own: convert(arguments[name], own) if convert else arguments[name] for own, name, convert in self._passed
        }

    def document(self, text: str, descriptions: Mapping[str, str]) -> str:
        """Return the docstring of the public function.

        Args:
            text: The docstring of the implementation; its section of arguments can be incomplete.
            descriptions: Descriptions of the missing arguments, by the implementation's names.
        """
        head, section, rest = _split(text)
        lines = dict(_ARGUMENT.findall(section))
        for parameter in self.parameters:
            if parameter.name not in lines:
                lines[parameter.name] = self._description(parameter, descriptions)
        order = [each.name for each in self.parameters]
        arguments = [f"    {name}: {lines[name]}" for name in sorted(lines, key=order.index) if lines[name]]
        parts = [head, "\n".join(["Args:", *arguments]) if arguments else "", rest]
        return "\n\n".join(part.strip("\n") for part in parts if part)

    def _description(self, parameter: Parameter, descriptions: Mapping[str, str]) -> str:
        if parameter.replaced_by:
            return f"Old name of ``{parameter.replaced_by}``."
        if parameter.own == "name":
            return "Name of the node."
        if parameter.is_refused:
            return f"Must be {parameter.default!r}."
        return descriptions.get(parameter.own, "") if parameter.own in self._own else "No effect."


def _parsed(part: str) -> tuple[str, str, str]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is not a valid parameter of a signature")
    own, name, default = match.groups(default="")
    return own, name, default


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return as_dtype(text)


def _split(text: str) -> tuple[str, str, str]:
    """Split a docstring into the parts before, in, and after its section of arguments."""
    sections = list(_SECTION.finditer(text))
    starts = [match.start() for match in sections] + [len(text)]
    if not sections or sections[0][1] != "Args":
        return text[: starts[0]].rstrip(), "", text[starts[0] :].rstrip()
    return text[: starts[0]].rstrip(), text[starts[0] : starts[1]].rstrip(), text[starts[1] :].rstrip()


def argument_descriptions(described: Any) -> dict[str, str]:
    """Return the descriptions of arguments in the docstring of a function or class, by name."""
    section = _split(inspect.getdoc(described) or "")[1] if described else ""
    return dict(_ARGUMENT.findall(section))
