"""Counts of calls in a file, shared by all processes."""

import os
import pathlib


class Calls(type(pathlib.Path())):
    """A count of calls in a file. A path is plain data, which a cached function may close over."""

    def add(self):
        fd = os.open(self, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b".")
        os.close(fd)

    def take(self):
        """Return the number of calls since the last call of this method."""
        if not os.path.exists(self):
            return 0
        count = os.path.getsize(self)
        os.unlink(self)
        return count
