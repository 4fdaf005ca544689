"""Memory that looks like a segment, without an operating system."""


class PlainMemory:
    """A segment of ordinary memory; all of it can be reserved."""

    def __init__(self, nbytes):
        self.memory = bytearray(nbytes)

    def reserve(self, offset, end, *, spare=0):
        assert 0 <= offset < end <= len(self.memory)

    def populate(self, offset, end):
        assert 0 <= offset < end <= len(self.memory)
