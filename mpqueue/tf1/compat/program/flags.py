"""The command line: ``tf.flags``, which are absl-py's, as in TensorFlow (extra ``[compat]``), and ``tf.app``.

A process has one set of flags: those of a script, and those of every package that uses absl. Flags may stand anywhere
on the command line, as ``--name=value`` or ``--name value``, with one dash or two; a boolean one as ``--name`` or
``--noname``. What is added here to absl, in part by TensorFlow too:

- The command line is parsed when a flag is first read, or by `run`; absl refuses to read before.
- A flag that is defined after that is looked for on the command line when a flag is next read.
- Arguments that are no defined flags are left for the program; absl refuses them.
- The parameters of ``DEFINE_...`` have their old names, too.
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
    """The flags of this process, as attributes; setting one changes its value.

    Follows: ``tf.flags.FLAGS``.
    """

    def __init__(self) -> None:
        object.__setattr__(self, "__dict__", vars(absl_flags.FLAGS))  # the same flags, read in another way

    def __call__(self, argv: Sequence[str], known_only: bool = True) -> list[str]:
        """Take the values from a command line, and return what is left of it.

        Args:
            argv: The command line, its first entry being the program.
            known_only: False to refuse arguments that are no defined flags.

        Raises:
            Error: A flag cannot have its value, or has none, or a required one is missing.
        """
        _late.clear()
        return super().__call__(argv, known_only)

    def __getattr__(self, name: str) -> Any:
        if name in self and not self.is_parsed():
            self(sys.argv)
        if name in self and _late:
            _parse_late()
        return super().__getattr__(name)


_late: list[absl_flags.Flag[Any]] = []  # defined since the command line was parsed


def _parse_late() -> None:
    flags = FlagValues()  # type: ignore[no-untyped-call]
    for flag in _late:
        flags[flag.name] = flag
    _late.clear()
    flags(sys.argv, known_only=True)


FLAGS: Final = _Flags()


def _define(definer: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Define a flag by a function of absl's, and return what that returns."""
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
            raise TypeError(f"{public_name} needs the name of the flag")
        value = default_value if default is None else default
        return _define(definer, label, value, help or docstring or "", **options)

    define.__name__ = define.__qualname__ = public_name
    define.__doc__ = f"""Define a flag that is {what}.

Args:
    name: Its name.
    default: Its value unless one is given, or None.
    help: What it is for.
    flag_name: Old name of ``name``.
    default_value: Old name of ``default``.
    docstring: Old name of ``help``.
    options: What absl's function of this name takes besides, such as ``required`` or ``lower_bound``.

Raises:
    DuplicateFlagError: There is a flag of this name.
"""
    return define


DEFINE_string = _definer(absl_flags.DEFINE_string, "a text")
DEFINE_integer = _definer(absl_flags.DEFINE_integer, "an int")
DEFINE_float = _definer(absl_flags.DEFINE_float, "a float")
DEFINE_boolean = _definer(absl_flags.DEFINE_boolean, "True or False")
DEFINE_list = _definer(absl_flags.DEFINE_list, "a list of texts, parted by commas")
DEFINE_multi_string = _definer(absl_flags.DEFINE_multi_string, "a text, given any number of times")
DEFINE_multi_integer = _definer(absl_flags.DEFINE_multi_integer, "an int, given any number of times")
DEFINE_multi_float = _definer(absl_flags.DEFINE_multi_float, "a float, given any number of times")


def DEFINE_enum(name: str, default: str | None, enum_values: Sequence[str], help: str, **options: Any) -> Any:
    """Define a flag that is one of some texts.

    Args:
        name: Its name.
        default: Its value unless one is given, or None.
        enum_values: The texts.
        help: What it is for.
        options: What absl's function of this name takes besides, such as ``required`` or ``case_sensitive``.

    Raises:
        DuplicateFlagError: There is a flag of this name.
    """
    return _define(absl_flags.DEFINE_enum, name, default, enum_values, help, **options)


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse the flags, call ``main`` with what else is on the command line, and exit with what it returns.

    Args:
        main: The function, default the one called ``main`` in the script.
        argv: The command line, default the program's.
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
