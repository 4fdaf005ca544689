"""Calls in a fork of the test's process."""

import os
import traceback


def status_of_fork(call):
    """Call a function in a fork, and return its exit status: the function's result as an integer, or 255 for an error."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            status = int(call() or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
