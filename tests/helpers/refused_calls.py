"""Functions that fail like calls that the system refuses."""

import os


def refusing(number):
    """Return a function that raises the error of the system with this number."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse
