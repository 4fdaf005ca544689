"""Calls in a fork of the test's process."""

import os
import traceback

exit_at_once = os._exit  # as a crash does: without the handlers at exit, and without an exception that others may catch


def fork_of(call):
    """Call a function in a fork, and return the id of this process.

    Its exit status is the function's result as an integer, or 255 for an error.
    """
    child = os.fork()
    if child == 0:
        status = 255
        try:
            status = int(call() or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            exit_at_once(status)
    return child


def status_of(child):
    """Wait for a child process to exit, and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def begun_in_fork(call):
    """Begin a call in a fork; return a function that waits for its end, and returns the `repr` of the result."""
    reader, writer = os.pipe()

    def tell():
        os.write(writer, repr(call()).encode())

    child = fork_of(tell)
    os.close(writer)

    def answer():
        with os.fdopen(reader) as file:
            text = file.read()
        assert status_of(child) == 0
        return text

    return answer


def status_of_fork(call):
    """Call a function in a fork, and return its exit status; see `fork_of`."""
    return status_of(fork_of(call))
