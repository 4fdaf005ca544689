"""Texts of exceptions of user code, for messages and logs.

Their ``__str__``, ``__repr__`` and properties are user code, which may raise anything. The functions of this module
return a text in any case. They defer signals, so that everything that is raised in them is raised by the exception.
"""

import traceback

from mpqueue.system.exceptions import traceback_of, type_name_of
from mpqueue.system.interrupts import defer_signals


def text_of(error: BaseException) -> str:
    """Return ``str(error)``, or a replacement if that raises."""
    with defer_signals():
        try:
            return str.__str__(str(error))  # a plain string, also if it is of a subclass
        except BaseException as why:
            return f"<its message is unavailable: {type_name_of(why)}>"


def named_text_of(error: BaseException) -> str:
    """Return the class and the message of an exception, as the last line of its traceback shows them."""
    text = text_of(error)
    return f"{type_name_of(error)}: {text}" if text else type_name_of(error)


def traceback_text_of(error: BaseException) -> str:
    """Return the traceback as Python prints it, or at least the frames if the exception cannot be printed."""
    with defer_signals():
        try:
            return "".join(traceback.format_exception(error))
        except BaseException:
            return "".join(traceback.format_tb(traceback_of(error))) + f"{named_text_of(error)}\n"
