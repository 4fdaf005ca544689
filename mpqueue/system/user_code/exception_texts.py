"""Strings for exceptions of user code, for messages and logs.

Their ``__str__``, ``__repr__`` and properties are user code, which may raise anything. The functions of this module
return a string in any case. They defer signals, so that everything that is raised in them is raised by the exception.
"""

import traceback

from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.exceptions import add_note, notes_of, release_frames, traceback_of, type_name_of

_AHEAD = "raised before its batch was due:\n"


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


def raised_ahead(error: BaseException) -> None:
    """Replace the frames of an error that is kept until its batch is due by a note with their text.

    The frames refer to the frames of all callers, and so to the iterator, which must be collected to end the workers.
    """
    if not any(note.startswith(_AHEAD) for note in notes_of(error)):
        add_note(error, _AHEAD + traceback_text_of(error))
    release_frames(error)
