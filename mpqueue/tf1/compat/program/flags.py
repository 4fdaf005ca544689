"""The command line: ``tf.flags``, based on absl-py as in TensorFlow (extra ``[compat]``), and ``tf.app``.

A process has one set of flags: the flags of the script and of every package that uses absl. Flags can appear anywhere
on the command line, as ``--name=value`` or ``--name value``, with one or two dashes. Boolean flags are ``--name`` or
``--noname``. Differences from absl (some are TensorFlow's):

- The command line is parsed when a flag is first read, or by `run`. absl raises an error if flags are read earlier.
- A flag defined after that is parsed from the command line when a flag is next read.
- Undefined flags are left in the arguments for the program. absl raises an error.
- The parameters of ``DEFINE_...`` also have their old names.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

try:
    from absl import flags as absl_flags
except ImportError as missing:
    raise ImportError('tf.flags and tf.app need absl-py: pip install "mpqueue[compat]"') from missing

Error = absl_flags.Error
DuplicateFlagError = absl_flags.DuplicateFlagError
IllegalFlagValueError = absl_flags.IllegalFlagValueError
FlagValues = absl_flags.FlagValues
mark_flag_as_required = absl_flags.mark_flag_as_required
mark_flags_as_required = absl_flags.mark_flags_as_required

absl_flags.disclaim_key_flags()  # flags belong to the modules that call the functions below


class _Flags(FlagValues):
    """The flags of this process as attributes; assignment changes the value of a flag.

    Follows: ``tf.flags.FLAGS``.
    """

    def __init__(self) -> None:
        object.__setattr__(self, "__dict__", vars(absl_flags.FLAGS))  # shares absl's flags, with other access methods

    def __call__(self, argv: Sequence[str], known_only: bool = True) -> list[str]:
        """Parse a command line, and return the remaining arguments.

        Args:
            argv: The command line, starting with the program.
            known_only: False to reject undefined flags.

        Raises:
            Error: The value of a flag is invalid or missing, or a required flag is missing.
        """
        _late.clear()
        return super().__call__(argv, known_only)

    def __getattr__(self, name: str) -> Any:
        if name in self and not self.is_parsed():
            self(sys.argv)
        if name in self and _late:
            _parse_late()
        return super().__getattr__(name)


_late: list[absl_flags.Flag[Any]] = []  # flags defined after the command line was parsed


def _parse_late() -> None:
    flags = FlagValues()  # type: ignore[no-untyped-call]
    for flag in _late:
        flags[flag.name] = flag
    _late.clear()
    flags(sys.argv, known_only=True)


FLAGS: Final = _Flags()


def _define(definer: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Define a flag with a function of absl, and return its result."""
    holder = definer(*args, **options)
    if FLAGS.is_parsed() and holder.name in FLAGS:
        _late.append(FLAGS[holder.name])
    return holder


def _definer(definer: Callable[..., Any], what: str) -> Callable[..., Any]:
    public_name = definer.__name__

    def define(
        name: str | None = None,
        default: Any = None,
        help: str | None = None,
        *,
        flag_name: str | None = None,
        default_value: Any = None,
        docstring: str | None = None,
        **options: Any,
    ) -> Any:
        label = flag_name if name is None else name
        if label is None:
            raise TypeError(f"{public_name}() requires the name of the flag")
        value = default_value if default is None else default
        return _define(definer, label, value, help or docstring or "", **options)

    define.__name__ = define.__qualname__ = public_name
    define.__doc__ = f"""Define a flag: {what}.

Args:
    name: Name of the flag.
    default: Default value, or None.
    help: Description of the flag.
    flag_name: Old name of ``name``.
    default_value: Old name of ``default``.
    docstring: Old name of ``help``.
    options: Further arguments of absl's function of this name, such as ``required`` or ``lower_bound``.

Raises:
    DuplicateFlagError: A flag with this name exists.
"""
    return define


DEFINE_string = _definer(absl_flags.DEFINE_string, "a string")
DEFINE_integer = _definer(absl_flags.DEFINE_integer, "an integer")
DEFINE_float = _definer(absl_flags.DEFINE_float, "a float")
DEFINE_boolean = _definer(absl_flags.DEFINE_boolean, "True or False")
DEFINE_list = _definer(absl_flags.DEFINE_list, "a list of strings, separated by commas")
DEFINE_multi_string = _definer(absl_flags.DEFINE_multi_string, "a string that can be repeated")
DEFINE_multi_integer = _definer(absl_flags.DEFINE_multi_integer, "an integer that can be repeated")
DEFINE_multi_float = _definer(absl_flags.DEFINE_multi_float, "a float that can be repeated")


def DEFINE_enum(name: str, default: str | None, enum_values: Sequence[str], help: str, **options: Any) -> Any:
    """Define a flag: one of several strings.

    Args:
        name: Name of the flag.
        default: Default value, or None.
        enum_values: The allowed strings.
        help: Description of the flag.
        options: Further arguments of absl's function of this name, such as ``required`` or ``case_sensitive``.

    Raises:
        DuplicateFlagError: A flag with this name exists.
    """
    return _define(absl_flags.DEFINE_enum, name, default, enum_values, help, **options)


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse the flags, call ``main`` with the remaining arguments, and exit with its result.

    Args:
        main: The function. If None, the function ``main`` of the script.
        argv: The command line. If None, the command line of the program.
    """
    words = list(sys.argv if argv is None else argv)
    if "--help" in words or "-h" in words:
        sys.stdout.write(FLAGS.get_help() + "\n")
        sys.exit(0)
    try:
        rest = FLAGS(words)
    except Error as error:
        sys.exit(f"FATAL Flags parsing error: {error}")
    function = main or sys.modules["__main__"].main
    sys.exit(function(rest))
