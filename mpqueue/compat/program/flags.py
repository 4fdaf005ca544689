"""Settings from the command line: ``tf.flags``.

A script defines flags at its start and reads them from `FLAGS`; the command line is parsed at the first reading, or by
`app.run`. Flags may stand anywhere on it, as ``--name=value`` or ``--name value``, with one dash or two; a boolean one
as ``--name`` or ``--noname``. Arguments that are no defined flags are left for the program.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

Parse = Callable[[Any], Any]


class Error(Exception):
    """What is wrong with flags."""


class DuplicateFlagError(Error):
    """Two flags have one name."""


class IllegalFlagValueError(Error):
    """A flag cannot have this value."""


class Flag:
    """One flag.

    Attributes:
        name: Its name.
        default: Its value unless another is given.
        help: What it is for.
        value: Its value.
    """

    def __init__(
        self, name: str, default: Any, help: str, parse: Parse, *, is_boolean: bool, is_multiple: bool
    ) -> None:
        self.name, self.help, self._parse = name, help, parse
        self.is_boolean, self._is_multiple = is_boolean, is_multiple
        self.required = False
        self._is_given = False
        self.default = self.value = self._converted(default)

    def _converted(self, value: Any) -> Any:
        if value is None:
            return None
        if self._is_multiple:
            return [self._one(each) for each in (value if isinstance(value, list | tuple) else [value])]
        return self._one(value)

    def _one(self, value: Any) -> Any:
        try:
            return self._parse(value)
        except (ValueError, TypeError) as error:
            raise IllegalFlagValueError(f"flag --{self.name}={value}: {error}") from error

    def give(self, text: str) -> None:
        """Set the value from the command line; a flag of many values collects them."""
        value = self._converted(text)
        self.value = self.value + value if self._is_multiple and self._is_given else value
        self._is_given = True


class FlagValues:
    """The flags of a program, as attributes; setting one changes its value.

    Follows: ``tf.flags.FLAGS``.
    """

    def __init__(self) -> None:
        self.__dict__["_flags"] = {}
        self.__dict__["_parsed"] = False

    def define(self, flag: Flag) -> None:
        """Add a flag.

        Raises:
            DuplicateFlagError: There is one of this name.
        """
        if flag.name in self._flags:
            raise DuplicateFlagError(f"the flag {flag.name!r} is defined twice")
        self._flags[flag.name] = flag
        self.__dict__["_parsed"] = False  # it may be on the command line

    def __call__(self, argv: Sequence[str], known_only: bool = True) -> list[str]:
        """Take the values from a command line, its first entry being the program.

        Returns: The rest of it.

        Raises:
            IllegalFlagValueError: A flag cannot have its value, or a required one is missing.
        """
        del known_only
        self.__dict__["_parsed"] = True
        rest, words = list(argv[:1]), iter(argv[1:])
        for word in words:
            if word == "--":
                return [*rest, *words]
            if not self._take(word, words):
                rest.append(word)
        for flag in self._flags.values():
            if flag.required and flag.value is None:
                raise IllegalFlagValueError(f"flag --{flag.name} must have a value other than None")
        return rest

    def _take(self, word: str, words: Iterator[str]) -> bool:
        name, equals, text = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            return False
        flag, negated = self._flags.get(name), self._flags.get(name.removeprefix("no"))
        if flag is None and not equals and negated is not None and negated.is_boolean:
            negated.give("false")
            return True
        if flag is None:
            return False
        if not equals:
            text = "true" if flag.is_boolean else next(words, "")
            if not text:
                raise IllegalFlagValueError(f"flag --{name} is without a value")
        flag.give(text)
        return True

    def is_parsed(self) -> bool:
        """Whether the command line was parsed."""
        return bool(self._parsed)

    def mark_as_parsed(self) -> None:
        """Take no values from the command line."""
        self.__dict__["_parsed"] = True

    def flag_values_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {name: getattr(self, name) for name in self}

    def __getattr__(self, name: str) -> Any:
        flag = self._flags.get(name)
        if flag is None:
            raise AttributeError(f"no flag {name!r} is defined")
        if not self._parsed:
            self(sys.argv)
        return flag.value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._flags:
            raise AttributeError(f"no flag {name!r} is defined")
        self._flags[name].value = value

    def __getitem__(self, name: str) -> Flag:
        found: Flag = self._flags[name]
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._flags

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._flags))

    def __dir__(self) -> list[str]:
        return list(self)


FLAGS: Final = FlagValues()
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("expected true or false")
    return text in _TRUE


def _listed(value: Any) -> list[str]:
    return [each.strip() for each in value.split(",")] if isinstance(value, str) and value else list(value)


def _definer(
    what: str, parse: Parse, public_name: str, *, is_boolean: bool = False, is_multiple: bool = False
) -> Callable[..., None]:
    def define(
        name: str | None = None,
        default: Any = None,
        help: str | None = None,
        *,
        required: bool = False,
        flag_name: str | None = None,
        default_value: Any = None,
        docstring: str | None = None,
    ) -> None:
        label = flag_name if name is None else name
        if label is None:
            raise TypeError(f"{public_name} needs the name of the flag")
        value = default_value if default is None else default
        flag = Flag(label, value, help or docstring or "", parse, is_boolean=is_boolean, is_multiple=is_multiple)
        flag.required = required
        FLAGS.define(flag)

    define.__name__ = define.__qualname__ = public_name
    define.__doc__ = (
        f"Define a flag that is {what}.\n\nArgs:\n    name: Its name.\n    default: Its value unless one is given, or "
        "None.\n    help: What it is for.\n    required: It must be given.\n    flag_name: Old name of ``name``.\n"
        "    default_value: Old name of ``default``.\n    docstring: Old name of ``help``.\n\n"
        f"Raises:\n    DuplicateFlagError: There is a flag of this name.\n\nFollows: ``tf.flags.{public_name}``."
    )
    return define


DEFINE_string = _definer("a text", str, "DEFINE_string")
DEFINE_integer = _definer("an int", int, "DEFINE_integer")
DEFINE_float = _definer("a float", float, "DEFINE_float")
DEFINE_boolean = _definer("True or False", _boolean, "DEFINE_boolean", is_boolean=True)
DEFINE_bool = _definer("True or False", _boolean, "DEFINE_bool", is_boolean=True)
DEFINE_list = _definer("a list of texts, parted by commas", _listed, "DEFINE_list")
DEFINE_multi_string = _definer("a text, given any number of times", str, "DEFINE_multi_string", is_multiple=True)
DEFINE_multi_integer = _definer("an int, given any number of times", int, "DEFINE_multi_integer", is_multiple=True)
DEFINE_multi_float = _definer("a float, given any number of times", float, "DEFINE_multi_float", is_multiple=True)


def DEFINE_enum(name: str, default: str | None, enum_values: Sequence[str], help: str, required: bool = False) -> None:
    """Define a flag that is one of some texts.

    Args:
        name: Its name.
        default: Its value unless one is given, or None.
        enum_values: The texts.
        help: What it is for.
        required: It must be given.

    Raises:
        DuplicateFlagError: There is a flag of this name.

    Follows: ``tf.flags.DEFINE_enum``.
    """

    def parse(value: Any) -> str:
        if value not in enum_values:
            raise ValueError(f"value should be one of {', '.join(enum_values)}")
        return str(value)

    _definer("one of some texts", parse, "DEFINE_enum")(name, default, help, required=required)


def mark_flag_as_required(flag_name: str) -> None:
    """Refuse a command line without this flag.

    Follows: ``tf.flags.mark_flag_as_required``.
    """
    FLAGS[flag_name].required = True


def mark_flags_as_required(flag_names: Sequence[str]) -> None:
    """Refuse a command line without these flags.

    Follows: ``tf.flags.mark_flags_as_required``.
    """
    for each in flag_names:
        mark_flag_as_required(each)
