"""Starting a script: ``tf.app``."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mpqueue.compat.program.flags import FLAGS, Error


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
